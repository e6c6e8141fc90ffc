"""What a comparison asks: of which cells, on which tasks, how often; and the configurations, which chance draws."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.compare import problems
from conveyor.compare.ledger import Claim, Entry, Key
from conveyor.compare.outcomes import Outcome
from conveyor.compare.trial import TrialSettings
from conveyor.errors import BadInput, suggest
from conveyor.tasks import own
from conveyor.zoo.find import find as find_cell

CELLS = ("rnn", "lstm", "lstm-peephole", "lstm-coupled", "gru")
MOST = 100_000  # trials, which are all written down at the start
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

    def given(self, name: str, text: str) -> Range:
        """The same between other bounds: "0.001:0.1", or one number for no choice. Raises BadInput."""
        kind = int if self.whole else float
        low, colon, high = text.partition(":")
        wanted = "a whole number" if self.whole else "a number"
        try:
            found = replace(self, low=kind(low), high=kind(high if colon else low))
        except ValueError:
            raise BadInput(f"--range {name}={text}: {wanted} is wanted, or two as in {name}={self}") from None
        if found.low > found.high:
            raise BadInput(f"--range {name}={text} is upside down: from {high} to {low} would be {name}={high}:{low}")
        if found.log and found.low <= 0:
            raise BadInput(f"--range {name}={text}: its logarithm is drawn, so it must be greater than 0")
        for bound in (found.low, found.high):
            check(name, text, bound)
        return found

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


@dataclass(frozen=True)
class Choice:
    """What a setting is drawn from, each with the same probability."""

    values: tuple[str, ...]

    def draw(self, random: np.random.Generator) -> str:
        return self.values[random.integers(len(self.values))]

    def given(self, name: str, text: str) -> Choice:
        """The same from other values: "adamw,sgd". Raises BadInput."""
        for value in (values := tuple(text.split(","))):
            check(name, text, value)
        return Choice(values)

    def __str__(self) -> str:
        return ",".join(self.values)


def check(name: str, text: str, value: float | str) -> None:
    """Raises BadInput for a value that a trial's settings refuse."""
    try:
        TrialSettings.of({name: value})
    except BadInput as error:
        raise BadInput(f"--range {name}={text}: {str(error).removeprefix('--')}") from None


RANGES: dict[str, Range | Choice] = {
    "lr": Range(1e-3, 1e-1, log=True),
    "hidden_size": Range(16, 64, log=True, whole=True),
    "dropout": Range(0.0, 0.3),
    "scale": Range(0.5, 2.0, log=True),
    "forget_bias": Range(0.0, 4.0),
    "optimiser": Choice(("adamw", "rmsprop")),
}


def files(tasks: Iterable[str], cells: Iterable[str]) -> dict[str, str]:
    """Of a person's own tasks and cells the SHA-256 of every file, for a question in which one changed is another."""
    named = {task: own.files(Path(task)) for task in tasks if task.endswith(problems.FILE)}
    named |= {cell: [Path(cell.rpartition(":")[0])] for cell in cells if ":" in cell}
    found = {}
    for name, paths in named.items():
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        found[name] = digest.hexdigest()
    return found


def cell_folder(name: str) -> str:
    """The name of a folder for the runs of a cell."""
    return Path(name).name.replace(":", "-")


@dataclass(frozen=True)
class Question:
    """All that decides what a comparison computes; where it is computed, and by how many, does not.

        question = Question(cells=("lstm", "gru"), tasks=("adding:40",), trials=8)
        question.configuration(3)                   # {"lr": 0.0123, "hidden_size": 41, ...}: the same for all cells

    Every cell learns every task in the same `trials` configurations, each drawn from (seed, its index); the best of
    them, by validation, is then learnt again with `seeds` fresh seeds. `parameters` gives all cells equally many, as
    nearly as they can have, in place of equally many units; 0 does not. `ranges` are those of RANGES that are to be
    drawn otherwise, as text: ("lr=1e-4:1e-2", "optimiser=sgd").

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
    ranges: tuple[str, ...] = ()

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
        if len(self.tasks) * len(self.cells) * (self.trials + self.seeds) > MOST:
            raise BadInput(f"more than {MOST:,} trainings in all: make --trials or --seeds smaller")
        TrialSettings(seed=self.seed, steps=self.steps, parameters=self.parameters)  # whose bounds hold here, too
        for name, values, folder in [("tasks", self.tasks, problems.folder), ("cells", self.cells, cell_folder)]:
            if not values:
                raise BadInput(f"--{name} names none")
            folders = list(map(folder, values))  # in which the runs of two would be on top of each other
            if twice := next((value for value in values if folders.count(folder(value)) > 1), None):
                raise BadInput(f"--{name} names {twice} twice, or two things of the same name: rename one's file")
        for task in self.tasks:
            problems.find(task)
        for cell in self.cells:
            find_cell(cell)
        _ = self.drawn

    @functools.cached_property
    def drawn(self) -> dict[str, Range | Choice]:
        """What each hyper-parameter is drawn from. Raises BadInput for a range that cannot be."""
        found = {name: one for name, one in RANGES.items() if not (self.parameters and name == "hidden_size")}
        for text in self.ranges:
            name, _, bounds = text.partition("=")
            if name not in found:
                raise BadInput(f"--range {text}: nothing that is drawn is called {name}; {suggest(name, found)}")
            found[name] = RANGES[name].given(name, bounds)
        return found

    def configuration(self, index: int) -> dict[str, Any]:
        """What chance draws for this index: the same for every cell and task."""
        random = np.random.default_rng([self.seed, index])
        return {name: one.draw(random) for name, one in self.drawn.items()}

    def fresh_seed(self, number: int) -> int:
        """Of the repeat of this number: none that the search had."""
        return (self.seed + 1 + number) % 2**32

    def pairs(self) -> Iterator[tuple[str, str]]:
        yield from ((task, cell) for task in self.tasks for cell in self.cells)

    # what the ledger asks

    def trial_keys(self) -> list[Key]:
        search = [Key(index, False) for index in range(self.trials)]
        return search + [Key(index, True) for index in range(self.seeds)]

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """The search goes before the repeats, and all cells and tasks in turn."""
        searched = Counter(entry.pair for entry in entries if entry.ended and not entry.key.repeat)
        waiting = [e for e in entries if e.state == "waiting" and (not e.key.repeat or searched[e.pair] == self.trials)]
        return sorted(waiting, key=lambda e: (e.key.repeat, e.key.index, e.order))

    def claim(self, entry: Entry, outcomes: Callable[[], list[Outcome]]) -> Claim | Outcome:
        """A repeat of a search in which every trial failed fails."""
        (task, cell), key = entry.pair, entry.key
        if not key.repeat:
            return Claim(entry.trial, task, cell, key, self.seed, self.configuration(key.index), entry.losses)
        seed = self.fresh_seed(key.index)
        good = [o for o in outcomes() if (o.task, o.cell, o.repeat, o.failed) == (task, cell, False, False)]
        if not good:
            why = "no configuration of the search came to an end"
            return Outcome(task, cell, key.index, seed, True, {}, None, None, error=why)
        best = min(good, key=lambda o: (o.score, o.index))
        return Claim(entry.trial, task, cell, key, seed, best.settings, entry.losses)

    def outcome(self, values: dict[str, Any]) -> Outcome:
        return Outcome(**values | {"curve": tuple(map(tuple, values["curve"]))})

    def to_json(self) -> str:
        drawn = {name: str(one) for name, one in self.drawn.items()}
        return json.dumps(dataclasses.asdict(self) | {"drawn": drawn, "files": files(self.tasks, self.cells)}, indent=1)

    @classmethod
    def of_json(cls, text: str) -> Question:
        values: dict[str, Any] = json.loads(text)
        del values["files"], values["drawn"]
        return cls(**values | {name: tuple(values[name]) for name in ("tasks", "cells", "ranges")})
