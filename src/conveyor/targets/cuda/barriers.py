"""Where the threads of a team must wait for each other: between a write and what reads, or overwrites, the same place.

plan.sections(program, stages)          # [[product], [gates, state], ...]: a barrier after each but the last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conveyor.compiler.program import Contract, Gemm, Loop, Outer, Pack, Program, Reduce, Ref, Space, Stage


@dataclass(frozen=True)
class Access:
    """A stage reads or writes elements [low, high) of the rows of a buffer; `when` as in Ref."""

    buffer: int
    when: str
    low: int
    high: int
    writes: bool


def accesses(stage: Stage) -> list[Access]:
    """All that a stage of a step reads and writes."""
    assert not isinstance(stage, Pack | Outer)
    if isinstance(stage, Gemm):
        found = [_access(ref, (stage.lead, k), (ref.lead, 1)) for ref, k in stage.operands]
        return [*found, _access(stage.target, (stage.lead, stage.width), (stage.width, 1), True)]
    if isinstance(stage, Loop):
        reads = [arg for line in stage.lines for arg in line.args if isinstance(arg, Ref)]
        writes = [line.target for line in stage.lines if line.target is not None]
        found = [_access(ref, stage.dims, ref.strides) for ref in reads]
        return found + [_access(ref, stage.dims, ref.strides, True) for ref in writes]
    if isinstance(stage, Reduce):
        read = [_access(stage.source, stage.outer + stage.inner)] if isinstance(stage.source, Ref) else []
        return [*read, _access(stage.target, stage.outer, None, True)]
    return _of_contraction(stage)


def _of_contraction(stage: Contract) -> list[Access]:
    sizes = dict(stage.sizes)
    first, second, out = (tuple(sizes[c] for c in labels) for labels in stage.labels)
    read = zip(stage.sources, (first, second), strict=True)
    found = [_access(ref, dims) for ref, dims in read if isinstance(ref, Ref)]
    return [*found, _access(stage.target, out, None, True)]


def _access(ref: Ref, dims: tuple[int, ...], strides: tuple[int, ...] | None = None, writes: bool = False) -> Access:
    if 0 in dims:
        return Access(ref.buffer, ref.when, ref.offset, ref.offset, writes)
    ends = [(d - 1) * s for d, s in zip(dims, ref.strides if strides is None else strides, strict=True)]
    low, high = sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends)
    return Access(ref.buffer, ref.when, ref.offset + low, ref.offset + high + 1, writes)


def sections(program: Program, stages: Sequence[Stage], repeats: bool) -> tuple[tuple[tuple[Stage, ...], ...], bool]:
    """The stages between which no barrier is needed, together; and whether the last of them needs one after it, because
    the next step comes (`repeats`)."""
    found: list[list[Stage]] = []
    for stage in stages:
        if not found or any(_conflict(program, other, stage, 0) for other in found[-1]):
            found.append([])
        found[-1].append(stage)
    first, last = (found[0], found[-1]) if found else ([], [])
    reached = (1, 2) if len(found) == 1 else (1,)  # without a barrier in it, a step may meet the one after the next
    again = repeats and any(
        _conflict(program, one, two, apart)
        for one in last
        for two in first
        for apart in reached
        if one is not two or apart == 1
    )
    return tuple(map(tuple, found)), again


def _conflict(program: Program, one: Stage, two: Stage, apart: int) -> bool:
    """Whether `two`, so many steps later, meets what `one` has written, or writes what it has read."""
    return any(_meet(program, a, b, apart) for a in accesses(one) for b in accesses(two))


def _meet(program: Program, a: Access, b: Access, apart: int) -> bool:
    if a.buffer != b.buffer or not (a.writes or b.writes) or a.low >= b.high or b.low >= a.high:
        return False
    space = program.buffers[a.buffer].space
    if space not in (Space.STREAM, Space.HISTORY, Space.PAIR):
        return True
    steps = apart + (b.when == "after") - (a.when == "after")  # from the rows of one to those of the other
    return steps % 2 == 0 if space == Space.PAIR else steps == 0
