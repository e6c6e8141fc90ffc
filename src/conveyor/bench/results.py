"""The measurements, and figures derived from them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import Any

from conveyor.bench.contenders import CONTENDERS, OURS
from conveyor.bench.machine import Conditions, Machine
from conveyor.bench.plan import Shape, Task

FORMAT = 1  # of the file; a file of another one is not read


@dataclass
class Row:
    """The measurements of one task, by contender. `seconds` are medians over `rounds` repetitions.

    `floor` is the lower bound on the seconds; `recurrence` is the speed of the kernel's loop over time alone, as a
    fraction of the speed of a large matrix product; `operations` counts those of the matrix products; `saved` is the
    bytes saved for backward; `errors` is the largest difference from the output of the first contender (None: not
    finite); `failed` says why a contender did not run.
    """

    cell: str
    mode: str
    shape: Shape
    sweep: str
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    floor: float = 0.0
    recurrence: float | None = None
    operations: int = 0
    saved: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, threads: int) -> Row:
        """An empty row for a task."""
        return cls(task.cell, task.mode, task.shape, task.sweep, threads)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Of what `to_dict` made: what it adds to the fields follows from them."""
        own = {one.name: values[one.name] for one in fields(cls)}
        return cls(**own | {"shape": Shape(**values["shape"])})

    @property
    def ours(self) -> str | None:
        """The baseline of the ratios: our kernel, or else our loop."""
        return next((name for name in OURS if name in self.seconds), None)

    @property
    def ratios(self) -> dict[str, float]:
        """The times of the others relative to ours."""
        if self.ours is None:
            return {}
        own = self.seconds[self.ours]
        return {name: seconds / own for name, seconds in self.seconds.items() if name != self.ours}

    @property
    def fraction(self) -> float | None:
        """The lower bound on our time as a fraction of it: 1 is optimal."""
        return self.floor / self.seconds[self.ours] if self.ours else None

    @property
    def saved_ratio(self) -> float | None:
        """The bytes that ours saves for backward, as a fraction of torch.nn's."""
        theirs = self.saved.get("torch.nn")
        return self.saved[self.ours] / theirs if theirs and self.ours in self.saved else None

    def to_dict(self) -> dict[str, Any]:
        """The measurements and derived figures for JSON."""
        return asdict(self) | {"ours": self.ours, "ratios": self.ratios, "fraction": self.fraction}


@dataclass
class Group:
    """The rows of one cell and mode at one number of threads."""

    threads: int
    cell: str
    mode: str
    rows: list[Row]

    @property
    def contenders(self) -> list[str]:
        """The contenders that ran at some shape, in their usual order."""
        return [name for name in CONTENDERS if any(name in row.seconds for row in self.rows)]

    @property
    def ours(self) -> str | None:
        """The baseline of the ratios; shapes where it did not run are left out of them."""
        return next((name for name in OURS if name in self.contenders), None)

    @property
    def ratios(self) -> dict[str, float | None]:
        """The geometric means of the ratios, for contenders that ran at every shape where ours did."""
        rows = [row.ratios for row in self.rows if row.ours == self.ours]
        return {
            name: geometric_mean(row[name] for row in rows) for name in self.contenders if all(name in r for r in rows)
        }

    @property
    def fraction(self) -> float | None:
        """The geometric mean of the rows' fractions."""
        return geometric_mean(row.fraction for row in self.rows if row.ours == self.ours)


@dataclass
class Results:
    """All measurements of one run of `conveyor bench`; can be read while it is running.

    `load` is the load average of the minute before the run.
    """

    machines: list[Machine] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    compilation: dict[str, dict[str, float]] = field(default_factory=dict)
    load: float | None = None
    complete: bool = False
    conveyor: str = field(default_factory=partial(version, "conveyor"))
    conditions: Conditions = field(default_factory=Conditions.here)

    def groups(self) -> Iterator[Group]:
        """The rows at the requested shapes, without those for plots, in the order of measurement."""
        rows = [row for row in self.rows if not row.sweep]
        for (threads, cell, mode), members in groupby(rows, lambda row: (row.threads, row.cell, row.mode)):
            yield Group(threads, cell, mode, list(members))

    def per_operation(self, row: Row, other: str = "lstm") -> float | None:
        """Our time per operation of this cell relative to another's, at the same shape, mode and threads."""
        same = (row.shape, row.sweep, row.mode, row.threads)
        for base in self.rows:
            if base.cell == other and (base.shape, base.sweep, base.mode, base.threads) == same and row.operations:
                if row.ours is None or base.ours != row.ours:
                    return None
                own, others = row.seconds[row.ours], base.seconds[row.ours]
                return (own / row.operations) / (others / base.operations)
        return None

    def to_dict(self) -> dict[str, Any]:
        """The results for JSON. Times are in seconds, speeds per second, memory in bytes."""
        rows = [row.to_dict() | {"per_operation_of_lstm": self.per_operation(row)} for row in self.rows]
        keys = ("threads", "cell", "mode", "ours", "ratios", "fraction")
        return {
            "format": FORMAT,
            "complete": self.complete,
            "conveyor": self.conveyor,
            **asdict(self.conditions),
            "load": self.load,
            "machines": [asdict(machine) for machine in self.machines],
            "rows": rows,
            "means": [{key: getattr(group, key) for key in keys} for group in self.groups()],
            "compilation": self.compilation,
            "absent": self.absent,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Results:
        """Of what `to_dict` made. Raises KeyError, TypeError and AttributeError for anything else."""
        rows = [Row.from_dict(row) for row in values["rows"]]
        machines = [Machine(**machine) for machine in values["machines"]]
        conditions = Conditions(**{one.name: values[one.name] for one in fields(Conditions)})
        own = {name: values[name] for name in ("absent", "compilation", "load", "complete", "conveyor")}
        return cls(machines, rows, conditions=conditions, **own)


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """The geometric mean of the values that are known; None if there are none."""
    known = [value for value in values if value]
    return statistics.geometric_mean(known) if known else None
