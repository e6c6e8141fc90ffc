"""What is exported: a step of a whole network as one graph, its weights, and its states before the first step."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from conveyor.cell.loop import location
from conveyor.compiler.graph import Graph
from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from conveyor.layer import Recurrent
from conveyor.layer.network import Network, as_evaluated, initial_states

if TYPE_CHECKING:
    from conveyor.tasks.text import Vocabulary

Dims = tuple[int, ...]
M = TypeVar("M", bound=nn.Module)
NAME = re.compile(r"[a-z][a-z0-9_]*", re.IGNORECASE | re.ASCII)
FULL = (torch.float32, torch.float64)  # the types in which a step is traced


@dataclass(frozen=True, eq=False)
class Exported:
    """A network that goes step by step.

        exported = Exported.of(conveyor.LSTM(16, 32, num_layers=2))
        exported.graph.states, exported.streams             # ["h.0", "C.0", "h.1", "C.1"], {"x": (16,)}

    `graph`: the step, see `conveyor.layer.network.Network`; it may read fewer streams, constants and states than there
    are. `weights`: by their names in the graph, in float32; tensors that are the same are one object. `initial`: the
    states before the first step, [width] each. `streams`, `constants`: the shapes of what is given at each step and
    once a sequence, without steps and rows; x comes first. With an `embedding` [tokens, width], which may be one of the
    weights, x is its row of the token that is given, and the stream "output" are the logits of the next one.
    `layer`, `head`, `model`: what it was made of, in evaluation mode inside `as_evaluated`.
    """

    name: str
    graph: Graph
    weights: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    streams: Mapping[str, Dims]
    constants: Mapping[str, Dims]
    types: Mapping[str, torch.dtype]  # of the streams and constants that are no real numbers
    embedding: Tensor | None
    vocabulary: Vocabulary | None
    layer: Recurrent
    head: nn.Linear | None
    model: LanguageModel | None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        inputs: Mapping[str, Tensor] | None = None,
        head: nn.Linear | None = None,
        vocabulary: Vocabulary | None = None,
        name: str | None = None,
    ) -> Exported:
        """That of a layer or a language model. `inputs`: examples of streams and constants, as for a call of the layer.

        What is not on the CPU, or in half precision, is copied. Raises BadInput for what has no single step, for
        streams and constants of which no example is given, and for modules that have hooks.
        """
        _parts(module, head, vocabulary)
        module, head = in_full(module), None if head is None else in_full(head)
        model, layer = _parts(module, head, vocabulary)
        _check_hooks(module, layer, head)
        streams, constants, types = _shapes(layer, {} if inputs is None else inputs)
        given = [(n, dims, types.get(n)) for n, dims in {**streams, **constants}.items() if n != "x"]
        with as_evaluated(module), torch.no_grad():
            top = head if model is None else _output(model)
            network = Network.of(layer, given, top)
            weights = _Weights()
            named = {n: weights.add(value) for n, get in network.weights.items() if (value := get()) is not None}
            rows = range(layer.num_layers)
            first = {f"{n}.{row}": v for row in rows for n, v in initial_states(layer, row).items()}
            embedding = None if model is None else weights.add(model.embedding.weight)
        return cls(
            checked_name(name or re.sub(r"\W", "_", type(layer.cell).__name__.lower(), flags=re.ASCII)),
            network.graph,
            named,
            {n: v.detach().cpu().float() for n, v in first.items()},
            streams,
            constants,
            types,
            embedding,
            vocabulary,
            layer,
            head,
            model,
        )

    @property
    def tokens(self) -> int:
        """How many tokens there are; 0 for what is no language model."""
        return 0 if self.embedding is None else len(self.embedding)

    @cached_property
    def outputs(self) -> dict[str, Dims]:
        """The shapes of what a step gives besides its states: "output", and the further outputs of each layer."""
        found = {o.name: self.graph.nodes[o.node].dims for o in self.graph.outputs if o.kind != "state"}
        return {"output": found.pop("output"), **found}

    @property
    def states(self) -> dict[str, int]:
        """The width of each state."""
        return {name: len(value) for name, value in self.initial.items()}

    @property
    def parameters(self) -> int:
        """The number of weights; what is used twice counts once."""
        each = {id(w): w.numel() for w in (*self.weights.values(), self.embedding) if w is not None}
        return sum(each.values())

    def require(self, operations: Mapping[str, Any] | frozenset[str], target: str, others: str) -> None:
        """Raises BadInput for an operation that a target has not, with its line. `others`: the targets that have it."""
        for node in self.graph.nodes:
            if node.op != "input" and node.op not in operations:
                where = node.origin.line if node.origin is not None and node.origin.line else "the step"
                raise BadInput(f"{location(self.layer.cell)}, {where}: {target} has no {node.op}; {others}")


def checked_name(name: str) -> str:
    """The name, which becomes that of functions and files. Raises BadInput if it cannot."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput(f"the name {name!r} must be letters, digits and _, and begin with a letter: it names functions")
    return name


def in_full(module: M) -> M:
    """The module, or a copy on the CPU in float32 of one that is elsewhere or in half precision."""
    tensors = [*module.parameters(), *module.buffers()]
    types = {t.dtype for t in tensors if t.is_floating_point()}
    if all(t.device.type == "cpu" for t in tensors) and types <= {*FULL}:
        return module
    module = copy.deepcopy(module).cpu()
    return module if types <= {*FULL} else module.float()


def _parts(
    module: nn.Module, head: nn.Linear | None, vocabulary: Vocabulary | None
) -> tuple[LanguageModel | None, Recurrent]:
    """The language model, if it is one, and the layer. Raises BadInput for what is neither, or does not fit."""
    if isinstance(module, LanguageModel):
        if head is not None:
            raise BadInput("a language model has an output of its own: omit head")
        if vocabulary is not None and len(vocabulary) != module.embedding.num_embeddings:
            raise BadInput(
                f"the vocabulary has {len(vocabulary)} symbols, but the model {module.embedding.num_embeddings} tokens"
            )
        return module, module.rnn
    if vocabulary is not None:
        raise BadInput("only a language model has a vocabulary: omit it")
    if not isinstance(module, Recurrent):
        raise BadInput(
            f"{type(module).__name__} is neither a layer of conveyor nor a conveyor.language.LanguageModel: give the "
            "layer (conveyor.replace makes torch.nn's layers into such), and a Linear after it as head="
        )
    if head is not None:
        _check_head(head, module)
    return None, module


def _check_head(head: nn.Linear, layer: Recurrent) -> None:
    if not isinstance(head, nn.Linear):
        raise BadInput(f"the head must be a torch.nn.Linear, not {type(head).__name__}")
    if head.in_features != layer.output_size:
        raise BadInput(f"the head reads {head.in_features} numbers, but the layer gives {layer.output_size}")
    dtype = next((p.dtype for p in layer.parameters()), head.weight.dtype)
    if torch.float64 in (dtype, head.weight.dtype) and dtype != head.weight.dtype:
        raise BadInput(f"the head is in {head.weight.dtype}, but the layer in {dtype}: head.to({dtype})")


def _check_hooks(module: nn.Module, layer: Recurrent, head: nn.Linear | None) -> None:
    """Raises BadInput for a hook that PyTorch calls and an export would not. Those within a cell's step are traced."""
    traced = {each for cell in layer.cells for each in cell.modules()}
    named = [*module.named_modules(), *(() if head is None else head.named_modules(prefix="head"))]
    for name, each in named:
        if each not in traced and (each._forward_hooks or each._forward_pre_hooks):
            where = f"{name}, a {type(each).__name__}," if name else type(each).__name__
            raise BadInput(f"{where} has a forward hook, which an export cannot call: remove it")


def _shapes(
    layer: Recurrent, inputs: Mapping[str, Tensor]
) -> tuple[dict[str, Dims], dict[str, Dims], dict[str, torch.dtype]]:
    """The shapes of streams and constants without steps and rows, and the types of those that are no real numbers."""
    cell = layer.cell
    if not isinstance(inputs, Mapping):
        raise BadInput(f"inputs are tensors by name, inputs={{'x': tensor}}, not {type(inputs).__name__}")
    further = [n for n in cell.arguments if n not in ("x", "t", *cell.state, *cell.below)]
    unknown = sorted(set(inputs) - {"x", *further})
    if unknown:
        raise BadInput(f"{location(cell)} takes {', '.join(['x', *further])}, and no {', '.join(unknown)}: omit it")
    missing = [name for name in further if name not in inputs and name not in cell.widths]
    if missing:
        raise BadInput(
            f"{location(cell)} also takes {', '.join(missing)}, of unknown shape: give an example of each as the layer "
            f"is called with, inputs={{{missing[0]!r}: tensor}}"
        )
    for name, value in inputs.items():
        before = ["B"] if name in cell.constant else ["T", "B"]
        if not isinstance(value, Tensor):
            raise BadInput(f"the example of {name} must be a tensor, not {type(value).__name__}: torch.as_tensor")
        if value.dim() < len(before) or not value.numel():
            raise BadInput(
                f"the example of {name} must have the shape [{', '.join(before)}, ...], not {list(value.shape)}"
            )
    shapes: dict[str, Dims] = {"x": (layer.input_size,)}
    for name in further:
        lead = 1 if name in cell.constant else 2
        shapes[name] = tuple(inputs[name].shape[lead:]) if name in inputs else (cell.widths[name],)
    types = {n: v.dtype for n, v in inputs.items() if n != "x" and not v.is_floating_point()}
    streams = {name: dims for name, dims in shapes.items() if name not in cell.constant}
    return streams, {name: dims for name, dims in shapes.items() if name not in streams}, types


def _output(model: LanguageModel) -> nn.Linear:
    """The map to the logits, as a module."""
    weight = model.embedding.weight if model.tied else model.output
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight, made.bias = nn.Parameter(weight, False), nn.Parameter(model.bias, False)
    return made


class _Weights:
    """Tensors in float32, each once."""

    def __init__(self) -> None:
        self.known: dict[Any, Tensor] = {}
        self.sources: list[Tensor] = []  # which live on, so that no other comes to lie in their place

    def add(self, tensor: Tensor) -> Tensor:
        key = tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
        if not tensor.numel() or key not in self.known:
            self.sources.append(tensor)
            self.known[key] = tensor.detach().cpu().float().contiguous().clone()
        return self.known[key]
