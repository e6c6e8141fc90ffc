"""Parity: whether the number of ones is odd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from conveyor.tasks.task import Batch, ClassificationTask, at, check


@dataclass(frozen=True)
class Parity(ClassificationTask):
    """Parity of k random bits, k = `bits` (Kalchbrenner et al. 2015): class 1 if the number of ones is odd, else 0.

    One bit, 0 or 1, is read at each step; the target is at the last one. The paper's networks read all bits at once,
    through one projection: `batch.inputs[..., 0].t()`, [B, k].
    """

    bits: int = 100
    chance: ClassVar[float] = 0.5
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check("bits", self.bits, 1)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        bits = torch.randint(2, (self.bits, rows), generator=generator)
        lengths = torch.full((rows,), self.bits)
        last = at(lengths - 1, lengths)
        return Batch(bits.float()[..., None], bits.sum(0) % 2 * last, last, lengths)
