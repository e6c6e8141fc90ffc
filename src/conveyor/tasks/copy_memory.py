"""Copy memory: repeat ten symbols after a long delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.tasks.task import Batch, ClassificationTask, check

SYMBOLS = 8  # in the alphabet
BLANK, GO = 0, 9


@dataclass(frozen=True)
class CopyMemory(ClassificationTask):
    """The copying task (Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016), with delay T = `delay`.

    The input is ten symbols (`count`) from 1 to 8, T - 1 blanks, the symbol 9, and ten blanks. The target is T + 10
    blanks and then the ten symbols. Every step counts, in nats per step. A model without memory has 10 ln 8 / (T + 20).
    """

    delay: int = 100
    count: int = 10
    metric: ClassVar[str] = "nats per step"
    input_size: ClassVar[int] = SYMBOLS + 2
    output_size: ClassVar[int] = SYMBOLS + 1

    def __post_init__(self) -> None:
        check("the delay", self.delay, 1)
        check("the number of symbols", self.count, 1)

    @property
    def chance(self) -> float:
        return self.count * math.log(SYMBOLS) / (self.delay + 2 * self.count)

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.loss(outputs, batch))

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        kept = torch.randint(1, SYMBOLS + 1, (self.count, rows), generator=generator)
        steps = self.delay + 2 * self.count
        symbols, targets = torch.full((2, steps, rows), BLANK)
        symbols[: self.count], symbols[-self.count - 1], targets[-self.count :] = kept, GO, kept
        inputs = F.one_hot(symbols, self.input_size).float()
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool), torch.full((rows,), steps))
