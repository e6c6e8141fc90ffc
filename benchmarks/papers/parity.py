"""Parity of 100 bits given all at once, by a Grid LSTM over depth alone (1-LSTM) with tied layers.

    python benchmarks/papers/parity.py          # 5 seeds of 2 starts, 3 minutes

Kalchbrenner, Danihelka & Graves 2015. Departures: Adam with batches of 64 instead of Adagrad, 128 units, 10 layers, and
the initialisation of the projections: all bits have the same weight in a unit, so that a unit initially reads the
number of ones. From a random projection nothing is learned within the budget: the effect of a single bit is lost in the
noise of a batch. We do not know how the paper initialises its projections.
"""

import torch
from common import arguments, generator, table, train
from torch import Tensor, nn

from conveyor import zoo
from conveyor.tasks import Batch, Parity

PUBLISHED = "up to 250 bits"


class Grid(nn.Module):
    """A tied 1-LSTM and a linear map of its output. `even`: all bits have the same initial weight in a unit."""

    def __init__(self, task: Parity, hidden: int, layers: int, even: bool):
        super().__init__()
        self.grid = zoo.DepthLSTM(task.bits, hidden, layers, tied=True)
        self.readout = nn.Linear(hidden, task.output_size)
        for projection in (self.grid.hidden, self.grid.memory) if even else ():
            with torch.no_grad():
                projection.weight.copy_(torch.randn(hidden, 1).expand(-1, task.bits) / 2)
                # Each unit is steepest at a different count, near half of the bits.
                count = task.bits / 2 + 1.5 * task.bits**0.5 * (2 * torch.rand(hidden) - 1)
                projection.bias.copy_(-projection.weight[:, 0] * count)

    def forward(self, batch: Batch) -> Tensor:
        """[T, B, 2]: all bits are given at once, so the output is the same at every step."""
        return self.readout(self.grid(batch.inputs[..., 0].t())).expand(len(batch.inputs), -1, -1)


def sequences(seed: int, even: bool = True, bits: int = 100, steps: int = 8000) -> int | None:
    """The number of strings until 99% of 1,000 others are right."""
    task, random = Parity(bits), generator(seed)
    network = Grid(task, 128, 10, even)
    test = task.draw(1000, random)
    return train(
        network,
        task,
        lambda: task.draw(64, random),
        steps,
        rate=0.002,
        done=lambda: task.correct(network(test), test).float().mean().item() >= 0.99,
        decay=True,
    )


if __name__ == "__main__":
    given = arguments(5, __doc__)
    bits = 20 if given.quick else 100
    for start, even in [("even", True), ("random", False)]:
        table(
            f"parity of {bits} bits, tied 1-LSTM, {start} start: strings until 99% of 1,000 are right",
            PUBLISHED,
            lambda seed, even=even: sequences(seed, even, bits),
            given.seeds,
        )
