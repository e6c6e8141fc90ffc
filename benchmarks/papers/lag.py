"""The noise-free lag of 100 steps: the last symbol equals the first.

    python benchmarks/papers/lag.py             # 10 seeds, 20 seconds

Hochreiter & Schmidhuber 1997, experiment 2a. As in the paper (from memory, unconfirmed), the output also reads the
input directly, and the memory cells are added once the error has stopped decreasing without them. They are original
cells, without a forget gate, and output their memory without an activation. Departures: Adam instead of SGD, two
sequences per step, four cells with an output gate instead of one without.
"""

from common import arguments, generator, table, train
from torch import Tensor, nn

import conveyor
from conveyor import zoo
from conveyor.tasks import Batch, Lag

PUBLISHED = "18 of 18 at 5,040 sequences; plain networks: none"
ALONE = 250  # steps without the memory


class Direct(nn.Module):
    """Predicts the next symbol from the current one, without a memory."""

    def __init__(self, task: Lag):
        super().__init__()
        self.direct = nn.Linear(task.input_size, task.output_size)

    def forward(self, batch: Batch) -> Tensor:
        return self.direct(batch.inputs)


class WithMemory(Direct):
    """The direct connection and memory cells."""

    def __init__(self, task: Lag, cell: type[conveyor.Cell], hidden: int, **options: str):
        super().__init__(task)
        self.layer = conveyor.Recurrent(cell, task.input_size, hidden, **options)
        self.readout = nn.Linear(hidden, task.output_size, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) + self.readout(self.layer(batch.inputs)[0])


def original(task: Lag) -> WithMemory:
    network = WithMemory(task, zoo.OriginalLSTM, 4, g="tanh", h="identity")
    nn.init.constant_(network.layer.cell.input.bias, -3)  # the gate starts shut: the memory does not drift
    return network


def plain(task: Lag) -> WithMemory:
    return WithMemory(task, zoo.RNN, 4)


def sequences(seed: int, make=original, lag: int = 100, budget: int = 5_040) -> int | None:
    """The number of sequences until all outputs are within 0.25 of the target."""
    task, random = Lag(lag), generator(seed)
    both = task.both()
    alone, network = Direct(task), make(task)
    train(alone, task, lambda: task.draw(2, random), ALONE, rate=0.1)
    network.direct.load_state_dict(alone.direct.state_dict())
    seen = train(
        network,
        task,
        lambda: task.draw(2, random),
        budget // 2 - ALONE,
        rate=0.02,
        done=lambda: task.error(network(both), both) < 0.25,
        every=10,
    )
    return seen and seen + 2 * ALONE


if __name__ == "__main__":
    given = arguments(10, __doc__)
    table(
        "noise-free lag p = 100, original LSTM: sequences until solved (bar: 5,040)", PUBLISHED, sequences, given.seeds
    )
    table("the same, tanh RNN", PUBLISHED, lambda seed: sequences(seed, plain), given.seeds)
