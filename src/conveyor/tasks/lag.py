"""Long time lags: the last symbol of a sequence equals its first; those between are always the same, or random."""

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
    """The noise-free task with long time lags (Hochreiter & Schmidhuber 1997, experiment 2a), with lag p = `lag`.

    There are two sequences of p + 1 symbols: x, a_1, ..., a_{p-1}, x and y, a_1, ..., a_{p-1}, y. Each is drawn with
    probability 1/2. The target at every step is the next symbol; only the last one requires memory. The symbols have
    the indices 0, 1, ... in the order a_1, ..., a_{p-1}, x, y. The paper counts the task as learnt when every output
    error is below 0.25; `error` returns the largest.
    """

    lag: int = 100
    chance: ClassVar[float] = 0.5  # only the last symbol is uncertain

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
        """Both sequences, as one batch."""
        return self.batch(torch.tensor([0, 1]))

    def batch(self, keys: Tensor) -> Batch:
        """The sequences with these first symbols, [B]: 0 for x, 1 for y."""
        keys = self.lag - 1 + keys[None]
        between = torch.arange(self.lag - 1)[:, None].expand(-1, keys.shape[1])
        symbols = torch.cat([keys, between, keys])  # [p + 1, B]
        inputs, targets = F.one_hot(symbols[:-1], self.lag + 1).float(), symbols[1:]
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool), torch.full(keys[0].shape, self.lag))

    def error(self, outputs: Tensor, batch: Batch) -> float:
        """The largest absolute error of a predicted probability, over all steps and symbols."""
        wanted = F.one_hot(batch.targets, self.output_size)
        return float((outputs.softmax(-1) - wanted).abs().max())


@dataclass(frozen=True)
class NoisyLag(ClassificationTask):
    """Long time lags with noise (Hochreiter & Schmidhuber 1997, experiments 2b and 2c), with lag p = `lag`.

    Experiment 2b: a sequence is x or y, then p - 1 random symbols from a_1, ..., a_{p-1}, then the first symbol again.
    That symbol is predicted after the last random one, as class 0 for x or 1 for y. Nothing else can be predicted.

    Experiment 2c, `open_end`: a sequence is b, x or y, then p random symbols from a_1, ..., a_p. After these, and after
    each further one, another follows with probability 0.9; otherwise e follows, at which the x or y is predicted. So
    the lag is p + 10 on average and never known beforehand. The symbols have the indices 0, 1, ... in the order a_1,
    ..., x, y, b, e.

    Departures from the paper: its networks predict every next symbol, although all but this one are random.
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
        if self.open_end:  # b, e, and a geometric number of further symbols
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
