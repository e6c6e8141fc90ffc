"""What is built once, whichever thread comes first."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from conveyor.targets.target import CannotBuild

RETRY_AFTER = (
    60  # seconds after which a kernel that could not be built is tried again: a compiler may have been installed
)

# One thread builds at a time, and a process is not forked meanwhile: the child would wait for ever.
BUILDING = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=BUILDING.acquire, after_in_parent=BUILDING.release, after_in_child=BUILDING.release)


@dataclass
class BuildOnce:
    """What is to be built once, by whichever thread comes first; that it has failed is remembered for a while."""

    failure: CannotBuild | None = None
    when: float = 0

    def __enter__(self) -> None:
        BUILDING.acquire()
        if self.failure is not None and time.monotonic() - self.when < RETRY_AFTER:
            BUILDING.release()
            raise self.failure.with_traceback(None)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.failure = error if isinstance(error, CannotBuild) else None
        self.when = time.monotonic()
        BUILDING.release()
