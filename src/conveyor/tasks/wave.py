"""Waveform generation without input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.tasks.task import Batch, RegressionTask, check


@dataclass(frozen=True)
class Wave(RegressionTask):
    """A waveform in [-1, 1] that a network is to generate without input (after Koutník et al. 2014, section 4.1).

    The paper uses 320 steps, 7 ms, of recorded music at 44.1 kHz. This waveform is a sum of `partials` random sines.
    Frequencies are log-uniform, from one period per sequence to one per 16 steps (138 Hz to 2.8 kHz). Amplitudes fall
    with the frequency, and phases are uniform. The sum is scaled so that its largest absolute value is 1. The input is
    zero.
    """

    steps: int = 320
    partials: int = 6
    tolerance: ClassVar[float] = 0.1
    metric: ClassVar[str] = "squared error, normalised"
    chance: ClassVar[float] = 1.0
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("steps of the wave", self.steps, 32)
        check("partials", self.partials, 1)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        octaves, phases, heights = torch.rand(3, self.partials, rows, generator=generator)
        periods = (self.steps / 16) ** octaves  # in the whole sequence
        amplitudes = (0.5 + heights) / periods.sqrt()
        angles = 2 * math.pi * (periods * torch.arange(self.steps)[:, None, None] / self.steps + phases)
        wave = (amplitudes * angles.sin()).sum(1)  # [T, B]
        wave = wave / wave.abs().amax(0)
        lengths = torch.full((rows,), self.steps)
        return Batch(torch.zeros(*wave.shape, 1), wave[..., None], torch.ones_like(wave, dtype=torch.bool), lengths)

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.error(outputs, batch).mean())

    def error(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean squared error of each row divided by the variance of its wave, [B]; 1 for predicting the mean."""
        squares = ((outputs - batch.targets) ** 2).mean((0, 2))
        return squares / batch.targets.var((0, 2), correction=0)
