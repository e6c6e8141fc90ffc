"""The adding problem with 100 steps: an LSTM learns it, a plain network does not.

    python benchmarks/papers/adding.py          # 5 seeds, 4 minutes; --quick: 50 steps

Hochreiter & Schmidhuber 1997, experiment 4. Departures: Adam with batches of 32 instead of online SGD; a forget gate,
which they do not have, with initial bias 5; 8 cells instead of 2 x 2. As in the paper, the input gates have initial
bias -3. Squared errors refer to X_1 + X_2 and are 16 times those of the paper's target. The bar of .005 refers to them;
a constant output has 0.62.
"""

from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import Adding

PUBLISHED = "74,000 sequences, then 1 of 2,560 wrong (from memory, unconfirmed); a later run of others: .0007, RNN .07"
OPEN = {"forget": 5.0, "input": -3.0}


def errors(seed: int, cell=zoo.LSTM, biases=OPEN, length: int = 100, steps: int = 3000) -> tuple[float, int]:
    """The mean squared error of the sum on 2,560 new sequences, and how many of them the paper calls wrong."""
    task, random = Adding(length), generator(seed)
    network = Network(cell, task, 8, biases)
    train(network, task, lambda: task.draw(32, random), steps, rate=0.01, decay=True)
    test = task.draw(2560, random)
    outputs = network(test).detach()
    return 16 * task.loss(outputs, test).item(), int((~task.correct(outputs, test)).sum())


def summary(found: tuple[float, int]) -> str:
    return f"squared error {found[0]:.5f}, {found[1]} of 2,560 wrong"


if __name__ == "__main__":
    given = arguments(5, __doc__)
    length, steps = (50, 1500) if given.quick else (100, 3000)
    for name, cell, biases in [("LSTM", zoo.LSTM, OPEN), ("tanh RNN", zoo.RNN, {})]:
        table(
            f"adding, T = {length}, {name}, after {32 * steps:,} sequences (bar for the LSTM: .005)",
            PUBLISHED,
            lambda seed, cell=cell, biases=biases: summary(errors(seed, cell, biases, length, steps)),
            given.seeds,
        )
