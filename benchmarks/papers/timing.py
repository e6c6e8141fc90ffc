"""Timed spikes: does an LSTM need peepholes to generate them?

    python benchmarks/papers/timing.py          # 10 seeds of 4 networks, 6 minutes

Gers, Schraudolph & Schmidhuber 2002: generate spikes at intervals of 10 or 11 steps, as the input indicates. As in the
paper, a sequence ends at the first wrong step, the inputs and outputs of the cells have no activation function, and the
gradient through time flows through the memory only: it is truncated where gates and cells read h and C. The script also
runs the exact gradient, which later papers use. Departures: Adam with 16 sequences of 10 spikes per step instead of SGD
with momentum; 4 cells instead of one (one cell never succeeded here, with or without peepholes; at a constant interval
of 10, from two initialisations, 6 of 20 seeds succeeded with them and 5 of 20 without); how the input indicates the
interval is a guess. A network succeeds if 20 sequences of 100 spikes are right at every step; the budget is 64,000
sequences.
"""

from dataclasses import replace

from common import Network, arguments, generator, table, train
from torch import Tensor, sigmoid

import conveyor
from conveyor.tasks import Batch, GeneratedSpikes

PUBLISHED = "with peepholes all runs; without them not possible, so not shown"


class Peepholes(conveyor.Cell):
    """The LSTM of that paper, with the exact gradient: h_t = o_t * C_t, C̃_t = W_C · [h_{t-1}, x_t] + b_C."""

    state = ("h", "C")
    peephole = "diagonal"

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.forget = self.affine("C", "h", "x", C=self.peephole)
        self.input = self.affine("C", "h", "x", C=self.peephole)
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x", C=self.peephole)

    def read(self, value: Tensor) -> Tensor:
        return value

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        h, before = self.read(h), self.read(C)
        f = sigmoid(self.forget(before, h, x))
        i = sigmoid(self.input(before, h, x))
        C = f * C + i * self.candidate(h, x)
        o = sigmoid(self.output(self.read(C), h, x))
        return o * C, C


class NoPeepholes(Peepholes):
    """Without peepholes."""

    peephole = "zero"


class CutPeepholes(Peepholes):
    """With the gradient truncated where h and C are read."""

    def read(self, value: Tensor) -> Tensor:
        return value.detach()


class CutNoPeepholes(CutPeepholes):
    """Without peepholes, and with the truncated gradient."""

    peephole = "zero"


def up_to_the_first_error(outputs: Tensor, batch: Batch) -> Batch:
    """The batch, evaluated at its steps up to and including the first wrong one."""
    wrong = ((outputs > 0) != batch.targets.bool()).squeeze(-1)
    earlier = wrong.long().cumsum(0) - wrong.long()
    return replace(batch, mask=earlier == 0)


def sequences(seed: int, cell: type[conveyor.Cell], steps: int = 4000) -> int | None:
    """The number of sequences until 20 sequences of 100 spikes are right."""
    task, random = GeneratedSpikes(10, (0, 1), 10), generator(seed)
    network = Network(cell, task, 4, {"forget": 1.0, "input": 0.0, "output": 0.0})
    test = GeneratedSpikes(10, (0, 1), 100).draw(20, random)
    return train(
        network,
        task,
        lambda: task.draw(16, random),
        steps,
        rate=0.01,
        done=lambda: bool(task.correct(network(test), test).all()),
        every=50,
        decay=True,
        judged=up_to_the_first_error,
    )


if __name__ == "__main__":
    given = arguments(10, __doc__)
    for name, cell in [
        ("with peepholes, truncated gradient", CutPeepholes),
        ("without peepholes, truncated gradient", CutNoPeepholes),
        ("with peepholes, exact gradient", Peepholes),
        ("without peepholes, exact gradient", NoPeepholes),
    ]:
        title = f"timed spikes, LSTM {name}: sequences until they are right"
        table(title, PUBLISHED, lambda seed, cell=cell: sequences(seed, cell), given.seeds)
