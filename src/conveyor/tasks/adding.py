"""The adding problem: the target at the end of a long sequence is the sum of two marked numbers in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.tasks.task import Batch, RegressionTask, at, before, between, check


@dataclass(frozen=True)
class Adding(RegressionTask):
    """The adding problem of Hochreiter & Schmidhuber 1997, experiment 4.

    The input at each step is a number, uniform in [-1, 1], and a marker. The length is uniform in [T, T + T/10], where
    T = `steps`. The marker is 1 at two steps: one of the first 10 and another of the first T/2 - 1. Elsewhere it is -1
    at the first and the last step, and 0 at all others. The target at the last step is 1/2 + (X_1 + X_2)/4, where X_1
    and X_2 are the marked numbers. An output is correct if its error is below 0.04. (From memory, unconfirmed: a marked
    number at the first step is 0.)
    """

    steps: int = 100
    tolerance: ClassVar[float] = 0.04
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("steps of the adding problem", self.steps, 24)  # so that T/2 - 1 exceeds 10

    @property
    def chance(self) -> float:
        """The variance of (X_1 + X_2) / 4, given that a marked number at the first step is 0."""
        return (2 - 1 / 10 - 9 / 10 / (self.steps // 2 - 2)) / 3 / 16

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        lengths = between(self.steps, self.steps + self.steps // 10, rows, generator)
        within = before(lengths)
        first = between(0, 9, rows, generator)
        second = between(0, self.steps // 2 - 3, rows, generator)
        second = second + (second >= first).long()  # another one of the first T/2 - 1
        ones = at(first, lengths) | at(second, lengths)
        ends = at(torch.zeros_like(lengths), lengths) | at(lengths - 1, lengths)
        numbers = (torch.rand(within.shape, generator=generator) * 2 - 1) * (within & ~(ones & ends))
        markers = ones.float() - (ends & ~ones).float()
        targets = (0.5 + (numbers * ones).sum(0) / 4).expand(within.shape)
        return _batch(numbers, markers, targets, lengths)


@dataclass(frozen=True)
class HalvesAdding(RegressionTask):
    """The adding problem in the form of later papers (Le et al. 2015, Arjovsky et al. 2016).

    All sequences have `steps` steps. The numbers are uniform in [0, 1]. The marker is 1 at one step of each half and 0
    elsewhere. The target at the last step is the sum of the two marked numbers. Always predicting 1 gives a squared
    error of 1/6.
    """

    steps: int = 100
    tolerance: ClassVar[float] = 0.04
    chance: ClassVar[float] = 1 / 6  # the variance of X_1 + X_2
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("steps of the adding problem", self.steps, 2)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        lengths = torch.full((rows,), self.steps)
        first = between(0, self.steps // 2 - 1, rows, generator)
        second = between(self.steps // 2, self.steps - 1, rows, generator)
        numbers = torch.rand(self.steps, rows, generator=generator)
        ones = at(first, lengths) | at(second, lengths)
        targets = (numbers * ones).sum(0).expand(numbers.shape)
        return _batch(numbers, ones.float(), targets, lengths)


def _batch(numbers: Tensor, markers: Tensor, targets: Tensor, lengths: Tensor) -> Batch:
    last = at(lengths - 1, lengths)
    return Batch(torch.stack([numbers, markers], -1), (targets * last)[..., None], last, lengths)
