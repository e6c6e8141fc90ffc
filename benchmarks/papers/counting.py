"""Counting: a^n b^n c^n trained up to n = 10, and how far it generalises.

    python benchmarks/papers/counting.py        # 10 seeds of each language, 8 minutes

Gers & Schmidhuber 2001. Departures: Adam with all ten strings per step instead of online SGD; 5 original LSTM cells (no
forget gate, tanh) instead of their peephole LSTM: a memory that only accumulates counts furthest here.
"""

from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import Counting

PUBLISHED = {
    2: "n <= 10 trained, up to 1,000 at best (from memory, unconfirmed)",
    3: "n <= 10 trained, up to 52 (from memory, unconfirmed)",
}


def counted(seed: int, letters: int = 3, steps: int = 8000, top: int = 300) -> int:
    """The largest n up to which every string is right at every step; at most `top`."""
    task = Counting(letters)
    generator(seed)
    network = Network(zoo.OriginalLSTM, task, 5, {"input": -1.0}, g="tanh", h="tanh")
    learn, test = task.strings(list(range(1, 11))), task.strings(list(range(1, top + 1)))
    train(network, task, lambda: learn, steps, rate=0.01, decay=True)
    return task.counted(task.correct(network(test), test))


if __name__ == "__main__":
    given = arguments(10, __doc__)
    for letters, bar in [(2, 100), (3, 50)]:
        language = "".join(f"{letter}^n " for letter in "abc"[:letters]).strip()
        table(
            f"{language} trained up to n = 10: how far it counts (bar: {bar})",
            PUBLISHED[letters],
            lambda seed, letters=letters: counted(seed, letters, 3000 if given.quick else 8000),
            given.seeds,
        )
