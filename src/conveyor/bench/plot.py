"""Plots of time against each of the sizes."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from conveyor.bench.contenders import CONTENDERS
from conveyor.bench.report import LABELS
from conveyor.bench.results import Results, Row
from conveyor.bench.suite import thread_count
from conveyor.errors import BadInput

SIZES = {"T": "steps T", "B": "rows B", "H": "hidden units H (and I)"}


def check(path: Path) -> None:
    """Raises BadInput if matplotlib is missing or does not support this file type."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput("--plot needs matplotlib: pip install 'conveyor[plot]'") from error
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise BadInput(f"--plot {path}: the file name must end with one of .{', .'.join(sorted(kinds))}")


def draw(results: Results, path: Path) -> None:
    """A row of axes for each cell, mode and number of threads; in it, time against T, against B and against H."""
    from matplotlib.figure import Figure

    rows = [row for row in results.rows if row.sweep]
    kinds = list(dict.fromkeys((row.cell, row.mode, row.threads) for row in rows))
    if not kinds:
        return
    figure = Figure(figsize=(12, 3.2 * len(kinds) + 0.6), layout="constrained")
    grid = figure.subplots(len(kinds), len(SIZES), squeeze=False, sharey="row")
    for (y, kind), (x, size) in product(enumerate(kinds), enumerate(SIZES)):
        axes = grid[y][x]
        points = sorted(
            (row for row in rows if row.sweep == size and (row.cell, row.mode, row.threads) == kind),
            key=lambda row: _size(row, size),
        )
        for index, name in enumerate(CONTENDERS):  # a contender has the same colour in all axes
            known = [(_size(row, size), row.seconds[name] * 1000) for row in points if name in row.seconds]
            if known:
                axes.loglog(*zip(*known, strict=True), "o-", label=LABELS.get(name, name), color=f"C{index}")
        floor = [(_size(row, size), row.floor * 1000) for row in points if row.floor]
        if floor:
            axes.loglog(*zip(*floor, strict=True), "--", color="grey", label="the machine's floor")
        axes.set_xticks(sorted({_size(row, size) for row in points}))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set(xlabel=SIZES[size], title=f"{kind[0]}, {kind[1]}, {thread_count(kind[2])}" if x == 0 else "")
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("ms")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    figure.legend(handles=lines.values(), loc="outside lower center", ncols=len(lines))
    figure.savefig(path, dpi=130)


def _size(row: Row, size: str) -> int:
    return {"T": row.shape.steps, "B": row.shape.batch, "H": row.shape.hidden}[size]
