"""Times that can be compared, on a machine that has other work too."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

LEAST_ROUNDS = 3  # of fewer the median says nothing
PAUSE = 0.01  # seconds after which the threads of the run before have gone to sleep
LONG = 0.05  # seconds of a run that is not the longer for having to wake its own threads


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    seconds: float,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every run, each once in a round, for as many rounds as begin within so many seconds.

        times = interleaved({"ours": ours, "theirs": theirs}, seconds=10)
        statistics.median(times["theirs"]) / statistics.median(times["ours"])

    A slow moment of the machine so hits all alike. The order within a round is drawn anew, so that none always finds
    the caches as the same other one left them. The runs are to be warm: every time counts.

    With several threads, those of the run before may go on waiting for work on the processors that the next one needs.
    So each run has a pause before it, and, if it is short, runs once more, not timed, to wake its own threads.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffle = list(runs), random.Random(0).shuffle
    end, rounds = clock() + seconds, 0
    while runs and (rounds < LEAST_ROUNDS or clock() < end):
        shuffle(order)
        for name in order:
            if threads > 1:
                time.sleep(PAUSE)
                if times[name] and times[name][-1] < LONG:
                    runs[name]()
            began = clock()
            runs[name]()
            times[name].append(clock() - began)
        rounds += 1
    return times
