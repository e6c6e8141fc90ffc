"""What the space of a buffer means to a kernel in C: how many rows it has, and where a step and a chunk find theirs."""

from __future__ import annotations

from conveyor.compiler.program import Ref, Space
from conveyor.targets.batch_layout import BatchLayout
from conveyor.targets.cpu.plan import Plan

# The row that the first sequence of a block has in a step, by the space and by `when`. C's variables are set in
# emit.time: `now` counts the rows of a stream, `old` those of a history before the step.
IN_STEP = {
    (Space.STREAM, ""): "now",
    (Space.ROWS, ""): "b",
    (Space.HISTORY, "before"): "old",
    (Space.HISTORY, "after"): "c->batch + now",
    (Space.PAIR, "before"): "even",
    (Space.PAIR, "after"): "odd",
}
# Of a product over all rows of a chunk: its first row, and the row of each of them where they do not follow each other.
IN_CHUNK = {
    (Space.STREAM, ""): ("c->first", "0"),
    (Space.ROWS, ""): ("0", "c->row + c->first"),
    (Space.HISTORY, "before"): ("(c->map ? 0 : c->first)", "c->map ? c->map + c->first : 0"),
    (Space.HISTORY, "after"): ("(c->batch + c->first)", "0"),
}


class Memory:
    """The buffers of a plan."""

    def __init__(self, plan: Plan):
        self.plan, self.buffers = plan, plan.program.buffers

    def space(self, ref: Ref) -> Space:
        """That of the buffer that a value is in."""
        return self.buffers[ref.buffer].space

    def row(self, ref: Ref) -> str:
        """C for the row that the first sequence of a block has in a step."""
        chunked = ref.buffer in self.plan.chunked
        return "now - c->first" if chunked else IN_STEP[self.space(ref), ref.when]

    def rows_of_chunk(self, ref: Ref) -> tuple[str, str]:
        """C for the first row of a chunk, and for the map to the others."""
        return ("0", "0") if ref.buffer in self.plan.chunked else IN_CHUNK.get((self.space(ref), ref.when), ("0", "0"))

    def shape(self, buffer: int, layout: BatchLayout) -> tuple[int, int]:
        """The rows of a buffer, and their width."""
        one = self.buffers[buffer]
        if one.space == Space.MATRIX:
            return 1, self.plan.size(buffer)
        count = one.space.rows(layout.rows, layout.batch)
        return (
            min(count, self.plan.steps(layout.batch) * layout.batch) if buffer in self.plan.chunked else count
        ), one.width
