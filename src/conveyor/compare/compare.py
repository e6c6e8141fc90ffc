"""A comparison on this machine: its folder, its workers, what is told of them, and the report at the end."""

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
from conveyor.compare.ledger import Counts, Ledger, Study
from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import Question
from conveyor.compare.trial import try_out
from conveyor.compare.worker import DATABASE
from conveyor.errors import BadInput
from conveyor.training.interrupt import signals
from conveyor.training.run import write

QUESTION, RUNS, LEDGER = "question.json", "runs", "ledger.db"
LOOK = 1.0  # seconds between two looks at the ledger
RESTARTS = 20  # workers that may end by themselves


# What is told of the work: how far it is, after how many seconds, and what finds what came out so far.
Tell = Callable[[Counts, float, Callable[[], list[Any]]], None]


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
    tell: Tell,
) -> Result:
    """Does all trials that have not ended, and writes the report into the folder.

    `url`: of the database, by default a file in the folder; who starts the same comparison on another machine with the
    same database shares the work. `budget`: seconds after which no trial goes on; the report then has what there is.
    Raises BadInput for a folder or database of another comparison.
    """
    for task, cell in question.pairs():
        if ":" in cell:
            try_out(task, cell)
    ledger, result = carry_out("conveyor.compare", question, folder, url, workers, budget, tell)
    if outcomes := ledger.outcomes():
        found = [replace(one, task=problems.shown(one.task)) for one in outcomes]
        report.write(folder, found, [problems.about(task) for task in question.tasks])
    return result


def best(outcomes: list[Outcome]) -> str:
    """The best of each task so far, in a few words."""
    found: dict[str, Outcome] = {}
    for one in outcomes:
        if not one.failed and (one.task not in found or one.score < found[one.task].score):
            found[one.task] = one
    on = (f"{problems.shown(task)}: {one.cell} {one.score:.4g}" for task, one in found.items())
    return "best on validation: " + ("; ".join(on) or "none yet")


def carry_out(
    module: str,
    question: Study,
    folder: Path,
    url: str | None,
    workers: int,
    budget: float | None,
    tell: Tell,
) -> tuple[Ledger, Result]:
    """All trials of a question, by workers that are processes of `module`; the ledger as it is then."""
    check_folder(folder, question)
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{(folder / LEDGER).resolve()}"
    ledger = Ledger(url, question)
    write(folder / QUESTION, question.to_json().encode())  # not before all has been found good
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


def check_folder(folder: Path, question: Study) -> None:
    """Raises BadInput if the folder holds another question, or something else."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is no folder: name another with --out")
    with contextlib.suppress(FileNotFoundError):
        there = (folder / QUESTION).read_text()
        if there != question.to_json():
            raise BadInput(f"{folder} has what came of {other(there, question)}: ask that, or name another with --out")
        return
    if folder.is_dir() and any(not one.name.startswith((LEDGER, QUESTION)) for one in folder.iterdir()):
        raise BadInput(f"{folder} is not empty, and holds no such question: name another with --out")


def other(there: str, question: Study) -> str:
    """In which words of JSON two questions differ."""
    try:
        was, now = json.loads(there), json.loads(question.to_json())
    except ValueError:
        return "something else"
    if set(was) != set(now):
        return "another kind of question, or of another version of conveyor"
    files = [f"the file of {name}" for name in now["files"] if was["files"].get(name) != now["files"][name]]
    differ = [name for name in now if name != "files" and was[name] != now[name]] or files
    return f"another question, which differs in {', '.join(differ)}"


class Team:
    """The workers of this machine, each a process."""

    def __init__(self, module: str, folder: Path, url: str, size: int):
        self.folder = folder
        self.command = [sys.executable, "-m", module, str(folder.resolve())]
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
            if member.returncode == os.EX_IOERR:
                raise BadInput(f"{self.folder} cannot be written, or its disk is full: make room, and start again")
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
def running(module: str, folder: Path, url: str, size: int) -> Iterator[Team]:
    team = Team(module, folder, url, size)
    try:
        yield team
    finally:
        team.end()
