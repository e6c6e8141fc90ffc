"""What was measured, and what follows from it."""

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
    """What one task gave, by contender: `seconds` are medians over so many `rounds`.

    `floor` is the seconds that it takes at the least, `recurrence` the speed of the kernel's loop over time by itself,
    as a part of that of a large matrix product, `operations` those of the matrix products, `saved` the bytes kept
    for backward, `errors` the largest difference of an output from that of the first contender (none: not a number),
    `failed` why one did not run.
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
        return cls(task.cell, task.mode, task.shape, task.sweep, threads)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Of what `to_dict` made: what it adds to the fields follows from them."""
        own = {one.name: values[one.name] for one in fields(cls)}
        return cls(**own | {"shape": Shape(**values["shape"])})

    @property
    def ours(self) -> str | None:
        """The contender of this library that the others are compared with: its kernel, or else its loop."""
        return next((name for name in OURS if name in self.seconds), None)

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as ours the others take."""
        if self.ours is None:
            return {}
        own = self.seconds[self.ours]
        return {name: seconds / own for name, seconds in self.seconds.items() if name != self.ours}

    @property
    def fraction(self) -> float | None:
        """The part of the time that the machine needs in any case: 1 is as fast as can be."""
        return self.floor / self.seconds[self.ours] if self.ours else None

    @property
    def saved_ratio(self) -> float | None:
        """The bytes that ours saves for backward, as a part of those that torch.nn saves."""
        theirs = self.saved.get("torch.nn")
        return self.saved[self.ours] / theirs if theirs and self.ours in self.saved else None

    def to_dict(self) -> dict[str, Any]:
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
        """Those that ran at some shape, in their usual order."""
        return [name for name in CONTENDERS if any(name in row.seconds for row in self.rows)]

    @property
    def ours(self) -> str | None:
        """What the others are compared with: at shapes where it did not run, they are not."""
        return next((name for name in OURS if name in self.contenders), None)

    @property
    def ratios(self) -> dict[str, float | None]:
        """The geometric means, of the contenders that ran at every shape where ours did."""
        rows = [row.ratios for row in self.rows if row.ours == self.ours]
        return {
            name: geometric_mean(row[name] for row in rows) for name in self.contenders if all(name in r for r in rows)
        }

    @property
    def fraction(self) -> float | None:
        """The geometric mean of the parts of the time that the machine needs in any case."""
        return geometric_mean(row.fraction for row in self.rows if row.ours == self.ours)


@dataclass
class Results:
    """All that one run of `conveyor bench` measured; it can be read at any moment of it.

    `load` is how many processes wanted a processor on average in the minute before it began.
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
        """The rows at the shapes asked for (not those that only a picture needs), in the order of measurement."""
        rows = [row for row in self.rows if not row.sweep]
        for (threads, cell, mode), members in groupby(rows, lambda row: (row.threads, row.cell, row.mode)):
            yield Group(threads, cell, mode, list(members))

    def per_operation(self, row: Row, other: str = "lstm") -> float | None:
        """Our time for an operation of this cell against that for one of another, at the same shape, mode, threads."""
        same = (row.shape, row.sweep, row.mode, row.threads)
        for base in self.rows:
            if base.cell == other and (base.shape, base.sweep, base.mode, base.threads) == same and row.operations:
                if row.ours is None or base.ours != row.ours:
                    return None
                own, others = row.seconds[row.ours], base.seconds[row.ours]
                return (own / row.operations) / (others / base.operations)
        return None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it. Times are seconds, speeds are a second, memory is in bytes."""
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
    """None of nothing."""
    known = [value for value in values if value]
    return statistics.geometric_mean(known) if known else None
