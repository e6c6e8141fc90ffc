"""Kernels as operators of PyTorch: torch.compile, torch.export and the like see one operation, and not its parts.

An operator takes and gives tensors, numbers and text only: a kernel goes in as the text of its graph. So what is kept
on disk, by the cache of torch.compile or as an exported program, runs the equations that it was made of, anywhere.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, library

from conveyor.compiler.graph import Graph, Key, Node, Output
from conveyor.layer.kernels import kernels_of_graph
from conveyor.targets import registry
from conveyor.targets.autograd import CompiledStep, Launch, run_backward, saved_buffers
from conveyor.targets.batch_layout import layout_of
from conveyor.targets.target import Kernel, Result
from conveyor.targets.torch.operator import delegated as delegated  # which is to be known as well

FORMAT = 1  # of the text; another if ops, nodes or kernels change their meaning
FIELDS = ("op", "inputs", "attrs", "dims", "rows", "time", "name")  # of a node, what it is; not where it comes from
CURE = "this program holds equations in the form of another version of conveyor: export it again"

TRANSLATE = (
    "a layer of conveyor has a translation to ONNX of its own: "
    "torch.onnx.export(..., custom_translation_table=conveyor.onnx_translations())"
)


@dataclass(frozen=True)
class Entry:
    """A kernel, and what the tensors are that it takes."""

    step: CompiledStep
    sources: tuple[Key, ...]


_entries: dict[str, Entry] = {}
_texts: dict[tuple[int, tuple[Key, ...]], str] = {}


def register(step: CompiledStep, sources: tuple[Key, ...]) -> str:
    """The text by which an operator knows a kernel that takes such tensors."""
    key = (id(step), sources)
    if key not in _texts:
        nodes = [[getattr(node, name) for name in FIELDS] for node in step.graph.nodes]
        outputs = [list(vars(output).values()) for output in step.graph.outputs]
        facts = [FORMAT, step.target.name, str(step.dtype), sources, nodes, outputs]
        text = json.dumps(facts, separators=(",", ":"))
        _texts[key] = text
        _entries[text] = Entry(step, sources)  # which keeps the kernel, and so its id, alive
    return _texts[key]


def entry_of(text: str) -> Entry:
    """The kernel of a serialised graph, possibly from another process."""
    if text not in _entries:
        try:
            form, name, dtype, sources, nodes, outputs = _tuples(json.loads(text))
            graph = Graph(tuple(Node(*node) for node in nodes), tuple(Output(*output) for output in outputs))
            double = {"torch.float32": False, "torch.float64": True}[dtype]
            target = registry.target(name)
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise RuntimeError(CURE) from error
        if form != FORMAT:
            raise RuntimeError(CURE)
        step = kernels_of_graph(graph, torch.float64 if double else torch.float32, target)
        _entries[text] = Entry(step, tuple(Key(*source) for source in sources))
    return _entries[text]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def count(graph: str) -> int:
    """How many of the results are those of `compute`; the rest is for backward."""
    found = entry_of(graph).step.graph
    return 1 + len(found.states) + len(found.streams)


@library.custom_op("conveyor::forward", mutates_args=())
def forward(
    tensors: list[Tensor], lengths: Tensor | None, graph: str, steps: int, batch: int, start: int, wanted: list[bool]
) -> list[Tensor]:
    """The results of `compute`, and then, if gradients are wanted, what backward reads."""
    launch = _launch(graph, tensors, lengths, steps, batch, start)
    given, states = launch.arranged(tensors)
    if not any(wanted):
        result = launch.step.inference()(given, states, launch.layout, start)
        return [value.clone() for value in launch.results(result)]
    kernels = launch.step.training(_sources(graph, wanted))
    result = kernels[0](given, states, launch.layout, start)
    kept = _kept(kernels)
    return [value.clone() for value in launch.results(result)] + [_whole(result, buffer, launch) for buffer in kept]


def _whole(result: Result, buffer: int, launch: Launch) -> Tensor:
    """A buffer with room for all steps of all rows, so that its size does not depend on the lengths."""
    tensor = result.buffers[buffer]
    rows = result.program.buffers[buffer].space.rows(launch.layout.steps * launch.layout.batch, launch.layout.batch)
    return tensor.clone() if len(tensor) == rows else torch.nn.functional.pad(tensor, (0, 0, 0, rows - len(tensor)))


def _kept(kernels: tuple[Kernel, Kernel]) -> list[int]:
    """The buffers of forward that backward reads."""
    return sorted(set(saved_buffers(kernels[0].program, kernels[1].program).values()))


@forward.register_fake
def _(
    tensors: list[Tensor], lengths: Tensor | None, graph: str, steps: int, batch: int, start: int, wanted: list[bool]
) -> list[Tensor]:
    if torch.onnx.is_in_onnx_export() and not _is_translated():
        raise RuntimeError(TRANSLATE)
    step = entry_of(graph).step
    ends = {(o.kind, o.name): step.graph.nodes[o.node].dims for o in step.graph.outputs}
    like = tensors[0]
    names = step.graph.states
    shapes: list[tuple[Any, ...]] = [(steps, batch, *ends["state", names[0]])]
    shapes += [(batch, *ends["state", name]) for name in names]
    shapes += [(steps, batch, *ends["stream", name]) for name in step.graph.streams]
    if any(wanted):
        kernels = step.training(_sources(graph, wanted))
        for place in _kept(kernels):
            buffer = kernels[0].program.buffers[place]
            shapes.append((buffer.space.rows(steps * batch, batch), buffer.width))
    return [like.new_empty(shape, dtype=step.dtype) for shape in shapes]


FORWARD = torch.ops.conveyor.forward.default


def _is_translated() -> bool:
    """Whether the call of torch.onnx.export that we are in was told how a layer is written.

    That knows its table only after it has run the model, and then its error would not say what to do.
    """
    frame, export = inspect.currentframe(), inspect.unwrap(torch.onnx.export).__code__
    while frame is not None and frame.f_code is not export:
        frame = frame.f_back
    table = {} if frame is None else frame.f_locals["custom_translation_table"] or {}
    return frame is None or FORWARD in table


@library.custom_op("conveyor::backward", mutates_args=())
def backward(
    gradients: list[Tensor],
    tensors: list[Tensor],
    kept: list[Tensor],
    lengths: Tensor | None,
    graph: str,
    steps: int,
    batch: int,
    start: int,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients by the tensors that are wanted."""
    launch = _launch(graph, tensors, lengths, steps, batch, start)
    kernels = launch.step.training(_sources(graph, wanted))
    places = _kept(kernels)
    found = run_backward(launch, kernels, tensors, dict(zip(places, kept, strict=True)), gradients, wanted)
    # A result of an operator may share no memory with another.
    made = (torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True))
    return [g.clone(memory_format=torch.contiguous_format) for g, w in zip(made, wanted, strict=True) if w]


@backward.register_fake
def _(
    gradients: list[Tensor],
    tensors: list[Tensor],
    kept: list[Tensor],
    lengths: Tensor | None,
    graph: str,
    steps: int,
    batch: int,
    start: int,
    wanted: list[bool],
) -> list[Tensor]:
    return [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t, w in zip(tensors, wanted, strict=True) if w]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, lengths, graph, steps, batch, start, wanted = inputs
    ctx.facts, ctx.size = (graph, steps, batch, start, wanted), len(tensors)
    ctx.save_for_backward(*tensors, *output[count(graph) :], *([lengths] if lengths is not None else []))
    ctx.has_lengths, ctx.results = lengths is not None, count(graph)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    graph, steps, batch, start, wanted = ctx.facts
    saved = list(ctx.saved_tensors)
    lengths = saved.pop() if ctx.has_lengths else None
    tensors, kept = saved[: ctx.size], saved[ctx.size :]
    found = iter(backward(gradients[: ctx.results], tensors, kept, lengths, graph, steps, batch, start, wanted))
    return [next(found) if w else None for w in wanted], None, None, None, None, None, None


forward.register_autograd(_differentiate, setup_context=_remember)


def _sources(graph: str, wanted: list[bool]) -> frozenset[Key]:
    return frozenset(s for s, w in zip(entry_of(graph).sources, wanted, strict=True) if w)


def _launch(graph: str, tensors: list[Tensor], lengths: Tensor | None, steps: int, batch: int, start: int) -> Launch:
    entry = entry_of(graph)
    _check(entry, tensors, steps, batch)
    if lengths is not None and batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ValueError(f"lengths must lie between 0 and the {steps} steps of the input, not {lengths.tolist()}")
    rows = layout_of(steps, batch, lengths).on(tensors[0].device)
    return Launch(entry.step, rows, start, entry.sources, _refuse)


def _check(entry: Entry, tensors: list[Tensor], steps: int, batch: int) -> None:
    """Raises ValueError for tensors that are not those of the graph: a kernel would read what is not theirs."""
    nodes = {node.key: node for node in entry.step.graph.nodes if node.op == "input"}
    before = {"stream": (steps, batch), "state": (batch,), "constant": (batch,), "weight": ()}
    for key, tensor in zip(entry.sources, tensors, strict=True):
        if key not in nodes:
            continue  # a state that the step does not read
        wanted = (*before[key.kind], *nodes[key].dims)
        if tuple(tensor.shape) != wanted or tensor.dtype != entry.step.dtype:
            found = f"{list(tensor.shape)} of {tensor.dtype}"
            raise ValueError(f"{key.name} must be {list(wanted)} of {entry.step.dtype}, not {found}")


def _refuse(*_: Any) -> Any:
    raise RuntimeError("a compiled model cannot be differentiated twice: differentiate the model itself")


# Of a backward in which torch.autograd asks for a graph.
backward.register_autograd(_refuse)
