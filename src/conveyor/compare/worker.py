"""A worker: claims a trial, trains it in a child process, and writes its outcome into the ledger."""

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
PAUSE = 1.0  # seconds until an idle worker looks again: a trial of a dead worker may wait by then
DATABASE = "CONVEYOR_DATABASE"  # environment variable: the URL may hold a password, and a command line is public
ORPHANED = 0.5  # seconds between two checks of the child whether its worker is alive
LOSSES = 3  # a trial whose process has died this often has failed


class Work(Protocol):
    """What to run for a claim, in a child process."""

    def do(self) -> int:
        """Runs in the child process. Returns its exit status: 0, EXIT_FAILED or EXIT_STOPPED."""

    def outcome(self, memory: int, complete: bool) -> Any:
        """The outcome. `memory`: peak bytes of the child process. `complete` is false if it returned EXIT_FAILED."""

    def failed(self, error: str) -> Any:
        """The outcome of a trial whose process died each time."""


@dataclass
class Worker:
    """One worker. `work` makes what to run for a claim; the worker stops when the process `parent` has ended."""

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
        """Whether a signal was caught or the parent process has ended."""
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
        """Waits for the child, sends heartbeats, passes a stop on. Returns the exit status and resource usage."""
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


EXIT_FAILED, EXIT_STOPPED, EXIT_UNWRITTEN = 3, 4, 5
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # not the trial's fault


def start(do: Callable[[], int]) -> int:
    """Forks a process that calls `do` and exits with what it returns. Returns the process id."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the worker, which passes it on as SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the training installs its own handler
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
        status = do()
    except BaseException as error:  # printed into the log
        sys.excepthook(*sys.exc_info())
        status = EXIT_UNWRITTEN if isinstance(error, OSError) and error.errno in UNWRITTEN else status
    finally:
        os._exit(status)


def follow(parent: int) -> None:
    """Sends this process SIGTERM when its parent has ended, since nobody would read its result."""
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os.kill(os.getpid(), signal.SIGTERM)


def main(make: Callable[[str], tuple[Ledger, Callable[[Claim], Work]]]) -> None:
    """The main function of a worker process; the environment holds the URL of the database."""
    import torch._dynamo  # imported once here, and not by every forked training at its first step

    torch.set_num_threads(1)  # a process with running threads cannot be forked safely
    try:
        ledger, work = make(os.environ[DATABASE])
        Worker(ledger, work, os.getppid()).run()
    except Unreachable:  # the parent process meets the same error and prints it once
        sys.exit(os.EX_TEMPFAIL)
    except BadInput as error:
        sys.exit(f"conveyor: {error}")
