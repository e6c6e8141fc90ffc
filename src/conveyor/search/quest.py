"""What a search asks: from which cells, on which tasks, how many candidates; and what came out of each."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conveyor.compare import problems
from conveyor.compare.ledger import Claim, Entry, Key
from conveyor.compare.study import MOST, RANGES, files
from conveyor.compare.trial import TrialSettings
from conveyor.errors import BadInput
from conveyor.search.breed import Birth, Breed
from conveyor.search.reading import read
from conveyor.zoo.find import find as find_cell

REFERENCE = "gru"
START = (REFERENCE, "lstm", "mut1", "mut2", "mut3")
# Who fails on an early one is tried no further. None is all or nothing, as counting is, where many would be equal.
TASKS = ("recall:4", "language", "agreement")
LITTLE = 0.1  # of chance: where the GRU gains no more, a task tells nothing
DRAWN = ("lr", "dropout", "scale", "forget_bias")


@dataclass(frozen=True)
class Quest:
    """All that decides what a search computes; where it is computed, and by how many, does not.

        quest = Quest(tasks=("adding:40",), candidates=50)

    The first candidates are the cells of `start`, with the GRU before all. Every other is a change of one of the best
    of those that came `abreast` or more before it, so that as many can be tried at the same time. A candidate learns
    every task in `draws` configurations, the same for all, with about `parameters` weights; its worth is, over the
    tasks, the least of what it gains on chance as a part of what the GRU gains.

    Raises BadInput for what cannot be asked.
    """

    tasks: tuple[str, ...] = TASKS
    start: tuple[str, ...] = START
    candidates: int = 200
    draws: int = 2
    steps: int = 300
    parameters: int = 6_000
    abreast: int = 16
    seed: int = 0
    batch_size: int = 32

    def __post_init__(self) -> None:
        if REFERENCE not in self.start:
            object.__setattr__(self, "start", (REFERENCE, *self.start))
        least = {"candidates": len(self.start), "draws": 1, "steps": 1, "parameters": 1, "abreast": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                why = f", the cells of --start with the {REFERENCE}" if low > 1 else ""
                raise BadInput(f"--{name} must be at least {low}{why}, not {getattr(self, name)}")
        for name, values in [("tasks", tuple(map(problems.shown, self.tasks))), ("start", self.start)]:
            if not values:
                raise BadInput(f"--{name} names none")
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise BadInput(f"--{name} names {twice} twice")
        if self.candidates > MOST:
            raise BadInput(f"--candidates must be at most {MOST:,}, not {self.candidates}")
        for task in self.tasks:
            problems.find(task)
        self.settings(self.tasks[0], REFERENCE, 0)  # whose bounds hold here, too
        _ = self.breed

    @functools.cached_property
    def breed(self) -> Breed:
        """Who comes from whom. Raises BadInput for a cell that no search can start from."""
        start = sorted(self.start, key=lambda name: name != REFERENCE)
        return Breed({name: read(find_cell(name)) for name in start}, self.abreast, self.seed)

    def configuration(self, draw: int) -> dict[str, Any]:
        """What chance draws: the same for every candidate and task."""
        random = np.random.default_rng([self.seed, draw])
        return {name: RANGES[name].draw(random) for name in DRAWN}

    def settings(self, task: str, cell: str, draw: int) -> TrialSettings:
        """Of one training."""
        return TrialSettings(
            task=task,
            cell=cell,
            seed=self.seed,
            steps=self.steps,
            batch_size=self.batch_size,
            evaluate_every=max(1, self.steps // 5),
            parameters=self.parameters,
            device="cpu",
            **self.configuration(draw),
        )

    # what the ledger asks

    def pairs(self) -> Iterator[tuple[str, str]]:
        yield "search", "candidates"

    def trial_keys(self) -> list[Key]:
        return [Key(number, False) for number in range(self.candidates)]

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """The candidates whose possible parents have all ended, in their order; the GRU before the others."""
        ended = {entry.key.index for entry in entries if entry.ended}
        known = next(number for number in range(len(ended) + 1) if number not in ended)
        may = self.breed.ready(known)
        waiting = [entry for entry in entries if entry.state == "waiting" and entry.key.index < may]
        return sorted(waiting, key=lambda entry: entry.key.index)

    def claim(self, entry: Entry, outcomes: Callable[[], list[Worth]]) -> Claim:
        found = outcomes()
        born = self.birth(entry.key.index, found)
        reference = next((one.gains for one in found if one.number == 0), {})
        settings = {"born": born, "reference": reference}
        return Claim(entry.trial, "search", "candidates", entry.key, self.seed, settings, entry.losses)

    def birth(self, number: int, found: Sequence[Worth]) -> Birth:
        """A candidate, from what was found. Raises BadInput where it was found of others than are born here."""
        made = self.breed.birth(number, {one.number: one.worth for one in found})
        for one in found:
            if one.number <= number and self.breed.births[one.number].genome.key != one.key:
                raise BadInput(f"candidate {one.number} is of another version of conveyor: take that, or another --out")
        return made

    def outcome(self, values: dict[str, Any]) -> Worth:
        return Worth(**values)

    def to_json(self) -> str:
        drawn = {name: str(RANGES[name]) for name in DRAWN}
        return json.dumps(dataclasses.asdict(self) | {"drawn": drawn, "files": files(self.tasks, self.start)}, indent=1)

    @classmethod
    def of_json(cls, text: str) -> Quest:
        values: dict[str, Any] = json.loads(text)
        del values["files"], values["drawn"]
        return cls(**values | {name: tuple(values[name]) for name in ("tasks", "start")})


@dataclass(frozen=True)
class Worth:
    """What came of one candidate."""

    number: int
    key: str  # of its genome
    parent: int | None  # the candidate that it is a change of; None for a cell of the start
    changes: list[str]
    fate: str  # how far it came: TRIED, or why not
    worth: float = 0.0  # the least of its gains as parts of the GRU's
    gains: dict[str, float] = field(default_factory=dict)  # by task, of chance, by the best draw on validation
    tests: dict[str, float] = field(default_factory=dict)  # by task, the metric of that draw on the test part
    draws: dict[str, int] = field(default_factory=dict)  # by task, which draw that is
    nodes: int = 0
    parameters: int = 0
    compiled: bool = False
    seconds: float = 0.0
    memory: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # changes that gave no cell on the way to it, by reason

    @property
    def failed(self) -> bool:
        """Whether it is unknown what it is worth: that a cell is a bad one is no failure."""
        return self.fate.startswith(CRASHED)


TRIED, CRASHED = "tried", "crashed"
