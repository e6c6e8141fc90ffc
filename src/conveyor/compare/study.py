"""What a comparison asks: of which cells, on which tasks, how often; and the configurations, which chance draws."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conveyor.compare import problems
from conveyor.errors import BadInput
from conveyor.zoo.find import find as find_cell

CELLS = ("rnn", "lstm", "lstm-peephole", "lstm-coupled", "gru")
TASKS = ("adding:40", "agreement", "language")


@dataclass(frozen=True)
class Range:
    """From where to where a hyper-parameter is drawn: uniformly, or its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, random: np.random.Generator) -> float | int:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = random.uniform(low, high)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(f"{value:.6g}")  # as it stands in a file and a table


RANGES = {
    "lr": Range(1e-3, 1e-1, log=True),
    "hidden_size": Range(16, 64, log=True, whole=True),
    "dropout": Range(0.0, 0.3),
    "scale": Range(0.5, 2.0, log=True),
}


@dataclass(frozen=True)
class Question:
    """All that decides what a comparison computes; where it is computed, and by how many, does not.

        question = Question(cells=("lstm", "gru"), tasks=("adding:40",), trials=8)
        question.configuration(3)                   # {"lr": 0.0123, "hidden_size": 41, ...}: the same for all cells

    Every cell learns every task in the same `trials` configurations, each drawn from (seed, its index); the best of
    them, by validation, is then learnt again with `seeds` fresh seeds. `parameters` gives all cells equally many, as
    nearly as they can have, in place of equally many units; 0 does not.

    Raises BadInput for what cannot be asked.
    """

    tasks: tuple[str, ...] = TASKS
    cells: tuple[str, ...] = CELLS
    trials: int = 8
    seeds: int = 5
    seed: int = 0
    steps: int = 600
    batch_size: int = 32
    parameters: int = 0

    def __post_init__(self) -> None:
        for name, least in [
            ("trials", 1),
            ("seeds", 0),
            ("seed", 0),
            ("steps", 1),
            ("batch_size", 1),
            ("parameters", 0),
        ]:
            value = getattr(self, name)
            if value < least:
                raise BadInput(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
        for name, values in [("tasks", self.tasks), ("cells", self.cells)]:
            if not values:
                raise BadInput(f"--{name} names none")
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise BadInput(f"--{name} names {twice} twice")
        for task in self.tasks:
            problems.find(task)
        for cell in self.cells:
            find_cell(cell)

    def configuration(self, index: int) -> dict[str, Any]:
        """What chance draws for this index: the same for every cell and task."""
        random = np.random.default_rng([self.seed, index])
        return {name: one.draw(random) for name, one in RANGES.items()}

    def fresh_seed(self, number: int) -> int:
        """Of the repeat of this number: none that the search had."""
        return (self.seed + 1 + number) % 2**32

    def pairs(self) -> Iterator[tuple[str, str]]:
        yield from ((task, cell) for task in self.tasks for cell in self.cells)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def of_json(cls, text: str) -> Question:
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {name: tuple(values[name]) for name in ("tasks", "cells")})
