"""Helpers: comparisons as real commands, which are disturbed, and the ledgers that they leave."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from conveyor.compare.compare import CONFIG, LEDGER, RUNS
from conveyor.compare.ledger import Claim, Ledger
from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import ComparisonConfig
from conveyor.compare.training import TrialWork
from conveyor.compare.worker import Worker

SMALL = ComparisonConfig(tasks=("adding:24", "lag:5"), cells=("rnn", "gru"), trials=2, seeds=1, steps=20, batch_size=4)


def ledger(where: Path | str, config: ComparisonConfig = SMALL) -> Ledger:
    """Opened: that in a folder, or that of a database's URL."""
    made = Ledger(where if isinstance(where, str) else f"sqlite:///{where / LEDGER}", config)
    return made


def asked(folder: Path, config: ComparisonConfig) -> None:
    """Leaves in a folder what a command does that has asked it."""
    (folder / CONFIG).write_text(config.to_json())


def done(claim: Claim, value: float = 0.5) -> Outcome:
    return replace(failed(claim), value=value, validation=value)


def failed(claim: Claim, error: str = "") -> Outcome:
    return TrialWork(claim, SMALL, Path()).failed(error)


def work(folder: Path, book: Ledger) -> None:
    """Does every trial, in this process and those that it begins."""
    Worker(book, partial(TrialWork, config=book.config, folder=folder / RUNS)).run()


def claim_all(where: Path | str, config: ComparisonConfig, found: Any) -> None:
    """Claims and ends trials until none waits, and puts their names into the queue."""
    book, mine = ledger(where, config), []
    while claim := book.claim():
        mine.append((claim.task, claim.cell, str(claim.key)))
        book.end(claim, done(claim))
    found.put(mine)


def claimed_at_once(context: Any, processes: int, where: Path | str, config: ComparisonConfig) -> Counter[Any]:
    """How often each trial was claimed by so many processes, all of which write the trials down, too."""
    found = context.Queue()
    started = [context.Process(target=claim_all, args=(where, config, found)) for _ in range(processes)]
    for process in started:
        process.start()
    claims = Counter(claim for _ in started for claim in found.get(timeout=120))
    for process in started:
        process.join()
    return claims


def begin(
    folder: Path,
    *words: str,
    tasks: str = "adding:24,lag:5",
    workers: int = 2,
    start: str = "from conveyor.cli import main; main()",
) -> subprocess.Popen[str]:
    """A comparison of two cells, six trials a task."""
    asked = f"compare --tasks {tasks} --cells rnn,gru --trials 2 --seeds 1 --steps 100 --workers {workers}"
    return subprocess.Popen(
        [sys.executable, "-c", start, *asked.split(), "-o", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def succeeds(process: subprocess.Popen[str]) -> str:
    """Waits until it has, and returns what it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


def values(folder: Path, url: str | None = None) -> dict[Any, Any]:
    """What came out of each trial of the folder's config."""
    config = ComparisonConfig.of_json((folder / "question.json").read_text())
    book = ledger(url or folder, config)
    outcomes = book.outcomes()
    book.rest()
    found = {(o.task, o.cell, o.index, o.repeat): (o.value, o.validation, o.curve) for o in outcomes}
    assert len(found) == len(outcomes), "a trial has ended twice"
    return found


def children(process: int) -> list[int]:
    """The processes below it, by number."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found] + [below for child in found for below in children(int(child))]


def until(folder: Path, process: subprocess.Popen[str], ended: int) -> None:
    """Waits until so many trials have ended in the folder."""
    while len(list(folder.glob("runs/*/*/*/results/figures.json"))) < ended:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def kill(numbers: list[int]) -> None:
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
