"""A large initial forget bias speeds up the learning of long lags: forget bias 1 against 0 and a random one.

    python benchmarks/papers/forget_bias.py     # 5 seeds of 4 biases, 8 minutes

Jozefowicz, Zaremba & Sutskever 2015 (and Gers et al. 2000); they measured other tasks, where bias 1 closed the gap to
the GRU. Here: temporal order with two signs, 50 to 55 steps (half the length of experiment 6a of Hochreiter &
Schmidhuber 1997), Adam, batches of 32, 16 cells. The random bias is PyTorch's, uniform in +-1/4. Bias 5 shows that a
longer lag needs more than 1: a gate with bias b keeps the memory for about e^b steps.
"""

from functools import partial

from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import TemporalOrder

PUBLISHED = "bias 1 better than a random one on every task; no figure for this task"


def sequences(seed: int, bias: float | None, steps: int = 4000) -> int | None:
    """How many sequences were seen when 99.9% of 1,000 others were right."""
    task, random = TemporalOrder(((5, 10), (25, 30)), 50, 55), generator(seed)
    network = Network(zoo.LSTM, task, 16, {} if bias is None else {"forget": bias})
    test = task.draw(1000, random)
    return train(
        network,
        task,
        lambda: task.draw(32, random),
        steps,
        rate=0.01,
        done=lambda: task.correct(network(test), test).float().mean().item() >= 0.999,
        every=50,
    )


if __name__ == "__main__":
    given = arguments(5, __doc__)
    for bias in (None, 0.0, 1.0, 5.0):
        name = "random" if bias is None else f"{bias:.0f}"
        table(f"forget bias {name}: sequences until solved", PUBLISHED, partial(sequences, bias=bias), given.seeds)
