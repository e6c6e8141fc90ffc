"""The outcomes of trials, and the information on tasks for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended.

    In the search, `index` is that of the hyperparameter configuration, equal for all cells and tasks, and `seed` is
    that of the study. A repeat (`repeat`) uses the best configuration of its cell and task with a new seed.
    """

    task: str
    cell: str
    index: int
    seed: int
    repeat: bool
    settings: dict[str, Any]  # the hyperparameters: lr, hidden_size, dropout, scale, ...
    value: float | None  # the task's metric on the test part, lower is better; None if the trial failed
    validation: float | None  # the same on the validation part, used for selection
    parameters: int = 0
    seconds: float = 0.0  # of the training
    memory: int = 0  # peak memory of the process in bytes
    folder: str = ""  # of its run, relative to that of the report: config.toml, metrics.jsonl, results/
    error: str = ""  # why it failed
    curve: tuple[tuple[int, float], ...] = field(default=())  # (step, validation)
    details: dict[str, float] = field(default_factory=dict)  # the metric on subsets of sequences

    @property
    def failed(self) -> bool:
        """Whether the trial has no result."""
        return self.value is None

    @property
    def score(self) -> float:
        """The validation result, lower is better. The trial must not have failed."""
        assert self.validation is not None, "a failed trial has no score"
        return self.validation


@dataclass(frozen=True)
class TaskInfo:
    """Information on a task for the report."""

    name: str
    metric: str
    chance: float
    optimum: float  # NaN if it is not known
    text: str  # a short description of the task
    rules: dict[str, float] = field(default_factory=dict)  # the metric of simple baselines
