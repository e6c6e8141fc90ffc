"""Signals that stop a training run at the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collects the first SIGINT, SIGTERM or SIGHUP in a list; a second one has its usual effect."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python allows signal handlers in the main thread only
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if former[signal.SIGHUP] is signal.SIG_IGN:  # under nohup
        del former[signal.SIGHUP]

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        restore()

    for number in former:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        restore()
