"""Timing: measure the delay between spikes, or generate spikes at given delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, MultiLabelTask, RegressionTask, check


@dataclass(frozen=True)
class _Spikes:
    """Spike trains: the n-th spike follows the previous one after F + I(n) steps.

    F is `distance`; each delay I(n) is drawn from `delays`.
    """

    distance: int = 10
    delays: tuple[int, ...] = (0, 1)
    spikes: int = 10
    chance: ClassVar[float] = 1.0  # the delay cannot be known without counting steps
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("the distance of spikes", self.distance, 1)
        check("the number of spikes", self.spikes, 1)
        if not self.delays:
            raise BadInput("delays must be whole numbers that I(n) is drawn from, such as (0, 1), not an empty tuple")
        for delay in self.delays:
            check("a delay", delay, 0)

    def train(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The mask of the spikes, [T, B], and the delay of the interval that contains each step, [T, B].

        The spike is at the last step of its interval. T is the number of steps that the largest delays need.
        """
        check("rows", rows, 1)
        steps = self.spikes * (self.distance + max(self.delays))
        count = -(-steps // (self.distance + min(self.delays)))  # enough to fill every row
        which = torch.randint(len(self.delays), (count, rows), generator=generator)
        delays = torch.tensor(self.delays)[which]
        ends = (self.distance + delays).cumsum(0)  # [count, B], the step after each spike
        interval = (torch.arange(steps)[:, None, None] >= ends).sum(1)  # [T, B], index of the interval
        spikes = (torch.arange(1, steps + 1)[:, None, None] == ends).any(1)
        return spikes, delays.gather(0, interval)


@dataclass(frozen=True)
class MeasuredSpikes(_Spikes, RegressionTask):
    """Measuring spike delays (Gers, Schraudolph & Schmidhuber 2002): predict the delay of each spike when it occurs.

    The input is 1 at a spike and 0 elsewhere. The target at the n-th spike is its delay I(n); other steps do not count.
    A sequence is correct if every error is below 0.49. (From memory, unconfirmed: that steps between spikes do not
    count.)
    """

    tolerance: ClassVar[float] = 0.49

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        spikes, delays = self.train(rows, generator)
        targets = delays.float() * spikes
        return Batch(spikes.float()[..., None], targets[..., None], spikes, torch.full((rows,), len(spikes)))


@dataclass(frozen=True)
class GeneratedSpikes(_Spikes, MultiLabelTask):
    """Generating timed spikes (Gers, Schraudolph & Schmidhuber 2002): output a spike at the correct step.

    The n-th spike follows the previous one after F + I(n) steps, where F is `distance` and I(n) is drawn from `delays`.
    Throughout the n-th interval the input is I(n). The target is 1 at its last step and 0 elsewhere. A sequence is
    correct if every output is on the correct side of 1/2 (of 0, before the logistic function); the paper requires an
    error below 0.49. How the paper presents I(n) is our guess, since it was not at hand. With `delays=(0,)` the input
    is always 0, and a spike occurs every F steps.
    """

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        spikes, delays = self.train(rows, generator)
        mask = torch.ones_like(spikes)
        return Batch(delays.float()[..., None], spikes.float()[..., None], mask, torch.full((rows,), len(spikes)))
