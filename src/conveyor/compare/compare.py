"""A comparison on this machine: its folder, its workers, what is told of them, and the report at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conveyor.compare import problems, report
from conveyor.compare.ledger import Counts, Ledger
from conveyor.compare.study import Question
from conveyor.errors import BadInput
from conveyor.training.interrupt import signals

QUESTION, RUNS, LEDGER = "question.json", "runs", "ledger.db"
DATABASE = "CONVEYOR_DATABASE"  # of the environment: a command line, which may hold a password, everybody can read
LOOK = 1.0  # seconds between two looks at the ledger
RESTARTS = 20  # workers that may end by themselves


@dataclass(frozen=True)
class Result:
    counts: Counts
    signal: signal.Signals | None  # what ended it early, if anything did


def compare(
    question: Question,
    folder: Path,
    url: str | None,
    workers: int,
    budget: float | None,
    tell: Callable[[Counts, float], None],
) -> Result:
    """Does all trials that have not ended, and writes the report into the folder.

    `url`: of the database, by default a file in the folder; who starts the same comparison on another machine with the
    same database shares the work. `budget`: seconds after which no trial goes on; the report then has what there is.
    Raises BadInput for a folder or database of another comparison.
    """
    prepare(folder, question)
    url = url or f"sqlite:///{(folder / LEDGER).resolve()}"
    ledger = Ledger(url, question)
    ledger.open()
    began = time.monotonic()
    with signals() as caught, running(folder, url, workers) as team:
        ledger.stopped = lambda: bool(caught)
        while not caught and not (counts := ledger.counts()).ended:
            tell(counts, time.monotonic() - began)
            if budget is not None and time.monotonic() - began > budget:
                break
            ledger.recover()
            team.refill()
            time.sleep(LOOK)
    outcomes = ledger.outcomes()
    tell(ledger.counts(), time.monotonic() - began)
    if outcomes:
        report.write(folder, outcomes, [problems.about(task) for task in question.tasks])
    return Result(ledger.counts(), signal.Signals(caught[0]) if caught else None)


def prepare(folder: Path, question: Question) -> None:
    """The folder holds the question. Raises BadInput if it holds another, or something else."""
    path = folder / QUESTION
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == question.to_json():
            return
        raise BadInput(f"{folder} has the report of another comparison: ask what it asks, or name another with --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty, and holds no comparison: name another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(question.to_json())
    draft.replace(path)


class Team:
    """The workers of this machine, each a process."""

    def __init__(self, folder: Path, url: str, size: int):
        self.command = [sys.executable, "-m", "conveyor.compare", str(folder.resolve())]
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", DATABASE: url}
        self.members = [self.begin() for _ in range(size)]
        self.restarts = 0

    def begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env=self.environment)

    def refill(self) -> None:
        """Another worker for each that was killed. Raises BadInput where they all fail."""
        for place, member in enumerate(self.members):
            if member.poll() is None or member.returncode == 0:
                continue
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise BadInput(f"the workers end by themselves, the last with {member.returncode}: see above")
            self.members[place] = self.begin()

    def end(self) -> None:
        """They save what they are at and end; a second signal ends them at once."""
        for member in self.members:
            if member.poll() is None:
                member.send_signal(signal.SIGTERM)
        for member in self.members:
            member.wait()


@contextlib.contextmanager
def running(folder: Path, url: str, size: int) -> Iterator[Team]:
    team = Team(folder, url, size)
    try:
        yield team
    finally:
        team.end()
