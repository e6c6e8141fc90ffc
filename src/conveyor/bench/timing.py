"""Comparable times on a machine that is not idle."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

LEAST_ROUNDS = 3  # for a meaningful median
PAUSE = 0.01  # seconds after which the threads of the previous run have gone to sleep
LONG = 0.05  # seconds of a run for which waking its threads does not matter


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    seconds: float,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of every run, each timed once per round, for as many rounds as begin within `seconds`.

        times = interleaved({"ours": ours, "theirs": theirs}, seconds=10)
        statistics.median(times["theirs"]) / statistics.median(times["ours"])

    A slow phase of the machine thus affects all runs alike. The order within a round is random, so that no run always
    follows the same other one and finds its caches. The runs must be warm: every time counts.

    With several threads, the threads of the previous run may keep spinning on the processors that the next one needs.
    So there is a pause before each run, and a short run is first run once without timing to wake its own threads.
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
