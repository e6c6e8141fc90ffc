"""Where the threads of a team must wait for each other: between a write and what reads, or overwrites, the same place.

plan.sections(program, stages)          # [[product], [gates, state], ...]: a barrier after each but the last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from conveyor.compiler.program import Contract, Gemm, Loop, Outer, Pack, Program, Reduce, Ref, Space, Stage
from conveyor.targets.c.spelling import collapse

APART = 8  # values of a sum, up to which it is seen of each by itself who has made it


@dataclass(frozen=True)
class Access:
    """A stage reads or writes elements [low, high) of the rows of a buffer; `when` as in Ref.

    `places`: which thread has which element: the dimensions that threads share, as few as can be, and the offset and
    strides of the value. Two stages that share the same dimensions give the same elements to the same threads.
    """

    buffer: int
    when: str
    low: int
    high: int
    writes: bool
    places: tuple[tuple[int, ...], int, tuple[int, ...]] | None = None


def accesses(stage: Stage) -> list[Access]:
    """All that a stage of a step reads and writes."""
    assert not isinstance(stage, Pack | Outer)
    if isinstance(stage, Gemm):
        found = [_access(ref, (stage.lead, k), (ref.lead, 1)) for ref, k in stage.operands]
        return [*found, _access(stage.target, (stage.lead, stage.width), (stage.width, 1), True)]
    if isinstance(stage, Loop):
        reads = [arg for line in stage.lines for arg in line.args if isinstance(arg, Ref)]
        writes = [line.target for line in stage.lines if line.target is not None]
        return [_own(ref, stage.dims) for ref in reads] + [_own(ref, stage.dims, True) for ref in writes]
    if isinstance(stage, Reduce):
        return [*_of_sum(stage), _own(stage.target, stage.outer, True)]
    return _of_contraction(stage)


def _of_sum(stage: Reduce) -> list[Access]:
    """What a sum or a maximum reads."""
    ref, outer = stage.source, len(stage.outer)
    if not isinstance(ref, Ref):
        return []
    return _summed(ref, (stage.outer, ref.strides[:outer]), (stage.inner, ref.strides[outer:]))


def _of_contraction(stage: Contract) -> list[Access]:
    sizes, found = dict(stage.sizes), []
    first, second, out = stage.labels
    sums = [c for c in first if c in second and c not in out]
    for ref, labels in zip(stage.sources, (first, second), strict=True):
        if isinstance(ref, Ref):
            strides = dict(zip(labels, ref.strides, strict=True))
            outer, inner = (
                (tuple(sizes[c] for c in some), tuple(strides.get(c, 0) for c in some)) for some in (out, sums)
            )
            found += _summed(ref, outer, inner)
    return [*found, _own(stage.target, tuple(sizes[c] for c in out), True)]


Shape = tuple[tuple[int, ...], tuple[int, ...]]  # dimensions, and the strides of a value over them


def _summed(ref: Ref, outer: Shape, inner: Shape) -> list[Access]:
    """What is read for each element of a sum: of few values, each by itself."""
    if prod(inner[0]) > APART:
        return [_access(ref, outer[0] + inner[0], outer[1] + inner[1])]
    each = (sum(i * s for i, s in zip(at, inner[1], strict=True)) for at in product(*map(range, inner[0])))
    return [_own(Ref(ref.buffer, ref.offset + skipped, outer[1], ref.when), outer[0]) for skipped in each]


def _access(ref: Ref, dims: tuple[int, ...], strides: tuple[int, ...] | None = None, writes: bool = False) -> Access:
    if 0 in dims:
        return Access(ref.buffer, ref.when, ref.offset, ref.offset, writes)
    ends = [(d - 1) * s for d, s in zip(dims, ref.strides if strides is None else strides, strict=True)]
    low, high = sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends)
    return Access(ref.buffer, ref.when, ref.offset + low, ref.offset + high + 1, writes)


def _own(ref: Ref, dims: tuple[int, ...], writes: bool = False) -> Access:
    """An element of a value by the thread that has this element of the loop."""
    sizes, whose = collapse(dims, [ref.strides])
    found = [(size, ref.strides[k]) for size, k in zip(sizes, whose, strict=True) if size != 1]
    places = (tuple(size for size, _ in found), ref.offset, tuple(stride for _, stride in found))
    return replace(_access(ref, dims, None, writes), places=places)


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
    if a.places is not None and a.places == b.places:
        return False  # a thread meets itself only
    space = program.buffers[a.buffer].space
    if space not in (Space.STREAM, Space.HISTORY, Space.PAIR):
        return True
    steps = apart + (b.when == "after") - (a.when == "after")  # from the rows of one to those of the other
    return steps % 2 == 0 if space == Space.PAIR else steps == 0
