"""Time measured and time kept: spikes whose distance is to be told, and spikes to be made at a distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, MultiLabelTask, RegressionTask, check


@dataclass(frozen=True)
class _Spikes:
    """Spike trains: the n-th spike comes F + I(n) steps after the one before, F = `distance`, I(n) one of `delays`."""

    distance: int = 10
    delays: tuple[int, ...] = (0, 1)
    spikes: int = 10
    chance: ClassVar[float] = 1.0  # at the first spike nothing has been told
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("the distance of spikes", self.distance, 1)
        check("the number of spikes", self.spikes, 1)
        if not self.delays:
            raise BadInput("delays is the whole numbers that I(n) is drawn from, such as (0, 1), not an empty tuple")
        for delay in self.delays:
            check("a delay", delay, 0)

    def train(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where the spikes are, [T, B], and the delay of the interval that each step belongs to, [T, B].

        The last step of an interval is its spike's. All rows have the steps that the largest delays would take.
        """
        check("rows", rows, 1)
        steps = self.spikes * (self.distance + max(self.delays))
        count = -(-steps // (self.distance + min(self.delays)))  # so many that every row is full
        which = torch.randint(len(self.delays), (count, rows), generator=generator)
        delays = torch.tensor(self.delays)[which]
        ends = (self.distance + delays).cumsum(0)  # [count, B], the steps after each spike
        interval = (torch.arange(steps)[:, None, None] >= ends).sum(1)  # [T, B], its number
        spikes = (torch.arange(1, steps + 1)[:, None, None] == ends).any(1)
        return spikes, delays.gather(0, interval)


@dataclass(frozen=True)
class MeasuredSpikes(_Spikes, RegressionTask):
    """Measuring spike delays (Gers, Schraudolph & Schmidhuber 2002): told at each spike, how late did it come?

    The input is 1 at a spike, else 0; at the n-th spike the target is its delay I(n), and only there it is judged.
    Right if no error reaches 0.49. (From memory, unconfirmed: that nothing is asked between spikes.)
    """

    tolerance: ClassVar[float] = 0.49

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        spikes, delays = self.train(rows, generator)
        targets = delays.float() * spikes
        return Batch(spikes.float()[..., None], targets[..., None], spikes, torch.full((rows,), len(spikes)))


@dataclass(frozen=True)
class GeneratedSpikes(_Spikes, MultiLabelTask):
    """Generating timed spikes (Gers, Schraudolph & Schmidhuber 2002): a spike is to be made at the right step.

    Input and target of the task above change places: all through the n-th interval the input is I(n), and the target is
    1 at its last step, else 0. Right if the output is on the right side of 1/2 (of 0, before the logistic function) at
    every step; the paper asks for an error below 0.49. How I(n) is given is our reading: its paper was not at hand.
    With `delays=(0,)` there is no input at all, and a spike comes every F steps.
    """

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        spikes, delays = self.train(rows, generator)
        mask = torch.ones_like(spikes)
        return Batch(delays.float()[..., None], spikes.float()[..., None], mask, torch.full((rows,), len(spikes)))
