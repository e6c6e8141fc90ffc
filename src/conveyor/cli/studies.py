"""The commands that train many networks: conveyor compare and conveyor search."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from conveyor.cli.options import duration, folder_name, listed
from conveyor.compare import compare as comparison
from conveyor.compare import study
from conveyor.compare.compare import Result, Tell
from conveyor.compare.ledger import Counts
from conveyor.compare.worker import DATABASE
from conveyor.errors import BadInput
from conveyor.search import config as defaults
from conveyor.search import search as searching
from conveyor.training import progress


def _tasks(default: tuple[str, ...]) -> Any:
    about = f"names, name:length, own.toml [default: {','.join(default)}]"
    return Annotated[list[str] | None, typer.Option(help=about, show_default=False)]


CompareTasks: Any = _tasks(study.TASKS)
SearchTasks: Any = _tasks(defaults.TASKS)
Seed = Annotated[int, typer.Option(help="seed of all random numbers")]
Workers = Annotated[int, typer.Option(min=0, help="processes; 0: one per core")]
Budget = Annotated[str | None, typer.Option(help="stop after 90s, 10m, 2h, and report the results so far")]
Database = Annotated[
    str | None,
    typer.Option(
        envvar=DATABASE,
        help="of the ledger, postgresql://USER:PASSWORD@HOST/NAME for several machines [default: a file in --out]",
    ),
]
_DRAWN = " ".join(f"{name}={one}" for name, one in study.RANGES.items())


def compare(
    tasks: CompareTasks = None,
    cells: Annotated[
        list[str] | None,
        typer.Option(help=f"names, or file.py:ClassName [default: {','.join(study.CELLS)}]", show_default=False),
    ] = None,
    trials: Annotated[int, typer.Option(help="configurations for each cell and task")] = 8,
    seeds: Annotated[int, typer.Option(help="repetitions of the best of them, with new seeds")] = 5,
    steps: Annotated[int, typer.Option(help="training steps of each trial")] = 600,
    parameters: Annotated[int, typer.Option(help="of each network; 0: equal hidden sizes instead")] = 0,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=LOW:HIGH", help=f"of a hyperparameter [default: {_DRAWN}]", show_default=False
        ),
    ] = None,
    seed: Seed = 0,
    workers: Workers = 0,
    budget: Budget = None,
    database: Database = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", parser=folder_name, help="of the report and runs")
    ] = Path("report"),
) -> None:
    """Compare cells on tasks, and report which is best and whether the differences are significant.

    Every cell learns every task in the same random configurations; the best of them is repeated with new seeds. Run the
    same command again to resume. --tasks and --cells can be repeated or take names separated by commas.
    """
    config = study.ComparisonConfig(
        listed(tasks, study.TASKS),
        listed(cells, study.CELLS),
        trials,
        seeds,
        seed,
        steps,
        parameters=parameters,
        ranges=tuple(ranges or ()),
    )
    limit = None if budget is None else duration(budget)
    shown = progress.for_terminal("trial")
    counted = _counted(shown, comparison.best)
    result = comparison.compare(config, out, database, workers or os.cpu_count() or 1, limit, counted)
    if result.counts.failed and not result.counts.complete:
        raise BadInput(f"all trials have failed: {out / 'report.md'} says why")
    if (out / "report.html").exists():
        shown.note(f"the report: {out / 'report.html'} and report.md; every trial: {out / 'results.csv'}")
    _ended(result, shown)


def search(
    tasks: SearchTasks = None,
    start: Annotated[
        list[str] | None,
        typer.Option(help=f"cells, or file.py:ClassName [default: {','.join(defaults.START)}]", show_default=False),
    ] = None,
    candidates: Annotated[int, typer.Option(help="cells to evaluate, including those of --start")] = 200,
    draws: Annotated[int, typer.Option(help="configurations for each candidate and task")] = 2,
    steps: Annotated[int, typer.Option(help="training steps of each configuration")] = 300,
    parameters: Annotated[int, typer.Option(help="of each network, approximately")] = 6_000,
    abreast: Annotated[int, typer.Option(help="candidates that can be evaluated at the same time")] = 16,
    seed: Seed = 0,
    workers: Workers = 0,
    budget: Budget = None,
    database: Database = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", parser=folder_name, help="of the report, cells and runs")
    ] = Path("search"),
) -> None:
    """Search for better cells by evolution: mutate the equations of good cells and evaluate the results.

    Every candidate is written as a file that can be used like any cell. Run the same command again to resume.
    """
    config = defaults.SearchConfig(
        listed(tasks, defaults.TASKS),
        listed(start, defaults.START),
        candidates,
        draws,
        steps,
        parameters,
        abreast,
        seed,
    )
    limit = None if budget is None else duration(budget)
    shown = progress.for_terminal("candidate")
    counted = _counted(shown, searching.best)
    result, source = searching.search(config, out, database, workers or os.cpu_count() or 1, limit, counted)
    if source:
        print(source)
    if (out / "search.md").exists():
        shown.note(f"the report: {out / 'search.md'}; every candidate: {out / 'candidates.csv'}")
    _ended(result, shown)


def _ended(result: Result, shown: progress.Progress) -> None:
    left = result.counts.waiting + result.counts.running
    if left:
        shown.note(f"{left} trials are left after the time limit or a signal; resume with the same command")
    if result.signal is not None:
        raise SystemExit(128 + result.signal)


def _counted(shown: progress.Progress, best: Callable[[list[Any]], str]) -> Tell:
    """Reports, when it changes, how many trials have ended, the estimated time left, and the best so far."""
    last: list[int] = []

    def tell(counts: Counts, seconds: float, outcomes: Callable[[], list[Any]]) -> None:
        ended, total = counts.complete + counts.failed, sum(dataclasses.astuple(counts))
        if last and last[-1] == ended:
            return
        last.append(ended)
        done = ended - last[0]
        left = f", about {(total - ended) * seconds / done / 60:.1f} minutes left" if done and total > ended else ""
        done_so_far = f"{ended} of {total} trials done, {counts.failed} of them failed, {counts.running} running"
        shown.note(f"{done_so_far}{left}" + (f"; {best(outcomes())}" if ended else ""))

    return tell
