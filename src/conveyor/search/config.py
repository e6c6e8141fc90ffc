"""The configuration of a search (start cells, tasks, number of candidates) and the outcome of each candidate."""

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
from conveyor.search.population import Candidate, Population
from conveyor.search.reading import read
from conveyor.zoo.find import find as find_cell

REFERENCE = "gru"
START = (REFERENCE, "lstm", "mut1", "mut2", "mut3")
# A candidate that fails on one task skips the rest. None is all-or-nothing, as counting is: many would have equal
# fitness.
TASKS = ("recall:4", "language", "agreement")
MIN_GAIN = 0.1  # relative to chance: a task on which the GRU gains no more is ignored
DRAWN = ("lr", "dropout", "scale", "forget_bias")


@dataclass(frozen=True)
class SearchConfig:
    """Everything that determines the result of a search. Where it runs, and with how many workers, does not.

        config = SearchConfig(tasks=("adding:40",), candidates=50)

    The first candidates are the cells of `start`, with the GRU before all others. Every other candidate is a mutation
    of one of the fittest of those that came `abreast` or more before it, so that up to `abreast` can be evaluated at
    once. A candidate learns every task in `draws` configurations, the same for all, with about `parameters` weights.
    Its gain on a task is 1 - error / error by chance; its fitness is its smallest gain relative to the GRU's.

    Raises BadInput for invalid values.
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
                raise BadInput(f"--{name} is empty")
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise BadInput(f"--{name} names {twice} twice")
        if self.candidates > MOST:
            raise BadInput(f"--candidates must be at most {MOST:,}, not {self.candidates}")
        for task in self.tasks:
            problems.find(task)
        self.settings(self.tasks[0], REFERENCE, 0)  # its bounds hold here, too
        _ = self.population

    @functools.cached_property
    def population(self) -> Population:
        """The candidates, created as they are asked for. Raises BadInput for a cell that no search can start from."""
        start = sorted(self.start, key=lambda name: name != REFERENCE)
        return Population({name: read(find_cell(name)) for name in start}, self.abreast, self.seed)

    def hyperparameters(self, draw: int) -> dict[str, Any]:
        """The randomly drawn hyperparameters of a configuration: the same for every candidate and task."""
        random = np.random.default_rng([self.seed, draw])
        return {name: RANGES[name].draw(random) for name in DRAWN}

    def settings(self, task: str, cell: str, draw: int) -> TrialSettings:
        """The settings of one training run."""
        return TrialSettings(
            task=task,
            cell=cell,
            seed=self.seed,
            steps=self.steps,
            batch_size=self.batch_size,
            evaluate_every=max(1, self.steps // 5),
            parameters=self.parameters,
            device="cpu",
            **self.hyperparameters(draw),
        )

    # the interface of the ledger

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The one pair of names under which the ledger keeps a search."""
        yield "search", "candidates"

    def trial_keys(self) -> list[Key]:
        """A key for each candidate."""
        return [Key(number, False) for number in range(self.candidates)]

    def ready(self, entries: list[Entry]) -> list[Entry]:
        """The candidates whose possible parents have all been evaluated, in order; the GRU first."""
        ended = {entry.key.index for entry in entries if entry.ended}
        known = next(number for number in range(len(ended) + 1) if number not in ended)
        may = self.population.ready(known)
        waiting = [entry for entry in entries if entry.state == "waiting" and entry.key.index < may]
        return sorted(waiting, key=lambda entry: entry.key.index)

    def claim(self, entry: Entry, outcomes: Callable[[], list[Outcome]]) -> Claim:
        """The claim to evaluate one candidate, with the gains of the reference by task."""
        found = outcomes()
        candidate = self.candidate(entry.key.index, found)
        reference = next((one.gains for one in found if one.number == 0), {})
        settings = {"candidate": candidate, "reference": reference}
        return Claim(entry.trial, "search", "candidates", entry.key, self.seed, settings, entry.losses)

    def candidate(self, number: int, found: Sequence[Outcome]) -> Candidate:
        """A candidate, given the outcomes so far. Raises BadInput if they belong to candidates of another version."""
        made = self.population.candidate(number, {one.number: one.fitness for one in found})
        for one in found:
            if one.number <= number and self.population.candidates[one.number].genome.key != one.key:
                raise BadInput(
                    f"candidate {one.number} was created by another version of conveyor: use that version, or another "
                    "--out"
                )
        return made

    def outcome(self, values: dict[str, Any]) -> Outcome:
        """An outcome from the JSON of the ledger; ledgers of version 0.1 say "worth" and "fate"."""
        old = {"worth": "fitness", "fate": "status"}
        values = {old.get(name, name): value for name, value in values.items()}
        return Outcome(**values | {"status": EVALUATED if values["status"] == "tried" else values["status"]})

    def to_json(self) -> str:
        """All settings, what is drawn, and digests of the user's own files: two searches with equal text are equal."""
        drawn = {name: str(RANGES[name]) for name in DRAWN}
        return json.dumps(dataclasses.asdict(self) | {"drawn": drawn, "files": files(self.tasks, self.start)}, indent=1)

    @classmethod
    def of_json(cls, text: str) -> SearchConfig:
        """The configuration from the text of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        del values["files"], values["drawn"]
        return cls(**values | {name: tuple(values[name]) for name in ("tasks", "start")})


@dataclass(frozen=True)
class Outcome:
    """The outcome of evaluating one candidate."""

    number: int
    key: str  # of its genome
    parent: int | None  # the candidate that it is a mutation of; None for a start cell
    changes: list[str]  # the mutations
    status: str  # EVALUATED, or why it was not evaluated to the end
    fitness: float = 0.0  # the smallest of its gains relative to the GRU's
    gains: dict[str, float] = field(default_factory=dict)  # by task, over chance, of the best configuration
    tests: dict[str, float] = field(default_factory=dict)  # by task, the metric of that configuration on the test part
    draws: dict[str, int] = field(default_factory=dict)  # by task, the configuration that is best on validation
    nodes: int = 0
    parameters: int = 0
    compiled: bool = False
    seconds: float = 0.0
    memory: int = 0  # peak, in bytes
    refused: dict[str, int] = field(default_factory=dict)  # rejected mutations on the way to it, counted by reason

    @property
    def failed(self) -> bool:
        """Whether its fitness is unknown. That a cell is bad is no failure."""
        return self.status.startswith(CRASHED)


EVALUATED, CRASHED = "evaluated", "crashed"
