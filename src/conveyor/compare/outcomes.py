"""What came out of a study's trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One trial that has ended.

    In the search, index says which of the configurations it had, equal for all cells and tasks, and seed is the
    study's; in the repeats (`repeat`) of the best configuration of its cell and task, seed is a fresh one.
    """

    task: str
    cell: str
    index: int
    seed: int
    repeat: bool
    settings: dict[str, Any]  # what the configurations differ in: lr, hidden_size, dropout, scale
    value: float | None  # the task's metric on the test part, the smaller the better; None for one that failed
    validation: float | None  # the same on the validation part, by which the best is chosen
    parameters: int = 0
    seconds: float = 0.0  # of the training
    memory: int = 0  # the most bytes that the process held
    folder: str = ""  # its run, in the report's folder: config.toml, metrics.jsonl, results/
    error: str = ""  # why it failed
    curve: tuple[tuple[int, float], ...] = field(default=())  # (step, validation)
    details: dict[str, float] = field(default_factory=dict)  # the metric on kinds of sequences

    @property
    def failed(self) -> bool:
        return self.value is None

    @property
    def score(self) -> float:
        assert self.validation is not None, "a trial that failed has none"
        return self.validation


@dataclass(frozen=True)
class About:
    """What the report says of a task."""

    name: str
    metric: str
    chance: float
    optimum: float  # NaN where it is not known
    text: str  # a sentence on what is asked
    rules: dict[str, float] = field(default_factory=dict)  # what simple rules have
