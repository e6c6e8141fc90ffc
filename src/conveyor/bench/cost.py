"""What a cell asks of the machine, and so how fast it can be at best."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.affine import Affine
from conveyor.bench.machine import Machine
from conveyor.bench.plan import Shape
from conveyor.cell import Cell


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a cell's matrix products, for one row in one step, forward.

    `outer`: of those that read streams alone, which can be one product over all steps. `inner`: of those that must wait
    for the step before. All else in a step (diagonal blocks, gates) is taken to cost nothing.
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
        """Bytes of the weights that every step reads; each is multiplied once and added once for each row."""
        return self.inner // 2 * 4

    def operations(self, shape: Shape, training: bool) -> int:
        """All of them: forward, and in training three times as many, less the input's own gradient."""
        rows = shape.steps * shape.batch
        return rows * (2 * self.outer + 3 * self.inner if training else self.outer + self.inner)

    def floor(self, shape: Shape, training: bool, machine: Machine) -> float:
        """Seconds that it takes at the least.

        Products that can be one over all steps, which in training the weights' gradients can, at the speed of a large
        matrix product. What goes step by step, forward and in training backward too, at that speed or at that of
        reading its weights anew in each step, whichever is slower.
        """
        rows, passes = shape.steps * shape.batch, 2 if training else 1
        whole = rows * (2 * self.outer + self.inner if training else self.outer)
        step = max(
            shape.batch * self.inner / machine.sgemm,
            self.weight_bytes / machine.bandwidth(self.weight_bytes),
        )
        return whole / machine.sgemm + passes * shape.steps * step
