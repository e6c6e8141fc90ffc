"""The speed of the loop over time alone, with an input of size 1."""

from __future__ import annotations

import statistics

import torch

from conveyor.bench.contenders import Work
from conveyor.bench.cost import Cost
from conveyor.bench.machine import Machine
from conveyor.bench.plan import Shape
from conveyor.bench.timing import interleaved
from conveyor.cell import Cell
from conveyor.layer.backends import NotCompiled, backend

SECONDS = 0.5


def recurrence(cell: type[Cell], shape: Shape, machine: Machine) -> float | None:
    """The kernel's speed with input size 1, as a fraction of the fastest matrix product; None without a kernel."""
    work = Work.make(cell, Shape(shape.steps, shape.batch, 1, shape.hidden), training=False)

    def run() -> None:
        with torch.inference_mode(), backend("compiled"):
            work.layer(work.x, **work.extra_inputs)

    try:
        run()
    except NotCompiled:
        return None
    seconds = statistics.median(interleaved({"run": run}, SECONDS, machine.threads)["run"])
    return shape.steps * shape.batch * Cost.of(work.layer.cell).inner / seconds / machine.sgemm
