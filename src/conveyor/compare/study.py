"""The configuration of a comparison: cells, tasks, numbers of trials, and the ranges of the hyperparameters."""

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
MOST = 100_000  # trials of a study; the ledger holds all of them from the start
TASKS = ("adding:40", "agreement", "language")


@dataclass(frozen=True)
class Range:
    """The range of a numeric hyperparameter, drawn uniformly or, with `log`, log-uniformly; `whole`: an integer."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, random: np.random.Generator) -> float | int:
        """A random value, rounded to six digits as in files and tables."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = random.uniform(low, high)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(f"{value:.6g}")

    def given(self, name: str, text: str) -> Range:
        """The range with other bounds, "0.001:0.1", or a fixed value, "0.01". Raises BadInput if they are invalid."""
        kind = int if self.whole else float
        low, colon, high = text.partition(":")
        wanted = "whole numbers" if self.whole else "numbers"
        try:
            found = replace(self, low=kind(low), high=kind(high if colon else low))
        except ValueError:
            raise BadInput(f"--range {name}={text}: give one or two {wanted}, as in {name}={self}") from None
        if found.low > found.high:
            raise BadInput(f"--range {name}={text} is reversed: write {name}={high}:{low}")
        if found.log and found.low <= 0:
            raise BadInput(f"--range {name}={text}: it is drawn log-uniformly, so it must be greater than 0")
        for bound in (found.low, found.high):
            check(name, text, bound)
        return found

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


@dataclass(frozen=True)
class Choice:
    """A categorical hyperparameter: each value has the same probability."""

    values: tuple[str, ...]

    def draw(self, random: np.random.Generator) -> str:
        """A random value."""
        return self.values[random.integers(len(self.values))]

    def given(self, name: str, text: str) -> Choice:
        """The choice with other values, "adamw,sgd". Raises BadInput if one is invalid."""
        for value in (values := tuple(text.split(","))):
            check(name, text, value)
        return Choice(values)

    def __str__(self) -> str:
        return ",".join(self.values)


def check(name: str, text: str, value: float | str) -> None:
    """Raises BadInput for a value that TrialSettings rejects."""
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
    """The SHA-256 of the files of each user-defined task and cell, by name; a changed file makes a different study."""
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
    """The name of the folder for the runs of a cell."""
    return Path(name).name.replace(":", "-")


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything that affects the results of a comparison; where it runs and the number of workers do not.

        config = ComparisonConfig(cells=("lstm", "gru"), tasks=("adding:40",), trials=8)
        config.hyperparameters(3)                   # {"lr": 0.0123, "hidden_size": 41, ...}: the same for all cells

    Random search: every cell is trained on every task with the same `trials` hyperparameter configurations, each drawn
    from (seed, index). The configuration with the best validation result is then repeated with `seeds` new seeds. If
    `parameters` is not 0, `hidden_size` is not drawn but chosen for each cell so that the network has about that many
    parameters. `ranges` override entries of RANGES, as text: ("lr=1e-4:1e-2", "optimiser=sgd").

    Raises BadInput for values out of bounds and for unknown tasks, cells and hyperparameters.
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
            raise BadInput(f"more than {MOST:,} trials in total: make --trials or --seeds smaller")
        TrialSettings(seed=self.seed, steps=self.steps, parameters=self.parameters)  # checks the bounds
        for name, values, folder in [("tasks", self.tasks, problems.folder), ("cells", self.cells, cell_folder)]:
            if not values:
                raise BadInput(f"--{name} is empty: name at least one")
            folders = list(map(folder, values))  # each needs its own
            if twice := next((value for value in values if folders.count(folder(value)) > 1), None):
                raise BadInput(f"--{name} names {twice} twice, or two files of the same name: rename one file")
        for task in self.tasks:
            problems.find(task)
        for cell in self.cells:
            find_cell(cell)
        _ = self.drawn

    @functools.cached_property
    def drawn(self) -> dict[str, Range | Choice]:
        """The range of each hyperparameter that is drawn. Raises BadInput for an invalid range."""
        found = {name: one for name, one in RANGES.items() if not (self.parameters and name == "hidden_size")}
        for text in self.ranges:
            name, _, bounds = text.partition("=")
            if name not in found:
                raise BadInput(f"--range {text}: no hyperparameter is called {name}; {suggest(name, found)}")
            found[name] = RANGES[name].given(name, bounds)
        return found

    def hyperparameters(self, index: int) -> dict[str, Any]:
        """The hyperparameters of the search trial with this index: the same for every cell and task."""
        random = np.random.default_rng([self.seed, index])
        return {name: one.draw(random) for name, one in self.drawn.items()}

    def fresh_seed(self, number: int) -> int:
        """The seed of a repeat, which differs from the seed of the search."""
        return (self.seed + 1 + number) % 2**32

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each task with each cell."""
        yield from ((task, cell) for task in self.tasks for cell in self.cells)

    # called by the ledger (StudyConfig)

    def trial_keys(self) -> list[Key]:
        """The keys of the trials of each pair: the search, then the repeats."""
        search = [Key(index, False) for index in range(self.trials)]
        return search + [Key(index, True) for index in range(self.seeds)]

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """Waiting trials: the search before the repeats, alternating between cells and tasks."""
        searched = Counter(entry.pair for entry in entries if entry.ended and not entry.key.repeat)
        waiting = [e for e in entries if e.state == "waiting" and (not e.key.repeat or searched[e.pair] == self.trials)]
        return sorted(waiting, key=lambda e: (e.key.repeat, e.key.index, e.order))

    def claim(self, entry: Entry, outcomes: Callable[[], list[Outcome]]) -> Claim | Outcome:
        """The claim for a trial, or a failed outcome for a repeat if all trials of its search have failed."""
        (task, cell), key = entry.pair, entry.key
        if not key.repeat:
            return Claim(entry.trial, task, cell, key, self.seed, self.hyperparameters(key.index), entry.losses)
        seed = self.fresh_seed(key.index)
        good = [o for o in outcomes() if (o.task, o.cell, o.repeat, o.failed) == (task, cell, False, False)]
        if not good:
            why = "all trials of the search failed"
            return Outcome(task, cell, key.index, seed, True, {}, None, None, error=why)
        best = min(good, key=lambda o: (o.score, o.index))
        return Claim(entry.trial, task, cell, key, seed, best.settings, entry.losses)

    def outcome(self, values: dict[str, Any]) -> Outcome:
        """The outcome with these fields, which were read from JSON."""
        return Outcome(**values | {"curve": tuple(map(tuple, values["curve"]))})

    def to_json(self) -> str:
        """All fields, the ranges in full, and the digests of user-defined files, as JSON."""
        drawn = {name: str(one) for name, one in self.drawn.items()}
        return json.dumps(dataclasses.asdict(self) | {"drawn": drawn, "files": files(self.tasks, self.cells)}, indent=1)

    @classmethod
    def of_json(cls, text: str) -> ComparisonConfig:
        """The configuration written by `to_json`."""
        values: dict[str, Any] = json.loads(text)
        del values["files"], values["drawn"]
        return cls(**values | {name: tuple(values[name]) for name in ("tasks", "cells", "ranges")})
