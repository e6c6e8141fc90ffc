"""Kernels as operators of PyTorch: torch.compile, torch.export and the like see one operation, and not its parts.

An operator takes and gives tensors and numbers only: a kernel goes in as its number in a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, library

from conveyor.targets.autograd import CompiledStep, Job, Source, readings, without_graph
from conveyor.targets.ragged import rows_of
from conveyor.targets.target import Kernel, Result


@dataclass(frozen=True)
class Entry:
    """A kernel, and what the tensors are that it takes."""

    kernel: CompiledStep
    sources: tuple[Source, ...]


_entries: list[Entry] = []
_numbers: dict[tuple[int, tuple[Source, ...]], int] = {}


def register(kernel: CompiledStep, sources: tuple[Source, ...]) -> int:
    """The number of a kernel that takes such tensors."""
    key = (id(kernel), sources)
    if key not in _numbers:
        _entries.append(Entry(kernel, sources))  # which keeps the kernel, and so its id, alive
        _numbers[key] = len(_entries) - 1
    return _numbers[key]


def count(number: int) -> int:
    """How many of the results are those of `compute`; the rest is for backward."""
    graph = _entries[number].kernel.graph
    return 1 + len(graph.states) + len(graph.streams)


@library.custom_op("conveyor::forward", mutates_args=())
def forward(
    tensors: list[Tensor], lengths: Tensor | None, number: int, steps: int, batch: int, start: int, wanted: list[bool]
) -> list[Tensor]:
    """The results of `compute`, and then, if gradients are wanted, what backward reads."""
    job = _job(number, lengths, steps, batch, start)
    given, states = job.arranged(tensors)
    if not any(wanted):
        result = job.kernel.inference()(given, states, job.rows, start)
        return [value.clone() for value in job.results(result)]
    kernels = job.kernel.training(_sources(number, wanted))
    result = kernels[0](given, states, job.rows, start)
    kept = _kept(kernels)
    return [value.clone() for value in job.results(result)] + [_whole(result, buffer, job) for buffer in kept]


def _whole(result: Result, buffer: int, job: Job) -> Tensor:
    """A buffer with room for all steps of all rows, so that its size does not depend on the lengths."""
    tensor = result.buffers[buffer]
    rows = result.program.buffers[buffer].space.rows(job.rows.steps * job.rows.batch, job.rows.batch)
    return tensor.clone() if len(tensor) == rows else torch.nn.functional.pad(tensor, (0, 0, 0, rows - len(tensor)))


def _kept(kernels: tuple[Kernel, Kernel]) -> list[int]:
    """The buffers of forward that backward reads."""
    return sorted(set(readings(kernels[0].program, kernels[1].program).values()))


@forward.register_fake
def _(
    tensors: list[Tensor], lengths: Tensor | None, number: int, steps: int, batch: int, start: int, wanted: list[bool]
) -> list[Tensor]:
    kernel = _entries[number].kernel
    ends = {(o.kind, o.name): kernel.graph.nodes[o.node].dims for o in kernel.graph.outputs}
    like = tensors[0]
    names = kernel.graph.states
    shapes: list[tuple[Any, ...]] = [(steps, batch, *ends["state", names[0]])]
    shapes += [(batch, *ends["state", name]) for name in names]
    shapes += [(steps, batch, *ends["stream", name]) for name in kernel.graph.streams]
    if any(wanted):
        kernels = kernel.training(_sources(number, wanted))
        for place in _kept(kernels):
            buffer = kernels[0].program.buffers[place]
            shapes.append((buffer.space.rows(steps * batch, batch), buffer.width))
    return [like.new_empty(shape, dtype=kernel.dtype) for shape in shapes]


@library.custom_op("conveyor::backward", mutates_args=())
def backward(
    gradients: list[Tensor],
    tensors: list[Tensor],
    kept: list[Tensor],
    lengths: Tensor | None,
    number: int,
    steps: int,
    batch: int,
    start: int,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients by the tensors that are wanted."""
    job = _job(number, lengths, steps, batch, start)
    kernels = job.kernel.training(_sources(number, wanted))
    places = _kept(kernels)
    found = without_graph(job, kernels, tensors, dict(zip(places, kept, strict=True)), gradients, wanted)
    # A result of an operator may share no memory with another.
    made = (torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True))
    return [g.clone(memory_format=torch.contiguous_format) for g, w in zip(made, wanted, strict=True) if w]


@backward.register_fake
def _(
    gradients: list[Tensor],
    tensors: list[Tensor],
    kept: list[Tensor],
    lengths: Tensor | None,
    number: int,
    steps: int,
    batch: int,
    start: int,
    wanted: list[bool],
) -> list[Tensor]:
    return [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t, w in zip(tensors, wanted, strict=True) if w]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, lengths, number, steps, batch, start, wanted = inputs
    ctx.facts, ctx.size = (number, steps, batch, start, wanted), len(tensors)
    ctx.save_for_backward(*tensors, *output[count(number) :], *([lengths] if lengths is not None else []))
    ctx.has_lengths, ctx.results = lengths is not None, count(number)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    number, steps, batch, start, wanted = ctx.facts
    saved = list(ctx.saved_tensors)
    lengths = saved.pop() if ctx.has_lengths else None
    tensors, kept = saved[: ctx.size], saved[ctx.size :]
    found = iter(backward(gradients[: ctx.results], tensors, kept, lengths, number, steps, batch, start, wanted))
    return [next(found) if w else None for w in wanted], None, None, None, None, None, None


forward.register_autograd(_differentiate, setup_context=_remember)


def _sources(number: int, wanted: list[bool]) -> frozenset[Source]:
    return frozenset(s for s, w in zip(_entries[number].sources, wanted, strict=True) if w)


def _job(number: int, lengths: Tensor | None, steps: int, batch: int, start: int) -> Job:
    entry = _entries[number]
    if lengths is not None and batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ValueError(f"lengths must lie between 0 and the {steps} steps of the input, not {lengths.tolist()}")
    return Job(entry.kernel, rows_of(steps, batch, lengths), start, entry.sources, _no_eager)


def _no_eager(*_: Tensor) -> tuple[Tensor, ...]:
    raise RuntimeError("a compiled model cannot be differentiated twice: differentiate the model itself")
