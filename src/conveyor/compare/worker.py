"""A process that does trials: claims one, trains it in a process of its own, and writes down what came out."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conveyor.compare.ledger import Claim, Ledger
from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import Question
from conveyor.compare.trial import Trial, TrialSettings, figures
from conveyor.errors import BadInput
from conveyor.training import train
from conveyor.training.interrupt import signals
from conveyor.training.progress import Progress
from conveyor.training.run import Run

BEAT = 10.0  # seconds between two words to the ledger
LOOK = 0.02  # seconds between two looks at a training
PAUSE = 1.0  # seconds until a worker without a trial looks again: others' may come back
ORPHANED = 0.5  # seconds between two looks of a training at whether its worker is there
LOSSES = 3  # so often a trial may end its process before it counts as failed


@dataclass
class Worker:
    """One worker. `folder` holds a run for each trial; `parent` is the process with which it ends."""

    folder: Path
    ledger: Ledger
    parent: int | None = None

    def run(self) -> None:
        """Trials until all have ended, or until a signal, or the end of the process that began it."""
        with signals() as caught:
            self.ledger.stopped = lambda: self.stopped(caught)
            while not self.stopped(caught):
                claim = self.ledger.claim()
                if claim is not None:
                    self.do(claim, caught)
                elif self.ledger.counts().ended:
                    return
                elif not self.ledger.recover():
                    self.ledger.rest()
                    time.sleep(PAUSE)

    def stopped(self, caught: list[int]) -> bool:
        return bool(caught) or (self.parent is not None and os.getppid() != self.parent)

    def do(self, claim: Claim, caught: list[int]) -> None:
        """One trial, from where it is."""
        run = Run(self.folder / claim.task.replace(":", "-") / Path(claim.cell).name.replace(":", "-") / str(claim.key))
        run.folder.mkdir(parents=True, exist_ok=True)
        settings = settings_of(claim, self.ledger.question)
        self.ledger.rest()
        process = start(lambda: teach(settings, run))
        try:
            status, usage = self.watch(process, claim, caught)
        except BadInput:  # from the ledger
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
            raise
        ended = os.waitstatus_to_exitcode(status)
        if ended == EXIT_STOPPED or (ended < 0 and self.stopped(caught)):
            self.ledger.release(claim)
        elif ended in (0, EXIT_FAILED):
            self.ledger.end(claim, outcome(claim, run, usage.ru_maxrss * 1024, self.folder, ended == 0))
        elif claim.losses + 1 < LOSSES:
            self.ledger.release(claim, lost=True)
        else:
            self.ledger.end(claim, failed(claim, f"its process ended {LOSSES} times, the last time with {ended}"))

    def watch(self, process: int, claim: Claim, caught: list[int]) -> tuple[int, Any]:
        """Waits until the training has ended, and tells the ledger and the training what they must know."""
        beaten, told = time.monotonic(), False
        while True:
            ended, status, usage = os.wait4(process, os.WNOHANG)
            if ended:
                return status, usage
            if self.stopped(caught) and not told:
                told = True
                os.kill(process, signal.SIGTERM)  # it saves and ends
            if time.monotonic() - beaten > BEAT:
                self.ledger.beat(claim)
                self.ledger.rest()
                beaten = time.monotonic()
            time.sleep(LOOK)


EXIT_FAILED, EXIT_STOPPED = 3, 4


def start(do: Callable[[], int]) -> int:
    """Does it in a process of its own, whose exit status is what it returns: the process's number."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the worker, who says so
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the training hears it
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
        status = do()
    except BaseException:  # what it was stands in the log
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def follow(parent: int) -> None:
    """Ends this process as a signal would when its parent has ended: nobody waits for what it does."""
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os.kill(os.getpid(), signal.SIGTERM)


def teach(settings: TrialSettings, run: Run) -> int:
    """Trains one trial in its folder, on from its checkpoint where there is one."""
    with open(run.folder / "log.txt", "a", buffering=1) as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        while occupied(run):  # by the training that a worker who was killed has left, for a moment
            time.sleep(LOOK)
        try:
            result = begun(settings, run)
        except BadInput as error:
            print(f"conveyor: {error}", file=log)
            (run.folder / "error.txt").write_text(str(error))
            return EXIT_FAILED
    return 0 if result.signal is None else EXIT_STOPPED


def occupied(run: Run) -> bool:
    """Whether another process trains it."""
    try:
        with run.locked():
            return False
    except BadInput:
        return True


def begun(settings: TrialSettings, run: Run) -> train.Result:
    """Goes on with a run of these settings; begins it anew where there is none, or where it cannot be read."""
    if run.checkpoint.exists():
        with contextlib.suppress(BadInput):
            if run.settings(TrialSettings, Trial.command) == settings:
                return train.resume(Trial, run.folder, Progress())
    return train.start(Trial, settings, run.folder, Progress(), force=True)


def settings_of(claim: Claim, question: Question) -> TrialSettings:
    made = TrialSettings(
        task=claim.task,
        cell=claim.cell,
        seed=claim.seed,
        steps=question.steps,
        batch_size=question.batch_size,
        evaluate_every=max(1, question.steps // 10),
        parameters=question.parameters,
        device="cpu",
    )
    return replace(made, **claim.settings)


def failed(claim: Claim, error: str) -> Outcome:
    key = claim.key
    return Outcome(claim.task, claim.cell, key.index, claim.seed, key.repeat, claim.settings, None, None, error=error)


def outcome(claim: Claim, run: Run, memory: int, folder: Path, complete: bool) -> Outcome:
    """What a run that has ended says of itself."""
    where = str(run.folder.relative_to(folder.parent))
    if not complete:
        return replace(failed(claim, (run.folder / "error.txt").read_text()), folder=where)
    found, history = figures(run), run.history()
    curve = tuple((line["step"], line["held_out_loss"]) for line in history if "held_out_loss" in line)
    seconds = max((line["seconds"] for line in history if "seconds" in line), default=0.0)
    return replace(
        failed(claim, ""),
        value=found["test"],
        validation=found["validation"],
        parameters=found["parameters"],
        seconds=seconds,
        memory=memory,
        folder=where,
        curve=curve,
        details=found["details"],
    )
