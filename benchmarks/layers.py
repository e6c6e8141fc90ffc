"""How long the layers take beside `torch.nn`'s: medians of interleaved runs, and the bare matrix products.

    python benchmarks/layers.py                     # 10 seconds
    python benchmarks/layers.py --threads 2

A training step is forward and backward. In brackets are the cell's matrix products by themselves, by torch.matmul, all
gates in one product a step, three times as many with backward. It is what the loop cannot beat with these products;
torch.nn's kernel has others, which are faster on some machines.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import conveyor

SHAPES = [(100, 1, 128, 128), (100, 16, 64, 64), (100, 16, 256, 256), (100, 64, 128, 128), (64, 32, 192, 192)]


def training_step(layer: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        layer.zero_grad()
        layer(x)[0].sum().backward()

    return run


def inference(layer: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            layer(x)

    return run


def products(steps: int, batch: int, inputs: int, hidden: int, training: bool) -> Callable[[], None]:
    """The products alone: over all steps for the input, one a step for the state; three times as much with backward."""
    x, h = torch.randn(steps * batch, inputs), torch.randn(batch, hidden)
    W_x, W_h = torch.randn(inputs, 4 * hidden), torch.randn(hidden, 4 * hidden)

    def run() -> None:
        for _ in range(3 if training else 1):
            x @ W_x
            for _ in range(steps):
                h @ W_h

    return run


def medians(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each, all of them in turn in every round, so that a slow moment of the machine hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("times as long as torch.nn.LSTM; in brackets the matrix products alone")
    print(f"{'T, B, I, H':>20}  {'training':>16}  {'inference':>16}")
    for steps, batch, inputs, hidden in SHAPES:
        theirs = torch.nn.LSTM(inputs, hidden)
        ours = conveyor.LSTM.from_torch(theirs)
        x = torch.randn(steps, batch, inputs)
        cells = []
        for make in (training_step, inference):
            bare = products(steps, batch, inputs, hidden, make is training_step)
            runs = {"theirs": make(theirs, x), "ours": make(ours, x), "products": bare}
            took = medians(runs, arguments.rounds)
            cells.append(f"{took['ours'] / took['theirs']:8.2f} ({took['products'] / took['theirs']:.2f})")
        print(f"{f'{steps}, {batch}, {inputs}, {hidden}':>20}  {cells[0]:>16}  {cells[1]:>16}")


if __name__ == "__main__":
    main()
