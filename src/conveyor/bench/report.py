"""The results as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from conveyor.bench import earlier
from conveyor.bench.results import Group, Results, Row, geometric_mean
from conveyor.bench.suite import thread_count

LABELS = {"kernel": "conveyor", "eager": "its loop"}
CONDITIONS = {
    "processor": "the processor",
    "processors": "the number of processors",
    "vectors": "the vector instructions",
    "torch": "the version of PyTorch",
}
TOLERANCE = 1e-4  # the largest difference of an output from ours that is not reported

BUSY = 0.5  # the load above which the figures are unreliable


def show(results: Results, console: Console) -> None:
    """Prints the machine's figures, a table for each cell and mode, and remarks on what failed or is unreliable."""

    line = partial(_line, console)
    for machine in results.machines:
        reads = ", ".join(f"{level} {speed / 1e9:.0f}" for level, speed in machine.reads.items())
        pinned = " on as many processors" if machine.pinned else ""
        products = ", ".join(f"{name} {speed / 1e9:.0f}" for name, speed in machine.products.items())
        line(f"{thread_count(machine.threads)}{pinned}: matrix products in GFLOP/s: {products}; reads in GB/s: {reads}")
    if any(row.seconds for row in results.rows):
        line(
            "\nTimes are medians in ms, in brackets relative to the first column. The first column has in brackets the"
        )
        line("lower bound on its time, from the products and the reads of the weights, as a fraction of it (1: best).")
        line("Loop alone: its speed with input size 1, as a fraction of the speed of a large matrix product.")
        line("Saved: the memory saved for backward, in brackets as a fraction of torch.nn's.")
    for group in results.groups():
        line(f"\n{group.cell}, {group.mode}, {thread_count(group.threads)}")
        console.print(_table(group, results, console.is_terminal))
    for name, times in results.compilation.items():
        line(f"compilation of {name}: " + ", ".join(f"{kind} {seconds:.2g} s" for kind, seconds in times.items()))
    for text in remarks(results):
        line(text)


def show_against(then: Results, now: Results, console: Console) -> None:
    """Prints how the times compare with those of an earlier run: each setting, and the geometric means."""
    line = partial(_line, console)
    line(f"\nAgainst the earlier run, of conveyor {then.conveyor}; now is conveyor {now.conveyor}")
    for text in _circumstances(then, now):
        line(text)
    line("Below 1 is faster now. torch.nn: its own time now/then, which shows what changed besides our code. The last")
    line("column is our ratio divided by that of torch.nn: work that the machine does besides spoils it less.")
    console.print(_against(earlier.pairs(then, now), console.is_terminal))


def _circumstances(then: Results, now: Results) -> list[str]:
    """What else is not as it was then, or that all is."""
    differ = earlier.differences(then, now)
    lines = [
        f"Not as it was: {CONDITIONS[name]}, {before} then, {after} now" for name, (before, after) in differ.items()
    ]
    if differ:
        lines.append("So the ratios are not those of the code alone")
    else:
        here = now.conditions
        machine = f"{here.processors} x {here.processor}, {here.vectors}"
        lines.append(f"As it was: the machine ({machine}), PyTorch ({here.torch}), the numbers of threads")
    lines += [
        f"Matrix products of the machine, {thread_count(threads)}: {ratio(speed)} times as fast as then"
        for threads, speed in earlier.products(then, now).items()
    ]
    if then.load is not None and then.load > BUSY:
        lines.append(f"The machine was busy before the earlier run (load {then.load:.1f})")
    return lines


def _against(both: list[earlier.Pair], terminal: bool) -> Table:
    columns: dict[str, Callable[[earlier.Pair], str]] = {
        "cell": lambda pair: pair.now.cell,
        "mode": lambda pair: pair.now.mode,
        "threads": lambda pair: str(pair.now.threads),
        "T, B, I, H": lambda pair: str(pair.now.shape),
        "then, ms": lambda pair: _ours(pair.then),
        "now, ms": lambda pair: _ours(pair.now),
    }
    ratios: dict[str, Callable[[earlier.Pair], float | None]] = {
        "now/then": lambda pair: pair.ratio,
        "torch.nn": lambda pair: pair.of("torch.nn"),
        "beside torch.nn": lambda pair: pair.beside,
    }
    table = _empty(terminal, [*columns, *ratios])
    for pair in both:
        table.add_row(*(show(pair) for show in columns.values()), *(ratio(of(pair)) for of in ratios.values()))
    if len(both) > 1:
        means = [ratio(geometric_mean(map(of, both))) for of in ratios.values()]
        table.add_section()
        table.add_row("geometric mean", *[""] * (len(columns) - 1), *means)
    return table


def _ours(row: Row) -> str:
    """Our time, and whose it is where that is the loop's."""
    if row.ours is None:
        return "–"
    own = "" if row.ours == "kernel" else f" ({LABELS[row.ours]})"
    return f"{digits(row.seconds[row.ours] * 1000)}{own}"


def _line(console: Console, text: str = "") -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _empty(terminal: bool, columns: Iterable[str]) -> Table:
    """To a file or a pipe as Markdown, so that it can be put into a document as it is."""
    table = Table(box=box.SIMPLE_HEAD if terminal else box.MARKDOWN)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def remarks(results: Results) -> list[str]:
    """What is missing from the tables or unreliable in them, without duplicates."""
    lines = [f"not measured: {name}: {why}" for name, why in results.absent.items()]
    for row in results.rows:
        place = f"{row.cell}, {row.mode}"
        lines += [f"{name} fails on {place}: {why}" for name, why in row.failed.items()]
        lines += [
            f"{LABELS.get(name, name)} has different outputs on {place}: off by {error:.1g}"
            for name, error in row.errors.items()
            if error is not None and error > TOLERANCE
        ]
        lines += [
            f"{LABELS.get(name, name)} has outputs that are not finite on {place}"
            for name, e in row.errors.items()
            if e is None
        ]
    if results.load is not None and results.load > BUSY:
        busy = f"the machine was busy in the minute before (load {results.load:.1f})"
        lines.append(f"{busy}: measure again if it stayed busy, especially with several threads")
    if not results.complete:
        lines.append("incomplete: these are the measurements so far")
    return list(dict.fromkeys(lines))


def digits(value: float | None) -> str:
    """The value with three significant digits: 1234, 12.3, 1.23, 0.0123."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def ratio(value: float | None) -> str:
    """The value with two decimals, or a dash for None."""
    return "–" if value is None else f"{value:.2f}"


def _table(group: Group, results: Results, terminal: bool) -> Table:
    ours = group.ours
    others = [name for name in group.contenders if name != ours]
    columns: dict[str, Any] = {"T, B, I, H": lambda row: str(row.shape)}
    if ours:
        columns[LABELS.get(ours, ours)] = lambda row: _cell(row, ours, ours, row.fraction)
    for name in others:
        columns[LABELS.get(name, name)] = lambda row, name=name: _cell(row, name, ours, row.ratios.get(name))
    means = {LABELS.get(name, name): ratio(value) for name, value in group.ratios.items()}
    if ours:
        means[LABELS.get(ours, ours)] = ratio(group.fraction)
    if any(row.recurrence for row in group.rows):
        columns["loop alone"] = lambda row: ratio(row.recurrence)
    if any(row.saved for row in group.rows):
        columns["saved, MB"] = _saved
    if group.cell != "lstm" and any(row.cell == "lstm" for row in results.rows):
        columns["per operation of lstm"] = lambda row: ratio(results.per_operation(row))
    table = _empty(terminal, columns)
    for row in group.rows:
        table.add_row(*(show(row) for show in columns.values()))
    if len(group.rows) > 1:
        means["T, B, I, H"] = "geometric mean"
        table.add_section()
        table.add_row(*(f"({means[n]})" if n in means and n != "T, B, I, H" else means.get(n, "") for n in columns))
    return table


def _cell(row: Row, name: str, ours: str | None, comparison: float | None) -> str:
    seconds = row.seconds.get(name)
    compared = f" ({ratio(comparison)})" if ours and row.ours == ours else ""
    return "–" if seconds is None else f"{digits(seconds * 1000)}{compared}"


def _saved(row: Row) -> str:
    """The MB that ours saves for backward, in brackets as a fraction of torch.nn's."""
    saved = row.saved.get(row.ours or "")
    if saved is None:
        return "–"
    return digits(saved / 1e6) + ("" if row.saved_ratio is None else f" ({ratio(row.saved_ratio)})")
