"""The cost and throughput of the ledger of `conveyor compare`; docs/how-to/many-machines.md has the figures.

    python benchmarks/ledger.py --processes 1 2 4 8             # 5 minutes: SQLite in a temporary folder
    python benchmarks/ledger.py --server postgresql://me:secret@localhost/postgres    # creates databases and drops them

First with training runs of a second or two: trials per minute, and the fraction of the workers' time spent in the
ledger. Then with the ledger's part of trials of a minute, without the training, for 1200 trials of 60 pairs of task and
cell: trials per second, and the time of a claim. The ledger can serve sixty times as many workers as trials per second.
"""

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
import torch

from conveyor.compare.ledger import Ledger
from conveyor.compare.study import ComparisonConfig
from conveyor.compare.training import TrialWork
from conveyor.compare.worker import BEAT, Worker
from conveyor.zoo import CELLS

SHORT = ComparisonConfig(tasks=("lag:5",), cells=("gru",), trials=12, seeds=0, steps=150)
MANY = ComparisonConfig(tasks=("lag:5", "adding", "agreement"), cells=tuple(CELLS)[:20], trials=20, seeds=0)
SECONDS = 8.0  # how long each process runs without training
BEATS = int(60 / BEAT) - 1
CALLS = ("claim", "beat", "end", "counts", "recover", "release", "rest")


class Timed(Ledger):
    """A ledger that records the seconds of its outermost calls, by the name of the method."""

    def __init__(self, url: str, config: ComparisonConfig):
        super().__init__(url, config)
        self.spent: dict[str, list[float]] = {name: [] for name in CALLS}
        self.inside = False
        for name in CALLS:
            setattr(self, name, self.timed(name, getattr(self, name)))

    def timed(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self.inside:
                return do(*arguments)
            began, self.inside = time.perf_counter(), True
            try:
                return do(*arguments)
            finally:
                self.inside = False
                self.spent[name].append(time.perf_counter() - began)

        return call


def train(ledger: Timed, folder: Path) -> None:
    Worker(ledger, partial(TrialWork, config=ledger.config, folder=folder)).run()


def do_nothing(ledger: Timed, folder: Path) -> None:
    """Claims, sends heartbeats and ends trials like a worker with training runs of a minute, but does not train."""
    curve = tuple((step, 0.123456789) for step in range(10))
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until and (claim := ledger.claim()):
        for _ in range(BEATS):
            ledger.rest()
            ledger.beat(claim)
        ledger.rest()
        nothing = TrialWork(claim, MANY, folder).failed("")
        ledger.end(claim, replace(nothing, value=0.5, validation=0.5, folder=str(folder), curve=curve))


def process(
    do: Callable[[Timed, Path], None], url: str, config: ComparisonConfig, folder: Path, ready: Any, found: Any
) -> None:
    """One process; all start at the same time."""
    torch.set_num_threads(1)
    ledger = Timed(url, config)
    ready.wait()
    began = time.perf_counter()
    do(ledger, folder)
    found.put((time.perf_counter() - began, ledger.spent))


@contextlib.contextmanager
def database(server: str, folder: str) -> Iterator[str]:
    """The URL of a new database, which is dropped afterwards."""
    if not server:
        yield f"sqlite:///{folder}/ledger.db"
        return
    url, name = sqlalchemy.make_url(server).set(drivername="postgresql+psycopg"), f"ledger_{time.time_ns()}"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def measured(do: Callable[[Timed, Path], None], server: str, config: ComparisonConfig, processes: int) -> str:
    """Runs all trials with this many processes: a row of the table."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(processes), context.Queue()
    with tempfile.TemporaryDirectory() as folder, database(server, folder) as url:
        Ledger(url, config)
        given = (do, url, config, Path(folder), ready, found)
        team = [context.Process(target=process, args=given) for _ in range(processes)]
        for member in team:
            member.start()
        said = [found.get() for _ in team]
        for member in team:
            member.join()
    seconds, trials = max(worked for worked, _ in said), sum(len(spent["end"]) for _, spent in said)
    share = sum(sum(sum(calls) for calls in spent.values()) for _, spent in said) / sum(worked for worked, _ in said)
    claims = sorted(claim for _, spent in said for claim in spent["claim"])
    rate = f"{trials / seconds:.3g} per second, {60 * trials / seconds:.3g} per minute"
    return f"{processes:9} | {rate:34} | {share:6.1%} | {1000 * claims[len(claims) // 2]:.3g} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="", help="the URL of a database of a PostgreSQL server [default: SQLite]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for what, do, config in [
        ("training runs", train, SHORT),
        ("trials of a minute, without the training", do_nothing, MANY),
    ]:
        print(f"{what}\nprocesses | {'trials':34} | ledger | a claim, median")
        for number in asked.processes:
            print(measured(do, asked.server, config, number), flush=True)


if __name__ == "__main__":
    main()
