"""Temporal order: which signs occurred, and in which order, 40 to 100 steps later.

    python benchmarks/papers/temporal_order.py  # 10 seeds of 6a and of 6b, 2 minutes

Hochreiter & Schmidhuber 1997, experiments 6a (two signs) and 6b (three). Departures: Adam with batches of 32 instead of
online SGD; a forget gate, which they do not have, with initial bias 5; 16 cells instead of 2 x 2 and 3 x 2. The input
gates have initial bias -2, as in the paper.
"""

from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import TemporalOrder
from conveyor.tasks.temporal_order import THREE, TWO

PUBLISHED = {"6a": "31,390 sequences, 1 of 2,560 wrong", "6b": "571,100 sequences, 2 of 2,560 wrong"}


def sequences(seed: int, windows=TWO, steps: int = 4000) -> int | None:
    """The number of sequences until 99.9% of 2,560 others are right."""
    task, random = TemporalOrder(windows), generator(seed)
    network = Network(zoo.LSTM, task, 16, {"forget": 5.0, "input": -2.0})
    test = task.draw(2560, random)
    return train(
        network,
        task,
        lambda: task.draw(32, random),
        steps,
        rate=0.005,
        done=lambda: task.correct(network(test), test).float().mean().item() >= 0.999,
        every=50,
        decay=True,
    )


if __name__ == "__main__":
    given = arguments(10, __doc__)
    for name, windows in [("6a", TWO)] if given.quick else [("6a", TWO), ("6b", THREE)]:
        table(
            f"temporal order {name}, LSTM: sequences until 99.9% of 2,560 are right",
            PUBLISHED[name],
            lambda seed, windows=windows: sequences(seed, windows),
            given.seeds,
        )
