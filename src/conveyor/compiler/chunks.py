"""The steps that a kernel takes at a time: what all steps' products have left is still in the cache when it is read."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.compiler.plan import Gemm, Outer, Pack, Pass, Plan, Ref

CACHED = 1 << 19  # numbers that stay in a core's caches from a product of many steps to the loop over them
FEWEST, MOST = 256, 4096  # rows at a time: fewer would make the products slow, more gains nothing


@dataclass(frozen=True)
class Chunks:
    """`before` is done once, `during` for each chunk of steps, `after` once. A chunk has about so many `rows`.

    The buffers in `passing` hold one chunk only.
    """

    before: tuple[Pass, ...]
    during: tuple[Pass, ...]
    after: tuple[Pass, ...]
    rows: int
    passing: frozenset[int]


def chunks(plan: Plan) -> Chunks:
    """How a plan is done a chunk of steps at a time."""
    before: list[Pass] = []
    during: list[Pass] = []
    after: list[Pass] = []
    for one in plan.passes:
        if one.over == "bulk":
            timed = tuple(stage for stage in one.stages if _is_timed(plan, stage))
            rest = tuple(stage for stage in one.stages if stage not in timed)
            during += [Pass("bulk", timed)] if timed else []
            after += [Pass("bulk", rest)] if rest else []
        elif one.over == "time":
            during.append(one)
        else:  # matrices depend on weights alone
            packs = all(isinstance(stage, Pack) for stage in one.stages)
            (before if packs or not during else after).append(one)
    outside = {ref.buffer for _, ref in plan.inputs} | {ref.buffer for _, ref, _ in plan.outputs}
    streams = {i for i, buffer in enumerate(plan.buffers) if buffer.space == "stream"}
    shared = {b for one in during if one.over == "bulk" for stage in one.stages for b in _buffers(stage)} & streams
    width = sum(plan.buffers[i].width for i in shared)
    rows = max(FEWEST, min(MOST, CACHED // max(1, width)))
    return Chunks(tuple(before), tuple(during), tuple(after), rows, frozenset(streams - outside))


def _buffers(stage: object) -> list[int]:
    if isinstance(stage, Gemm):
        return [stage.target.buffer, *(ref.buffer for ref, _ in stage.operands)]
    assert isinstance(stage, Outer)
    return [ref.buffer for ref in (stage.a, stage.b) if isinstance(ref, Ref)]


def _is_timed(plan: Plan, stage: object) -> bool:
    return any(plan.buffers[i].space in ("stream", "history") for i in _buffers(stage))
