"""Embedded Reber grammar: every legal next symbol, and the T or P that was told at the beginning.

    python benchmarks/papers/reber.py           # 10 seeds, 1 minute

Hochreiter & Schmidhuber 1997, experiment 1: 256 strings to learn from, 256 to test with, one string a step. Departures:
Adam for their SGD; cells with a forget gate, which starts open; 16 of them in place of 3 x 2 or 4 x 1; the strings of a
test are all that is asked for success, at every step: no symbol that may not come is as likely as one that may, and the
outer T or P is right.
"""

import torch
from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import Reber

PUBLISHED = "100% at 8,440 sequences (3 x 2 cells, rate .5; from memory, unconfirmed)"


def sequences(seed: int, budget: int = 10_000) -> int | None:
    """How many strings were seen when every test string was right for the first time."""
    task, random = Reber(), generator(seed)
    learn, test = task.draw(256, random), task.draw(256, random)
    network = Network(zoo.ForgetBiasLSTM, task, 16)

    def solved() -> bool:
        outputs = network(test)
        return bool((task.correct(outputs, test) & task.outer(outputs, test)).all())

    def draw():  # one string of those to learn from
        return learn.rows(torch.randint(256, (1,), generator=random))

    return train(network, task, draw, budget, rate=0.02, done=solved, every=100)


if __name__ == "__main__":
    given = arguments(10, __doc__)
    table("embedded Reber grammar, LSTM: strings until all is legal (bar: 10,000)", PUBLISHED, sequences, given.seeds)
