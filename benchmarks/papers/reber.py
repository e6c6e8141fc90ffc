"""Embedded Reber grammar: predict every legal next symbol, and repeat the T or P from the beginning.

    python benchmarks/papers/reber.py           # 10 seeds, 1 minute

Hochreiter & Schmidhuber 1997, experiment 1: 256 training strings, 256 test strings, one string per step. Departures:
Adam instead of SGD; cells with a forget gate and a large initial forget bias; 16 of them instead of 3 x 2 or 4 x 1;
success requires only the test strings: at every step each legal symbol must be more likely than each illegal one, and
the outer T or P must be right.
"""

import torch
from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import Reber

PUBLISHED = "100% at 8,440 sequences (3 x 2 cells, rate .5; from memory, unconfirmed)"


def sequences(seed: int, budget: int = 10_000) -> int | None:
    """The number of strings until every test string is right for the first time."""
    task, random = Reber(), generator(seed)
    learn, test = task.draw(256, random), task.draw(256, random)
    network = Network(zoo.ForgetBiasLSTM, task, 16)

    def solved() -> bool:
        outputs = network(test)
        return bool((task.correct(outputs, test) & task.outer(outputs, test)).all())

    def draw():  # one of the training strings
        return learn.rows(torch.randint(256, (1,), generator=random))

    return train(network, task, draw, budget, rate=0.02, done=solved, every=100)


if __name__ == "__main__":
    given = arguments(10, __doc__)
    table("embedded Reber grammar, LSTM: strings until all is legal (bar: 10,000)", PUBLISHED, sequences, given.seeds)
