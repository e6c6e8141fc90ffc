"""A worker claims a trial, trains it in a child process, and writes its outcome into the ledger."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from conveyor.compare.ledger import Claim, Ledger, Unreachable
from conveyor.errors import BadInput
from conveyor.training.interrupt import signals

BEAT = 10.0  # seconds between two heartbeats
LOOK = 0.02  # seconds between two checks of the child process
PAUSE = 1.0  # seconds until an idle worker looks again, in case the trial of a dead worker is waiting
DATABASE = "CONVEYOR_DATABASE"  # environment variable, since the URL may hold a password and command lines are public
ORPHANED = 0.5  # seconds between two checks of the child that its worker is alive
LOSSES = 3  # a trial has failed once its process has died this many times


class Work(Protocol):
    """The work of a claim, done in a child process."""

    def do(self) -> int:
        """Runs in the child process. Returns its exit status: 0, EXIT_FAILED or EXIT_STOPPED."""

    def outcome(self, memory: int, complete: bool) -> Any:
        """The outcome. `memory`: peak memory of the child, in bytes. `complete`: false if it returned EXIT_FAILED."""

    def failed(self, error: str) -> Any:
        """The outcome of a trial whose process has died too often."""


@dataclass
class Worker:
    """One worker. `work` makes the work of a claim; the worker stops when the process `parent` has ended."""

    ledger: Ledger
    work: Callable[[Claim], Work]
    parent: int | None = None

    def run(self) -> None:
        """Runs trials until all have ended, a signal arrives, or the parent process ends."""
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
        """Whether a signal has been caught or the parent process has ended."""
        return bool(caught) or (self.parent is not None and os.getppid() != self.parent)

    def do(self, claim: Claim, caught: list[int]) -> None:
        """Runs one trial, from its checkpoint if it has one."""
        work = self.work(claim)
        self.ledger.rest()
        process = start(work.do)
        try:
            status, usage = self.watch(process, claim, caught)
        except BadInput:  # from the ledger
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
            raise
        ended = os.waitstatus_to_exitcode(status)
        if ended == EXIT_STOPPED or (ended < 0 and self.stopped(caught)):
            self.ledger.release(claim)
        elif ended == EXIT_UNWRITTEN:
            self.ledger.release(claim)
            sys.exit(os.EX_IOERR)
        elif ended in (0, EXIT_FAILED):
            self.ledger.end(claim, work.outcome(usage.ru_maxrss * 1024, ended == 0))
        elif claim.losses + 1 < LOSSES:
            self.ledger.release(claim, lost=True)
        else:
            self.ledger.end(
                claim, work.failed(f"its process died {LOSSES} times, the last time with exit status {ended}")
            )

    def watch(self, process: int, claim: Claim, caught: list[int]) -> tuple[int, Any]:
        """Waits for the child, sends heartbeats, forwards a stop. Returns the exit status and resource usage."""
        beaten, told = time.monotonic(), False
        while True:
            ended, status, usage = os.wait4(process, os.WNOHANG)
            if ended:
                return status, usage
            if self.stopped(caught) and not told:
                told = True
                os.kill(process, signal.SIGTERM)  # it saves a checkpoint and ends
            if time.monotonic() - beaten > BEAT:
                self.ledger.beat(claim)
                self.ledger.rest()
                beaten = time.monotonic()
            time.sleep(LOOK)


EXIT_FAILED, EXIT_STOPPED, EXIT_UNWRITTEN = 3, 4, 5
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # not caused by the trial


def start(do: Callable[[], int]) -> int:
    """Forks a process that calls `do` and exits with its result. Returns the process id."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker receives Ctrl-C and forwards it as SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the training installs its own handler
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
        status = do()
    except BaseException as error:  # printed into the log
        sys.excepthook(*sys.exc_info())
        status = EXIT_UNWRITTEN if isinstance(error, OSError) and error.errno in UNWRITTEN else status
    finally:
        os._exit(status)


def follow(parent: int) -> None:
    """Sends SIGTERM to this process when its parent has ended, since its result would not be read."""
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os.kill(os.getpid(), signal.SIGTERM)


def main(make: Callable[[str], tuple[Ledger, Callable[[Claim], Work]]]) -> None:
    """The main function of a worker process. The environment variable DATABASE holds the URL of the database."""
    import torch._dynamo  # imported here once, instead of in every forked training process at its first step

    torch.set_num_threads(1)  # a process with running threads cannot be forked safely
    try:
        ledger, work = make(os.environ[DATABASE])
        Worker(ledger, work, os.getppid()).run()
    except Unreachable:  # the parent process has the same error and prints it once
        sys.exit(os.EX_TEMPFAIL)
    except BadInput as error:
        sys.exit(f"conveyor: {error}")
