"""What an earlier run of `conveyor bench` wrote into a file, and how the times of now compare with it.

then = read(Path("times.json"))
now = Results()
suite.run(plan(then), now, note=print)
geometric_mean(pair.ratio for pair in pairs(then, now))     # below 1: faster now
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conveyor.bench.contenders import choose
from conveyor.bench.plan import Plan, Task, check_threads
from conveyor.bench.results import FORMAT, Results, Row, geometric_mean
from conveyor.errors import BadInput

CURE = "name one that conveyor bench --json wrote"


@dataclass(frozen=True)
class Pair:
    """One setting (cell, mode, shape, threads) measured twice."""

    then: Row
    now: Row

    def of(self, contender: str) -> float | None:
        """The time that a contender takes now as a multiple of its time then; none where it did not run twice."""
        then, now = self.then.seconds.get(contender), self.now.seconds.get(contender)
        return now / then if now and then else None

    @property
    def ratio(self) -> float | None:
        """Our time now as a multiple of our time then, be it a kernel or the loop."""
        if self.now.ours is None or self.then.ours is None:
            return None
        return self.now.seconds[self.now.ours] / self.then.seconds[self.then.ours]

    @property
    def beside(self) -> float | None:
        """`ratio` as a multiple of that of torch.nn, which a slow moment of the machine hits alike."""
        own, theirs = self.ratio, self.of("torch.nn")
        return own / theirs if own and theirs else None


def read(file: Path) -> Results:
    """The results in a file. Raises BadInput for what `conveyor bench --json` did not write, or in another format."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"--against-file {file} cannot be read: {error.strerror}; {CURE}") from error
    except ValueError as error:
        raise BadInput(f"--against-file {file} is not JSON: {CURE}") from error
    found = values.get("format", "none") if isinstance(values, dict) and "rows" in values else None
    if found not in (FORMAT, None):
        raise BadInput(
            f"--against-file {file} is of another version of conveyor bench (format {found}; this one reads {FORMAT}): "
            "write it anew by this version's --json"
        )
    try:
        results = Results.from_dict(values)
        figures = [machine.sgemm for machine in results.machines]
        for row in results.rows:
            figures += [*row.seconds.values(), *asdict(row.shape).values(), row.threads]
        if not all(0 < figure < math.inf for figure in figures):
            raise ValueError("a time, a speed or a size that is not greater than zero")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"--against-file {file} is no file of conveyor bench: {CURE}") from error
    if not any(row.seconds for row in settings(results).values()):
        raise BadInput(f"--against-file {file} holds no times: {CURE}")
    return results


def plan(then: Results) -> Plan:
    """What was measured then, to be measured again. Raises BadInput if it cannot be done here."""
    rows = settings(then).values()
    names = {name for row in rows for name in (*row.seconds, *row.failed)}
    return Plan(
        cells=tuple(dict.fromkeys(row.cell for row in rows)),
        shapes=tuple(dict.fromkeys(row.shape for row in rows)),
        threads=check_threads(list(dict.fromkeys(row.threads for row in rows))),
        modes=tuple(dict.fromkeys(row.mode for row in rows)),
        against=choose(sorted(names)),
    )


def check(plan: Plan, then: Results) -> None:
    """Before minutes are spent on it. Raises BadInput if the plan has a setting that was not measured then."""
    known = settings(then)
    for threads in plan.threads:
        for task in plan.tasks():
            if not task.sweep and _setting(task, threads) not in known:
                raise BadInput(
                    f"--against-file has no {task} with --threads {threads}: choose what it has by --cell, --shape, "
                    "--mode and --threads"
                )


def pairs(then: Results, now: Results) -> list[Pair]:
    """The settings that both have, in the order of now."""
    before = settings(then)
    return [Pair(before[key], row) for key, row in settings(now).items() if key in before]


def settings(results: Results) -> dict[tuple[Any, ...], Row]:
    """The rows by their setting, without those that only a picture needs."""
    return {_setting(row, row.threads): row for row in results.rows if not row.sweep}


def differences(then: Results, now: Results) -> dict[str, tuple[Any, Any]]:
    """What times depend on besides the code, and is not now as it was: by name, then and now."""
    before, after = asdict(then.conditions), asdict(now.conditions)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def products(then: Results, now: Results) -> dict[int, float]:
    """By the number of threads, the speed of the machine's matrix products as a multiple of that of then."""
    before = {machine.threads: machine.sgemm for machine in then.machines}
    return {m.threads: m.sgemm / before[m.threads] for m in now.machines if m.threads in before}


def to_dict(then: Results, now: Results) -> dict[str, Any]:
    """The comparison as JSON can hold it: for each setting and as geometric means."""
    both = pairs(then, now)
    return {
        "conveyor": then.conveyor,
        "differences": differences(then, now),
        "products": products(then, now),
        "rows": [
            {
                **{name: getattr(pair.now, name) for name in ("cell", "mode", "threads")},
                "shape": asdict(pair.now.shape),
                "ratio": pair.ratio,
                "beside": pair.beside,
            }
            for pair in both
        ],
        "ratio": geometric_mean(pair.ratio for pair in both),
        "beside": geometric_mean(pair.beside for pair in both),
    }


def _setting(of: Task | Row, threads: int) -> tuple[Any, ...]:
    return of.cell, of.mode, of.shape, threads
