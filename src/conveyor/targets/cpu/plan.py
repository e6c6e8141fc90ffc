"""What a program becomes on a processor: how many rows and steps are done at a time, and how threads share the work.

Between a product of many steps at once and the loop over these steps, what the product has left is to stay in the
cache: so a plan takes a chunk of steps at a time. Within a step it takes a block of rows at a time, so that their
scratch stays in the cache too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from conveyor.compiler.program import Gemm, Outer, Pack, Program, Ref, Space, Stage

PANEL = 64  # a packed matrix has room for its columns rounded up to this, more than any machine's panels need
SCRATCH = 1 << 16  # elements of a block's scratch that stay in a core's second cache
MIN_BLOCK, MAX_BLOCK, TILE_ROWS = 12, 96, 12  # rows of a block, in whole tiles of the matrix product
CACHED = 1 << 19  # elements that stay in a core's caches from a product of many steps to the loop over them
MIN_CHUNK, MAX_CHUNK = 256, 4096  # rows of a chunk: fewer would make the products slow, more gains nothing
MIN_PARALLEL_OPS = 1 << 21  # operations below which a second thread costs more than it saves
MIN_SHARED = 1 << 16  # elements of a step's matrices from which threads gain by sharing them
ENOUGH_SEQUENCES = 4  # sequences for each thread from which each has enough by itself


class Share(StrEnum):
    """How threads share a phase."""

    SEQUENCES = "sequences over threads"
    STEPS = "sequences over threads, or the columns of each product where there are few"
    ROWS = "rows of products and columns of sums over threads"
    MATRICES = "matrices over threads"
    NOBODY = "one thread"


@dataclass(frozen=True)
class Phase:
    """Stages done in turn, each by all threads in the same way; after it, threads wait for each other.

    `over`: as in schedule.Section.
    """

    over: str
    stages: tuple[Stage, ...]
    share: Share


@dataclass(frozen=True)
class Plan:
    """`before` is done once, `during` for each chunk of steps, `after` once.

    A chunk has about `chunk` rows: those of its steps for all sequences. The streams in `chunked` hold one chunk only.
    In the loop over time, `block` rows are done at a time.
    """

    program: Program
    before: tuple[Phase, ...]
    during: tuple[Phase, ...]
    after: tuple[Phase, ...]
    block: int
    chunk: int
    chunked: frozenset[int]

    def steps(self, batch: int) -> int:
        """The number of steps in a chunk."""
        return max(1, self.chunk // max(1, batch))

    def threads(self, rows: int, batch: int, available: int) -> tuple[int, bool]:
        """How many threads run, and whether they share each step's products.

        Otherwise each has sequences of its own, and never waits for the others within a chunk.
        """
        threads = available if rows >= self.parallel_rows else 1
        return threads, self.shares_steps and threads > 1 and batch < ENOUGH_SEQUENCES * threads

    @property
    def parallel_rows(self) -> int:
        """The rows, of all steps, from which more than one thread runs."""
        return -(-MIN_PARALLEL_OPS // max(1, 2 * self._elements()))

    @property
    def shares_steps(self) -> bool:
        """Whether threads share each step's products where there are few sequences."""
        return self._elements("time") >= MIN_SHARED

    def _elements(self, *over: str) -> int:
        """The elements of the matrices of all products, or of those in such passes."""
        phases = [one for one in (*self.before, *self.during, *self.after) if not over or one.over in over]
        matrices = {stage.matrix for one in phases for stage in one.stages if isinstance(stage, Gemm)}
        return sum(self.size(i) for i in matrices)

    def size(self, matrix: int) -> int:
        """The elements of a packed matrix: panels of whole columns."""
        buffer = self.program.buffers[matrix]
        return -(-buffer.width // PANEL) * PANEL * buffer.depth

    @property
    def scratch(self) -> int:
        """The elements of a thread's scratch for the rows of a block."""
        return sum(b.width * self.block for b in self.program.buffers if b.space == Space.SCRATCH)

    @property
    def sums(self) -> list[Outer]:
        """The sums over all rows, which need scratch, too."""
        phases = (*self.before, *self.during, *self.after)
        return [stage for one in phases for stage in one.stages if isinstance(stage, Outer)]

    def __str__(self) -> str:
        text = str(self.program)
        lines = [f"  {one.over}: {one.share}" for one in self.before]
        lines += [f"  for each chunk of about {self.chunk} rows, {self.block} at a time:"]
        lines += [f"    {one.over}: {one.share}" for one in self.during]
        lines += [f"  {one.over}: {one.share}" for one in self.after]
        shared = (
            f"; with fewer than {ENOUGH_SEQUENCES} sequences each, they share each step's products"
            if self.shares_steps
            else ""
        )
        lines.append(f"  one thread below {self.parallel_rows} rows{shared}")
        if self.chunked:
            lines.append(f"  of one chunk only: buffers {', '.join(map(str, sorted(self.chunked)))}")
        return "\n".join([text, "on a processor:", *lines])


def plan(program: Program) -> Plan:
    """How a processor does a program."""
    before: list[Phase] = []
    during: list[Phase] = []
    after: list[Phase] = []
    for one in program.passes:
        if one.over == "bulk":
            timed = tuple(stage for stage in one.stages if any(map(program.is_timed, _refs(stage))))
            rest = tuple(stage for stage in one.stages if stage not in timed)
            during += [Phase("bulk", timed, Share.ROWS)] if timed else []
            after += [Phase("bulk", rest, Share.ROWS)] if rest else []
        elif one.over == "time":
            during.append(Phase("time", one.stages, Share.STEPS))
        else:  # matrices depend on weights alone
            packs = all(isinstance(stage, Pack) for stage in one.stages)
            share = Share.SEQUENCES if one.over == "rows" else Share.MATRICES if packs else Share.NOBODY
            (before if packs or not during else after).append(Phase(one.over, one.stages, share))
    outside = {ref.buffer for _, ref in program.inputs} | {ref.buffer for _, ref, _ in program.outputs}
    streams = {i for i, buffer in enumerate(program.buffers) if buffer.space == Space.STREAM}
    scratch = sum(b.width for b in program.buffers if b.space == Space.SCRATCH)
    block = max(MIN_BLOCK, min(MAX_BLOCK, SCRATCH // max(1, scratch) // TILE_ROWS * TILE_ROWS))
    chunk = _chunk(program, during, streams)
    return Plan(program, tuple(before), tuple(during), tuple(after), block, chunk, frozenset(streams - outside))


def _chunk(program: Program, during: list[Phase], streams: set[int]) -> int:
    """The rows of a chunk, of which the streams that products over all rows read and write stay in the cache."""
    bulk = [stage for one in during if one.over == "bulk" for stage in one.stages]
    shared = {ref.buffer for stage in bulk for ref in _refs(stage)} & streams
    width = sum(program.buffers[i].width for i in shared)
    return max(MIN_CHUNK, min(MAX_CHUNK, CACHED // max(1, width)))


def _refs(stage: Stage) -> list[Ref]:
    """The values that a product over all rows reads and writes."""
    if isinstance(stage, Gemm):
        return [stage.target, *(ref for ref, _ in stage.operands)]
    assert isinstance(stage, Outer)
    return [ref for ref in (stage.a, stage.b) if ref is not None]
