"""A layer as a network that goes step by step: the traced step of each of its cells, or one graph of them all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.loop import location
from conveyor.cell.regularise import Regularised
from conveyor.compiler import CannotCompile, Graph
from conveyor.compiler.graph import Builder, Node, Output
from conveyor.errors import BadInput
from conveyor.layer.tracing import Given, Signature, traced
from conveyor.targets.build_once import BUILDING

# The source of a stream other than x: a value of the layer below by name, a learned map of the input, or a constant.
Source = str | nn.Linear | float
Getter = Callable[[], Tensor | None]


@dataclass(frozen=True)
class TracedLayer:
    """One layer of a network and its traced step.

    `weights`: how to read those of the step now, by name; `streams`: the sources of the streams that do not come from
    outside; `output`: the name of the value that is the x of the layer above; `steps`: how many it can number.
    """

    graph: Graph
    weights: Mapping[str, Getter]
    streams: Mapping[str, Source]
    output: str
    steps: int

    def end(self, name: str) -> int:
        """The node of an output of the step."""
        return next(output.node for output in self.graph.outputs if output.name == name)


def traced_layers(rnn: Any, given: Iterable[Given] = ()) -> list[TracedLayer]:
    """The layers of a network in evaluation mode, without dropout, the lowest first.

    `given`: the shapes of the streams and constants besides x, without steps and rows. Raises BadInput for
    bidirectional layers, for cells that cannot be traced, and for streams and constants that are not given.
    """
    if rnn.bidirectional:
        raise BadInput("a bidirectional layer reads the whole sequence before its first output: it has no single step")
    shapes = {name: (dims, kind) for name, dims, kind in given}
    further = sorted(set(rnn.cell.arguments) - {"x", "t", *rnn.cell.state, *rnn.cell.below, *shapes})
    if further:
        raise BadInput(f"{location(rnn.cell)} also takes {', '.join(further)}, which must be given")
    # Zoneout is deterministic in evaluation. One thread at a time, or another would trace with the mode changing.
    with BUILDING, as_evaluated(*rnn.cells), torch.no_grad():
        return [_traced_layer(rnn, row, shapes) for row in range(rnn.num_layers)]


@contextmanager
def as_evaluated(*modules: nn.Module) -> Iterator[None]:
    """Inside, they are in evaluation mode; afterwards each of their modules is in its own again."""
    modes = [(each, each.training) for module in modules for each in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for each, training in modes:
            each.training = training


def _traced_layer(rnn: Any, row: int, shapes: Mapping[str, tuple[Any, Any]]) -> TracedLayer:
    cell = rnn.cell_of(row)
    step: Any = Regularised(cell, 0.0, rnn.zoneout) if rnn.zoneout else cell
    widths = cell.widths | {f"zone_{name}": cell.widths[name] for name in rnn.zoneout}
    known = {name: ((widths[name],), None) for name in step.arguments if name in widths} | dict(shapes)
    arguments = tuple((name, *known[name]) for name in step.arguments if name != "t")
    weight = next(rnn.parameters(), torch.zeros(()))
    try:
        found = traced(step, Signature(arguments, cell.constant, weight.dtype))
    except CannotCompile as error:
        raise BadInput(f"{location(cell)} cannot be traced: {error}") from None
    streams: dict[str, Source] = {f"zone_{name}": rate for name, rate in rnn.zoneout.items()}
    for name, value in cell.below.items():
        streams[name] = value if row else rnn.ground[0][name]
    counted = any(key.kind == "step" for key in found.graph.input_keys)
    steps = found.steps if counted or not found.steps else sys.maxsize
    return TracedLayer(found.graph, found.weights, streams, cell.output_name or cell.state[0], steps)


def initial_states(rnn: Any, row: int) -> dict[str, Tensor]:
    """The states of a layer before the first step, [width] each: zeros, or learnt."""
    if rnn.learn_initial_state:
        return {name: rnn.initial_state[name][row] for name in rnn.state_names}
    weight = next(rnn.parameters(), torch.zeros(()))
    return {name: weight.new_zeros(rnn.cell.widths[name]) for name in rnn.state_names}


@dataclass(frozen=True)
class Network:
    """All layers as the graph of one step, and how to read its weights now.

        network = Network.of(conveyor.LSTM(32, 128, num_layers=2))
        network.graph.states                                    # ["h.0", "C.0", "h.1", "C.1"]

    The states and the further outputs of a layer have its number after their name. The streams are `x` and the cell's
    own, which all layers read; the result is the stream "output". `steps`: how many it can number, for cells that take
    `t`: whole numbers are exact up to a limit.
    """

    graph: Graph
    weights: Mapping[str, Getter]
    steps: int

    @classmethod
    def of(cls, rnn: Any, given: Iterable[Given] = (), head: nn.Linear | None = None) -> Network:
        """That of a layer, and of a linear map of its output.

        Raises BadInput as `traced_layers` does, and for hooks, which no step in one piece would call.
        """
        beside = [each for each in (rnn._modules.get("ground"), head) if each is not None]
        for module in (rnn, *(inner for each in beside for inner in each.modules())):
            if is_hooked(module):
                name = type(module).__name__
                raise BadInput(f"{name} has a forward hook, which a step of all layers in one piece would not call")
        made = _Stack(rnn)
        for row, layer in enumerate(traced_layers(rnn, given)):
            made.add(row, layer)
        return made.network(head)


def is_hooked(module: nn.Module) -> bool:
    """Whether a call of it also calls a hook."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


OUTPUT = "output"  # what the result of a network is called


class _Stack:
    """The graphs of layers, one upon the other in one graph."""

    def __init__(self, rnn: Any):
        self.rnn, self.b = rnn, Builder()
        self.weights: dict[str, Getter] = {}
        self.outputs: list[Output] = []
        self.x = -1
        self.values: dict[str, int] = {}  # of the layer below
        self.steps = sys.maxsize

    def add(self, row: int, layer: TracedLayer) -> None:
        """The next layer upwards."""
        new: dict[int, int] = {}
        self.steps = min(self.steps, layer.steps)
        for i, node in enumerate(layer.graph.nodes):
            self.b.origin = node.origin and node.origin.rewritten
            if node.op == "input":
                new[i] = self.input(node, row, layer)
            else:
                inputs = (new[j] for j in node.inputs)
                new[i] = self.b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, like=node)
            if node.name:
                self.b.name(new[i], node.name)
        self.values = {output.name: new[output.node] for output in layer.graph.outputs}
        self.x = self.values[layer.output]
        returned = {*self.rnn.cell.returned}
        for output in layer.graph.outputs:
            if output.kind == "state" or output.name in returned:
                self.outputs.append(Output(output.kind, f"{output.name}.{row}", new[output.node]))

    def input(self, node: Node, row: int, layer: TracedLayer) -> int:
        """What stands for an input of a layer."""
        kind, name = node.key.kind, node.key.name
        if kind == "weight":
            return self.weight(f"cells.{row % len(self.rnn.cells)}.{name}", node.dims, layer.weights[name])
        if kind == "state":
            name = f"{name}.{row}"
        elif kind == "stream" and name == "x" and row:
            return self.x
        elif kind == "stream" and name in layer.streams:
            return self.stream(name, node, layer.streams[name])
        return self.b.input(kind, name, node.dims, node.rows, node.time)

    def weight(self, name: str, dims: tuple[int, ...], get: Getter) -> int:
        self.weights[name] = get
        return self.b.input("weight", name, dims, rows=False, time=False)

    def stream(self, name: str, like: Node, source: Source) -> int:
        if isinstance(source, str):
            return self.values[source]
        if isinstance(source, nn.Linear):
            x = self.b.input("stream", "x", (source.in_features,), rows=True, time=True)
            return self.linear(f"ground.{name}", source, x)
        return self.b.expand(self.b.const(source), like.dims, like)

    def linear(self, name: str, module: nn.Linear, x: int) -> int:
        """A linear map of a value."""
        read = {part: partial(getattr, module, part) for part in ("weight", "bias")}
        matrix = self.weight(f"{name}.weight", tuple(module.weight.shape), read["weight"])
        like = Node("", rows=True, time=True)
        product = self.b.node("matmul", x, self.b.permute(matrix, (1, 0)), like=like)
        if module.bias is None:
            return product
        return self.b.add(product, self.weight(f"{name}.bias", tuple(module.bias.shape), read["bias"]))

    def network(self, head: nn.Linear | None) -> Network:
        result = self.x if head is None else self.linear("head", head, self.x)
        graph = self.b.graph([*self.outputs, Output("stream", OUTPUT, result)])
        return Network(graph, self.weights, self.steps)
