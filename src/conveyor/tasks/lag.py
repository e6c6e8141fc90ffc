"""A noise-free sequence with one long lag: its last symbol is its first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.tasks.task import Batch, Classes, between, check


@dataclass(frozen=True)
class Lag(Classes):
    """The noise-free task with long lags (Hochreiter & Schmidhuber 1997, experiment 2a), of lag p = `lag`.

    There are two sequences of p + 1 symbols: x, a_1, ..., a_{p-1}, x and y, a_1, ..., a_{p-1}, y, each drawn with
    probability 1/2. The next symbol is to be told at every step; only the last takes memory. Symbols are numbered a_1,
    ..., a_{p-1}, x, y. The paper's networks have learnt it when no output is wrong by 0.25 or more: `error` says by how
    much one is.
    """

    lag: int = 100
    chance: ClassVar[float] = 0.5  # all but the last symbol is plain

    def __post_init__(self) -> None:
        check("the lag", self.lag, 2)

    @property
    def input_size(self) -> int:
        return self.lag + 1

    @property
    def output_size(self) -> int:
        return self.lag + 1

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch(between(0, 1, rows, generator))

    def both(self) -> Batch:
        """Both sequences: all that there is to know."""
        return self.batch(torch.tensor([0, 1]))

    def batch(self, keys: Tensor) -> Batch:
        """Sequences by their first symbols, [B]: 0 for x, 1 for y."""
        keys = self.lag - 1 + keys[None]
        between = torch.arange(self.lag - 1)[:, None].expand(-1, keys.shape[1])
        symbols = torch.cat([keys, between, keys])  # [p + 1, B]
        inputs, targets = F.one_hot(symbols[:-1], self.lag + 1).float(), symbols[1:]
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool), torch.full(keys[0].shape, self.lag))

    def error(self, outputs: Tensor, batch: Batch) -> float:
        """How far a probability is from 0 or 1, whichever it should be, at worst."""
        wanted = F.one_hot(batch.targets, self.output_size)
        return float((outputs.softmax(-1) - wanted).abs().max())
