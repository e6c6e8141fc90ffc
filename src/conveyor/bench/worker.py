"""The measuring process, with one number of threads for all libraries.

It reads its tasks from standard input and writes its results to standard output, as lines of JSON.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from conveyor.bench import machine
from conveyor.bench.compilation import compilation_seconds
from conveyor.bench.contenders import CONTENDERS, CURES, OURS, Run, TorchRun, Work, reason
from conveyor.bench.cost import Cost
from conveyor.bench.memory import saved_bytes
from conveyor.bench.plan import Shape, Task, processors
from conveyor.bench.recurrence import recurrence
from conveyor.bench.results import Row
from conveyor.bench.timing import interleaved
from conveyor.zoo.find import find

Tell = Callable[..., None]


def run_tasks(tasks: list[Task], contenders: tuple[str, ...], seconds: float, threads: int, tell: Tell) -> None:
    """Measures the machine and each of the tasks, and reports each result at once."""
    pinned = pin(threads)
    torch.set_num_threads(threads)
    figures = machine.measure(threads, pinned, processors()[:threads])
    tell(machine=asdict(figures))
    for name in dict.fromkeys(task.cell for task in tasks if "kernel" in contenders):
        tell(compilation={name: compilation_seconds(name)})
    for task in tasks:
        tell(begun=str(task))
        row = measure(task, contenders, seconds, figures, tell)
        tell(row=asdict(row))


def measure(task: Task, contenders: tuple[str, ...], seconds: float, figures: machine.Machine, tell: Tell) -> Row:
    """Measures all contenders on one task."""
    row, training = Row.of(task, figures.threads), task.mode == "training"
    try:
        work = Work.make(find(task.cell), task.shape, training)
    except Exception as error:  # out of memory, or a user's own cell that fails at this size
        row.failed = dict.fromkeys(contenders, reason(error))
        return row
    runs = prepare(work, contenders, row, tell)
    if not set(runs) & set(OURS):  # the ratios need a baseline: what this library would run by default
        runs |= prepare(work, tuple({"eager"} - set(contenders)), row, tell)
    times = interleaved(runs, seconds, figures.threads)
    row.seconds = {name: statistics.median(values) for name, values in times.items()}
    row.rounds = len(next(iter(times.values()), []))
    cost = Cost.of(work.layer.cell)
    row.operations, row.floor = cost.operations(task.shape, training), cost.floor(task.shape, training, figures)
    if not training and "kernel" in runs:
        row.recurrence = recurrence(work.cell, task.shape, figures)
    if training:
        row.saved = {
            name: saved_bytes(run.forward, [work.x, *run.module.parameters()])
            for name, run in runs.items()
            if isinstance(run, TorchRun) and name != "torch.compile"
        }
    return row


def prepare(work: Work, contenders: tuple[str, ...], row: Row, tell: Tell) -> dict[str, Run]:
    """The contenders that run here, warmed up: each has run once, and its output has been compared with the first."""
    runs: dict[str, Run] = {}
    first: np.ndarray | None = None
    for name in contenders:
        try:
            run = CONTENDERS[name](work)
            if run is None:
                continue
            output = run()
        except ImportError as error:
            cure = f": {CURES[name]}" if name in CURES else ""
            tell(absent={name: f"{reason(error)}{cure}"})
        except Exception as error:  # libraries fail in many ways, and the others are still measured
            row.failed[name] = reason(error)
        else:
            runs[name] = run
            values = output.detach().numpy() if isinstance(output, torch.Tensor) else np.asarray(output)
            first = values if first is None else first
            difference = float(np.abs(values - first).max(initial=0))
            row.errors[name] = difference if math.isfinite(difference) else None
    return runs


def pin(threads: int) -> bool:
    """Restricts the process to this many processors, for libraries without a setting. False if the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, processors()[:threads])
    return True


def main() -> None:
    """Reads the tasks, measures and reports."""
    given = json.load(sys.stdin)
    # Keep the output of cells and libraries out of the JSON.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=lines, flush=True)

    tasks = [Task(**{**task, "shape": Shape(**task["shape"])}) for task in given["tasks"]]
    run_tasks(tasks, tuple(given["contenders"]), given["seconds"], given["threads"], tell)


if __name__ == "__main__":
    main()
