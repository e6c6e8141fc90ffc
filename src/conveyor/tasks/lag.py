"""A sequence with one long lag: its last symbol is its first. What lies between is always the same, or is noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.tasks.task import Batch, ClassificationTask, at, before, between, check


@dataclass(frozen=True)
class Lag(ClassificationTask):
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


@dataclass(frozen=True)
class NoisyLag(ClassificationTask):
    """The same with random symbols between (Hochreiter & Schmidhuber 1997, experiments 2b and 2c), of lag p = `lag`.

    Experiment 2b: x or y, then p - 1 symbols of a_1, ..., a_{p-1}, each drawn by chance, then the first again. It is
    to be told after the last of them: class 0 for x, 1 for y; nothing else can be. Experiment 2c, `open_end`: b, x or
    y, then p symbols of a_1, ..., a_p and, after these and every further one, another with probability 0.9 or else e,
    which asks for the x or y; so the lag is p + 10 on average and never known beforehand. Symbols are numbered a_1,
    ..., x, y, b, e.

    Departures: the paper's networks are to tell every next symbol, of which all but this one are chance.
    """

    lag: int = 100
    open_end: bool = False
    chance: ClassVar[float] = 0.5
    output_size: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check("the lag", self.lag, 2)

    @property
    def distractors(self) -> int:
        """The number of distractor symbols."""
        return self.lag if self.open_end else self.lag - 1

    @property
    def input_size(self) -> int:
        return self.distractors + (4 if self.open_end else 2)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        keys, begin = between(0, 1, rows, generator), int(self.open_end)
        lengths = torch.full((rows,), self.lag)
        if self.open_end:  # b and e, and how often 0.9 came before 0.1
            more = (1 - torch.rand(rows, generator=generator, dtype=torch.float64)).log() / math.log(0.9)
            lengths = lengths + 3 + more.long()
        symbols = torch.randint(self.distractors, (int(lengths.max()), rows), generator=generator)
        symbols[begin] = self.distractors + keys
        last = at(lengths - 1, lengths)
        if self.open_end:
            symbols[0] = self.distractors + 2
            symbols = symbols.masked_fill(last, self.distractors + 3)
        inputs = F.one_hot(symbols, self.input_size) * before(lengths)[..., None]
        return Batch(inputs.float(), keys * last, last, lengths)
