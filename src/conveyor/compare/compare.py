"""Runs a comparison on this machine: checks its folder, starts workers, reports progress, writes the report."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conveyor.compare import problems, report
from conveyor.compare.ledger import Counts, Ledger, StudyConfig
from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import ComparisonConfig
from conveyor.compare.trial import try_out
from conveyor.compare.worker import DATABASE
from conveyor.errors import BadInput
from conveyor.training.interrupt import signals
from conveyor.training.run import write

CONFIG, RUNS, LEDGER = "question.json", "runs", "ledger.db"  # in the folder of a comparison or search
LOOK = 1.0  # seconds between two queries of the ledger
RESTARTS = 20  # crashed workers that are replaced before the command gives up


# Reports progress: given the counts, the seconds since the start, and a function that reads the outcomes so far.
Tell = Callable[[Counts, float, Callable[[], list[Any]]], None]


@dataclass(frozen=True)
class Result:
    """How a comparison or search ended on this machine."""

    counts: Counts
    signal: signal.Signals | None  # the signal that stopped it early, if any


def compare(
    config: ComparisonConfig,
    folder: Path,
    url: str | None,
    workers: int,
    budget: float | None,
    tell: Tell,
) -> Result:
    """Runs all trials that have not ended, and writes the report into the folder.

    `url` is that of the database, by default a file in the folder. Machines that run the same comparison with the same
    database share the work. After `budget` seconds all trials are stopped, and the report covers those that have ended.
    Raises BadInput if the folder or the database holds another comparison.
    """
    for task, cell in config.pairs():
        if ":" in cell:
            try_out(task, cell)
    ledger, result = carry_out("conveyor.compare", config, folder, url, workers, budget, tell)
    if outcomes := ledger.outcomes():
        found = [replace(one, task=problems.shown(one.task)) for one in outcomes]
        report.write(folder, found, [problems.about(task) for task in config.tasks])
    return result


def best(outcomes: list[Outcome]) -> str:
    """The best cell of each task so far, as one line."""
    found: dict[str, Outcome] = {}
    for one in outcomes:
        if not one.failed and (one.task not in found or one.score < found[one.task].score):
            found[one.task] = one
    on = (f"{problems.shown(task)}: {one.cell} {one.score:.4g}" for task, one in found.items())
    return "best on validation: " + ("; ".join(on) or "none yet")


def carry_out(
    module: str,
    config: StudyConfig,
    folder: Path,
    url: str | None,
    workers: int,
    budget: float | None,
    tell: Tell,
) -> tuple[Ledger, Result]:
    """Runs all trials in worker processes, each `python -m module`. Returns the ledger and how the study ended."""
    check_folder(folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{(folder / LEDGER).resolve()}"
    ledger = Ledger(url, config)
    write(folder / CONFIG, config.to_json().encode())  # only after folder and database have been checked
    began = time.monotonic()
    with signals() as caught, running(module, folder, url, workers) as team:
        ledger.stopped = lambda: bool(caught)
        while not caught and not (counts := ledger.counts()).ended:
            tell(counts, time.monotonic() - began, ledger.outcomes)
            if budget is not None and time.monotonic() - began > budget:
                break
            ledger.recover()
            team.refill()
            time.sleep(LOOK)
    tell(ledger.counts(), time.monotonic() - began, ledger.outcomes)
    return ledger, Result(ledger.counts(), signal.Signals(caught[0]) if caught else None)


def check_folder(folder: Path, config: StudyConfig) -> None:
    """Raises BadInput if the folder holds another comparison or search, or other files."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder: choose another with --out")
    with contextlib.suppress(FileNotFoundError):
        there = (folder / CONFIG).read_text()
        if there != config.to_json():
            raise BadInput(f"{folder} holds {difference(there, config)}: change it back, or choose another with --out")
        return
    if folder.is_dir() and any(not one.name.startswith((LEDGER, CONFIG)) for one in folder.iterdir()):
        raise BadInput(f"{folder} is not empty and holds no comparison or search: choose another with --out")


def difference(there: str, config: StudyConfig) -> str:
    """Describes how the configuration stored in a folder, as JSON, differs from this one."""
    try:
        was, now = json.loads(there), json.loads(config.to_json())
    except ValueError:
        return f"an unreadable {CONFIG}"
    if set(was) != set(now):
        return "another kind of study, or one from another version of conveyor"
    files = [f"the file of {name}" for name in now["files"] if was["files"].get(name) != now["files"][name]]
    differ = [name for name in now if name != "files" and was[name] != now[name]] or files
    return f"another comparison or search, which differs in {', '.join(differ)}"


class Team:
    """The workers of this machine, each a process."""

    def __init__(self, module: str, folder: Path, url: str, size: int):
        self.folder = folder
        self.command = [sys.executable, "-m", module, str(folder.resolve())]
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", DATABASE: url}
        self.members = [self.begin() for _ in range(size)]
        self.restarts = 0

    def begin(self) -> subprocess.Popen[bytes]:
        """Starts one worker."""
        return subprocess.Popen(self.command, env=self.environment)

    def refill(self) -> None:
        """Starts another worker for each that crashed or was killed. Raises BadInput if too many do."""
        for place, member in enumerate(self.members):
            if member.poll() is None or member.returncode == 0:
                continue
            if member.returncode == os.EX_IOERR:
                raise BadInput(f"{self.folder} cannot be written to, or its disk is full: free space, then start again")
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise BadInput(
                    f"{RESTARTS} workers have crashed, the last with exit status {member.returncode}: see above"
                )
            self.members[place] = self.begin()

    def end(self) -> None:
        """Stops the workers; each saves the trial that it is training."""
        for member in self.members:
            if member.poll() is None:
                member.send_signal(signal.SIGTERM)
        for member in self.members:
            member.wait()


@contextlib.contextmanager
def running(module: str, folder: Path, url: str, size: int) -> Iterator[Team]:
    """Runs workers during the `with` block, and stops them at its end."""
    team = Team(module, folder, url, size)
    try:
        yield team
    finally:
        team.end()
