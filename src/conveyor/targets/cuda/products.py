"""What PyTorch does of a plan: products over all rows and steps, sums over them, and matrices put in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from conveyor.compiler.program import Gemm, Outer, Pack, Program, Ref, Space, Stage
from conveyor.targets.batch_layout import BatchLayout


class Products:
    """The stages of a program that PyTorch does, for such rows and with such buffers, each [rows, width]."""

    def __init__(self, program: Program, buffers: Sequence[Tensor], layout: BatchLayout):
        self.program, self.buffers, self.layout = program, buffers, layout

    def run(self, stages: Iterable[Stage]) -> None:
        """Some of them, in turn."""
        for stage in stages:
            if isinstance(stage, Pack):
                self.pack(stage)
            elif isinstance(stage, Gemm):
                self.gemm(stage)
            else:
                assert isinstance(stage, Outer)
                self.outer(stage)

    def pack(self, stage: Pack) -> None:
        """A weight to its place in a matrix."""
        (depth, width), (row, column) = stage.size, stage.start
        source = _seen(self.buffers[stage.source.buffer], stage.size, stage.source.strides, stage.source.offset)
        self.buffers[stage.target][row : row + depth, column : column + width].copy_(source)

    def gemm(self, stage: Gemm) -> None:
        """Over all steps, under no condition: a product that is under one is in the loop."""
        assert not stage.condition
        target = self.rows(stage.target, stage.lead, stage.width, stage.width)
        matrix, row = self.buffers[stage.matrix], 0
        for ref, depth in stage.operands:
            factor, operand = matrix[row : row + depth], self.rows(ref, stage.lead, depth, ref.lead)
            if stage.lead > 1:
                product = operand @ factor
                target.copy_(product) if row == 0 else target.add_(product)
            elif row == 0:
                torch.mm(operand[:, 0], factor, out=target[:, 0])
            else:
                target[:, 0].addmm_(operand[:, 0], factor)
            row += depth

    def outer(self, stage: Outer) -> None:
        """A sum over all rows, as one product."""
        (m, n), at = stage.size, self.buffers[stage.target.buffer].view(-1)[stage.target.offset :]
        refs = [ref for ref in (stage.a, stage.b) if ref is not None]
        timed = any(map(self.program.is_timed, refs))
        a = self.all_rows(stage.a, stage.lead, m, timed)
        if stage.b is None:
            torch.sum(a.reshape(-1, m), 0, out=at[:m])
            return
        b = self.all_rows(stage.b, stage.lead, n, timed)
        torch.mm(a.reshape(-1, m).t(), b.reshape(-1, n), out=at[: m * n].view(m, n))

    def all_rows(self, ref: Ref, lead: int, width: int, timed: bool) -> Tensor:
        """The rows of an operand of a sum over all rows, [rows, lead, width]; `timed`: of all steps, too."""
        layout, space = self.layout, self.program.buffers[ref.buffer].space
        found = self.rows(ref, lead, width, ref.lead)
        if not timed or self.program.is_timed(ref):
            return found
        if space == Space.SHARED:
            return found.expand(layout.rows, lead, width)
        if layout.row is not None:
            return found.index_select(0, layout.row)
        return found.repeat(layout.steps, 1, 1)

    def rows(self, ref: Ref, lead: int, width: int, step: int) -> Tensor:
        """Those of a value, [rows, lead, width]; of a history, for each row of a stream the one that it names."""
        buffer, layout, skipped = self.buffers[ref.buffer], self.layout, 0
        count, size = buffer.shape
        if self.program.buffers[ref.buffer].space == Space.HISTORY:
            count = layout.rows
            skipped = 0 if ref.when == "before" else layout.batch
            if ref.when == "before" and layout.map is not None:
                buffer = buffer.index_select(0, layout.map)
        return _seen(buffer, (count, lead, width), (size, step, 1), skipped * size + ref.offset)


def _seen(buffer: Tensor, dims: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Tensor:
    """A view of what begins so far into a buffer, which may itself be a part of another tensor."""
    return buffer.as_strided(dims, strides, buffer.storage_offset() + offset)
