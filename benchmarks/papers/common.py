"""Shared by the scripts: a network of one layer, its training loop, and the table of results."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import conveyor
from conveyor.tasks import Batch, Task
from conveyor.training import train as applications
from conveyor.training.progress import Lines
from conveyor.training.settings import TrainingSettings


def generator(seed: int) -> torch.Generator:
    """A generator for the sequences; also seeds PyTorch's global generator, which initialises the weights."""
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


class Network(nn.Module):
    """One layer of a cell and a linear map of its output, with the sizes of a task. `biases`: initial gate biases."""

    def __init__(
        self, cell: type[conveyor.Cell], task: Task, hidden: int, biases: dict[str, float] | None = None, **options: Any
    ):
        super().__init__()
        self.layer = conveyor.Recurrent(cell, task.input_size, hidden, **options)
        self.readout = nn.Linear(hidden, task.output_size)
        for gate, bias in (biases or {}).items():
            nn.init.constant_(getattr(self.layer.cell, gate).bias, bias)

    def forward(self, batch: Batch) -> Tensor:
        """[T, B, task.output_size]"""
        output, _ = self.layer(batch.inputs, lengths=batch.lengths)
        return self.readout(output)


def train(
    network: nn.Module,
    task: Task,
    draw: Callable[[], Batch],
    steps: int,
    rate: float,
    done: Callable[[], bool] = lambda: False,
    every: int = 100,
    decay: bool = False,
    judged: Callable[[Tensor, Batch], Batch] = lambda _, batch: batch,
) -> int | None:
    """Trains by Adam with gradients clipped to norm 1; the number of sequences until `done`, or None if never.

    `done` is called every `every` steps. `decay`: the learning rate decays along a cosine to a twentieth. `judged` maps
    the outputs and the batch to the batch for the loss.
    """
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, rate / 20 if decay else rate)
    seen = 0
    for step in range(1, steps + 1):
        batch = draw()
        seen += len(batch.lengths)
        optimizer.zero_grad()
        outputs = network(batch)
        task.loss(outputs, judged(outputs, batch)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0:
            with torch.no_grad():
                if done():
                    return seen
    return None


def arguments(seeds: int, description: str | None) -> argparse.Namespace:
    """Parses --seeds and --quick, and sets one thread: small networks gain nothing from more."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"use seeds 0 to N - 1 (default: {seeds}, with --quick 2)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer seeds, and a smaller version if there is one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    count = given.seeds if given.seeds is not None else 2 if given.quick else seeds
    return argparse.Namespace(seeds=range(count), quick=given.quick)


def trained(kind: type[Any], settings: TrainingSettings) -> dict[str, float]:
    """Trains an application of `conveyor run`; its figures, and the seconds as `time`."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if applications.start(kind, settings, Path(folder) / "run", Lines("sample", seconds=30)).signal:
            raise SystemExit("interrupted: the last training has no figures")
        found = json.loads((Path(folder) / "run" / "results" / "figures.json").read_text())
    return found | {"time": time.perf_counter() - began}


def table(
    finding: str, published: str, measure: Callable[[int], str | float | None], seeds: Sequence[int]
) -> list[Any]:
    """Measures every seed and prints the published result, the result of each seed, and the time."""
    print(f"\n{finding}\n  published: {published}", flush=True)
    began, found = time.perf_counter(), []
    for seed in seeds:
        found.append(measure(seed))
        print(f"  seed {seed}: {shown(found[-1])}", flush=True)
    numbers = [value for value in found if isinstance(value, int | float)]
    if numbers:
        print(f"  {len(numbers)} of {len(found)} seeds; median {shown(statistics.median(numbers))}", end="; ")
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    return found


def shown(value: Any) -> str:
    if value is None:
        return "not within the budget"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
