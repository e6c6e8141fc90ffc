"""Temporal order: classify a noisy sequence by the order of two or three relevant symbols that are far apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, ClassificationTask, at, before, between, check

SYMBOLS = "abcdXYEB"
TWO = ((10, 20), (50, 60))  # experiment 6a: 4 classes
THREE = ((10, 20), (33, 43), (66, 76))  # experiment 6b: 8 classes


@dataclass(frozen=True)
class TemporalOrder(ClassificationTask):
    """Temporal order (Hochreiter & Schmidhuber 1997, experiments 6a and 6b).

    A sequence has 100 to 110 symbols: E, then random symbols from a, b, c and d, then B. A random step within each of
    the `windows` has an X or a Y instead: `TWO` is experiment 6a, `THREE` is 6b. The target at the B is the class: the
    X and Y read as a binary number, with X as 0, Y as 1, and the first one most significant. Steps are counted from 0.
    """

    windows: tuple[tuple[int, int], ...] = TWO
    shortest: int = 100
    longest: int = 110
    input_size: ClassVar[int] = len(SYMBOLS)

    def __post_init__(self) -> None:
        check("the shortest length", self.shortest, 3)
        check("the longest length", self.longest, self.shortest)
        steps = [0, *(step for window in self.windows for step in window), self.shortest - 1]
        inside = steps[0] < steps[1] and steps[-2] < steps[-1]
        apart = all(a <= b for a, b in self.windows) and all(
            b < c for b, c in zip(steps[2::2], steps[3::2], strict=False)
        )
        if not self.windows or not inside or not apart:
            raise BadInput(
                f"the windows must be disjoint, ascending pairs of steps between the first and the last step of the "
                f"shortest sequence (0 and {self.shortest - 1}), such as {TWO}, not {self.windows}"
            )

    @property
    def chance(self) -> float:
        return 1 - 1 / self.output_size

    @property
    def output_size(self) -> int:
        return 2 ** len(self.windows)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        lengths = between(self.shortest, self.longest, rows, generator)
        symbols = torch.randint(4, (int(lengths.max()), rows), generator=generator)
        classes = torch.zeros(rows, dtype=torch.long)
        for low, high in self.windows:
            place, sign = between(low, high, rows, generator), between(0, 1, rows, generator)
            symbols = torch.where(at(place, lengths), SYMBOLS.index("X") + sign, symbols)
            classes = 2 * classes + sign
        symbols[0] = SYMBOLS.index("E")
        last = at(lengths - 1, lengths)
        symbols = symbols.masked_fill(last, SYMBOLS.index("B"))
        inputs = F.one_hot(symbols, len(SYMBOLS)) * before(lengths)[..., None]
        return Batch(inputs.float(), classes * last, last, lengths)
