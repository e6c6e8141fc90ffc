"""A wave of 320 steps generated without input: the clockwork RNN's error against the LSTM's at equal parameter counts.

    python benchmarks/papers/wave.py            # 5 seeds of 3 networks, 6 minutes

Koutník, Greff, Gomez & Schmidhuber 2014, section 4.1. Departures: the wave is a sum of six random sines, different for
every seed, instead of recorded music; Adam instead of SGD with Nesterov momentum. About 450 parameters each, equal to
within 5%; the LSTM's forget bias is 5, as in the paper (from memory, unconfirmed).
"""

import statistics
from functools import partial

from common import Network, arguments, generator, table, train

from conveyor import zoo
from conveyor.tasks import Wave

PUBLISHED = "clockwork .007 (+-.004), LSTM .04 (+-.01), plain .46 (+-.08) (from memory, unconfirmed)"
PERIODS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
NETWORKS = {
    "clockwork RNN": (zoo.ClockworkRNN, 27, {}, {"periods": PERIODS}),
    "LSTM": (zoo.LSTM, 10, {"forget": 5.0}, {}),
    "tanh RNN": (zoo.RNN, 20, {}, {}),
}


def make(name: str, task: Wave) -> Network:
    cell, hidden, biases, options = NETWORKS[name]
    return Network(cell, task, hidden, biases, **options)


def parameters(network: Network) -> int:
    """The number of parameters without the weights of the input, which is zero."""
    return sum(value.numel() for name, value in network.named_parameters() if not name.endswith("weight_x"))


def error(seed: int, name: str, steps: int = 5000) -> float:
    """The mean squared error divided by the wave's variance."""
    task, random = Wave(), generator(seed)
    network, wave = make(name, task), task.draw(1, random)
    train(network, task, lambda: wave, steps, rate=0.01, decay=True)
    return task.error(network(wave), wave).item()


if __name__ == "__main__":
    given = arguments(5, __doc__)
    medians = {}
    for name in NETWORKS:
        title = f"320-step wave, {name}, {parameters(make(name, Wave()))} parameters: normalised squared error"
        measure = partial(error, name=name, steps=1000 if given.quick else 5000)
        medians[name] = statistics.median(table(title, PUBLISHED, measure, given.seeds))
    print(f"\nLSTM / clockwork: {medians['LSTM'] / medians['clockwork RNN']:.1f} (bar: 5)")
