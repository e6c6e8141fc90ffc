"""A process that does trials: claims one, trains it in a process of its own, and writes down what came out."""

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

from conveyor.compare.ledger import Away, Claim, Ledger
from conveyor.errors import BadInput
from conveyor.training.interrupt import signals

BEAT = 10.0  # seconds between two words to the ledger
LOOK = 0.02  # seconds between two looks at a training
PAUSE = 1.0  # seconds until a worker without a trial looks again: others' may come back
DATABASE = "CONVEYOR_DATABASE"  # of the environment: a command line, which may hold a password, everybody can read
ORPHANED = 0.5  # seconds between two looks of a training at whether its worker is there
LOSSES = 3  # so often a trial may end its process before it counts as failed


class Work(Protocol):
    """What there is to do for a claim, in a process of its own."""

    def do(self) -> int:
        """The exit status: 0, EXIT_FAILED or EXIT_STOPPED."""

    def outcome(self, memory: int, complete: bool) -> Any:
        """What came out; `memory`: the most bytes that the process held; not `complete`: its status was EXIT_FAILED."""

    def failed(self, error: str) -> Any:
        """What came out where the process always ended by itself."""


@dataclass
class Worker:
    """One worker. `work` says what to do for a claim; `parent` is the process with which it ends."""

    ledger: Ledger
    work: Callable[[Claim], Work]
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
            self.ledger.end(claim, work.failed(f"its process ended {LOSSES} times, the last time with {ended}"))

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


EXIT_FAILED, EXIT_STOPPED, EXIT_UNWRITTEN = 3, 4, 5
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # no fault of the trial's


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
    except BaseException as error:  # what it was stands in the log
        sys.excepthook(*sys.exc_info())
        status = EXIT_UNWRITTEN if isinstance(error, OSError) and error.errno in UNWRITTEN else status
    finally:
        os._exit(status)


def follow(parent: int) -> None:
    """Ends this process as a signal would when its parent has ended: nobody waits for what it does."""
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os.kill(os.getpid(), signal.SIGTERM)


def main(make: Callable[[str], tuple[Ledger, Callable[[Claim], Work]]]) -> None:
    """The body of a worker's process, which is given the database's URL."""
    import torch._dynamo  # what every training imports at its first step, once for all that come from this process

    torch.set_num_threads(1)  # a process that had threads of its own could not be forked
    try:
        ledger, work = make(os.environ[DATABASE])
        Worker(ledger, work, os.getppid()).run()
    except Away:  # which who began it sees, too, and says once
        sys.exit(os.EX_TEMPFAIL)
    except BadInput as error:
        sys.exit(f"conveyor: {error}")
