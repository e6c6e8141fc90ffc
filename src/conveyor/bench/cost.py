"""The operations of a cell, and a lower bound on its time."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.bench.machine import Machine
from conveyor.bench.plan import Shape
from conveyor.cell import Affine, Cell


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a cell's matrix products, for one row in one step, forward.

    `outer` counts products of streams, which can be computed for all steps at once. `inner` counts products that depend
    on the previous step. Everything else in a step (diagonal blocks, gates) is taken to be free.
    """

    outer: int
    inner: int

    @classmethod
    def of(cls, cell: Cell) -> Cost:
        """Counted from the full blocks of the cell's affine maps."""
        streams = set(cell.arguments) - set(cell.state)
        outer = inner = 0
        for affine in (module for module in cell.modules() if isinstance(module, Affine)):
            for operand, width in affine.widths.items():
                if affine.blocks.get(operand, "full") != "full":
                    continue
                operations = 2 * affine.out * width
                outer, inner = (outer + operations, inner) if operand in streams else (outer, inner + operations)
        return cls(outer, inner)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that every step reads; each takes one multiplication and one addition per row."""
        return self.inner // 2 * 4

    def operations(self, shape: Shape, training: bool) -> int:
        """The operations of all steps and rows: in training three times as many, without the gradient of the input."""
        rows = shape.steps * shape.batch
        return rows * (2 * self.outer + 3 * self.inner if training else self.outer + self.inner)

    def floor(self, shape: Shape, training: bool, machine: Machine) -> float:
        """A lower bound on the seconds.

        Products over all steps at once, including weight gradients in training, run at the speed of a large matrix
        product. Products step by step, forward and in training also backward, run at that speed or at the speed of
        reading their weights in each step, whichever is slower.
        """
        rows, passes = shape.steps * shape.batch, 2 if training else 1
        whole = rows * (2 * self.outer + self.inner if training else self.outer)
        step = max(
            shape.batch * self.inner / machine.sgemm,
            self.weight_bytes / machine.bandwidth(self.weight_bytes),
        )
        return whole / machine.sgemm + passes * shape.steps * step
