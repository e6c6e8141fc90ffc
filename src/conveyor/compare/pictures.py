"""The plots of a report: results, cost, learning curves, effects of the settings, success against lag."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from conveyor import figures
from conveyor.compare import statistics
from conveyor.compare.outcomes import TaskInfo
from conveyor.compare.statistics import Study, need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOLVED = 0.9  # of the way from chance to the optimum
INK, PAPER = "#1b1f24", "#fffffe"  # unique colours, which the page replaces with those of its theme
MARKERS = "os^vD*PX<>"
LOOK = {
    "text.parse_math": False, "svg.hashsalt": "conveyor", "font.size": 9, "axes.titlesize": 10, "legend.framealpha": 0,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER),
    **dict.fromkeys(("text.color", "xtick.color", "ytick.color", "axes.edgecolor", "axes.labelcolor"), INK),
    **{f"boxplot.{part}.color": INK for part in ("boxprops", "whiskerprops", "capprops")},
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A plot in its file formats, with title and caption."""

    name: str
    title: str
    text: str
    files: dict[str, bytes] = field(default_factory=dict)  # by suffix


@dataclass(frozen=True)
class Kind:
    """A kind of plot: a grid of panels, with usually one row for each task."""

    title: str
    text: str
    panel: Callable[[Study, Axes, str, str], None]  # leaves the axes empty if there is no data
    rows: Callable[[Study], Sequence[str]] = lambda study: list(study.about)
    columns: Callable[[Study], Sequence[str]] = lambda _: [""]
    height: Callable[[Study], float] = lambda _: 2.6


def pictures(study: Study) -> list[Picture]:
    """All plots for which there are data. Raises BadInput if matplotlib is missing."""
    with need("matplotlib").rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an emoji in a name is drawn as a box
        drawn = {name: _draw(study, kind) for name, kind in KINDS.items()}
        return [
            Picture(name, KINDS[name].title, KINDS[name].text, _files(made, KINDS[name].title))
            for name, made in drawn.items()
            if made
        ]


def _draw(study: Study, kind: Kind) -> Figure | None:
    rows, columns = kind.rows(study), kind.columns(study)
    if not rows or not columns:
        return None
    crowd = 0.45 * len(study.cells) if kind.panel is _search else 2.8 * len(columns)
    drawn = figures.figure(max(6.4, crowd), kind.height(study) * len(rows) + 0.6)
    grid = drawn.subplots(len(rows), len(columns), squeeze=False)
    for (y, row), (x, column) in product(enumerate(rows), enumerate(columns)):
        kind.panel(study, grid[y][x], row, column)
        grid[y][x].set_title(_label(row) if x == 0 else "", loc="left")
    if not any(axes.has_data() for axes in drawn.axes):
        return None
    lines = {line.get_gid(): line for axes in drawn.axes for line in axes.lines if line.get_gid()}
    cells = [cell for cell in study.cells if cell in lines]
    if cells:
        names = map(_label, cells)
        drawn.legend([lines[c] for c in cells], list(names), loc="outside lower center", ncols=min(5, len(cells)))
    return drawn


def _files(drawn: Figure, title: str) -> dict[str, bytes]:
    data = io.BytesIO()
    kept = {"Title": title, "Creator": None, "Date": None, "Format": None, "Type": None}
    drawn.savefig(data, format="svg", metadata=kept)
    return {".svg": data.getvalue(), ".png": figures.png(drawn)}


def themed(svg: str) -> str:
    """The SVG with the colours of the page's theme, light or dark, and a transparent background."""
    style = f"<style>svg{{color:{INK}}}@media (prefers-color-scheme:dark){{svg{{color:#e4e7eb}}}}</style>"
    svg = svg[svg.index("<svg") :].replace(PAPER, "none").replace(INK, "currentColor")
    return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, svg, count=1)


def _label(text: str) -> str:
    """A label that matplotlib and SVG accept: no leading _, which hides a label, and no control characters."""
    return ("\N{NO-BREAK SPACE}" if text.startswith("_") else "") + "".join(c if c.isprintable() else "?" for c in text)


def _style(study: Study, cell: str) -> dict[str, Any]:
    """The colour and marker of a cell, the same in all plots."""
    place = study.cells.index(cell)
    return {"color": f"C{place % 10}", "marker": MARKERS[(place + place // 10) % len(MARKERS)], "markersize": 4}


def _scale(axis: Any, data: Sequence[float], log: bool | None = None) -> None:
    """Makes the axis logarithmic if `log`, or by default if the values span a factor of 20."""
    low, high = min(data, default=0), max(data, default=0)
    if low > 0 and (high > 20 * low if log is None else log):
        ticker = need("matplotlib.ticker")
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        parts = (1, 2, 5) if high < 10 * low else (1, 3) if high < 1e4 * low else (1,)
        axis.set_major_locator(ticker.LogLocator(subs=parts))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(ticker.NullFormatter())


def _result(axes: Axes, about: TaskInfo, data: Sequence[float], across: bool = False) -> None:
    """Sets up the axis of the results, with lines at chance and optimum if these are known and can be drawn."""
    if not data:
        return
    _scale(axes.xaxis if across else axes.yaxis, data)
    axes.set(**{"xlabel" if across else "ylabel": _label(about.metric)})
    log = (axes.get_xscale() if across else axes.get_yscale()) == "log"
    for level, line in ((about.chance, "--"), (about.optimum, ":")):
        if math.isfinite(level) and (level > 0 or not log):
            (axes.axvline if across else axes.axhline)(level, color=INK, linestyle=line, linewidth=0.8, alpha=0.7)


def _search(study: Study, axes: Axes, task: str, _: str) -> None:
    trials = [study.search(task, cell) for cell in study.cells]
    points = [[o.value for o in mine if o.value is not None and not statistics.failed(o)] for mine in trials]
    full = [place for place, here in enumerate(points) if here]
    if full:
        axes.boxplot([points[place] for place in full], positions=full, widths=0.6, showfliers=False)
    for place in full:
        aside = np.linspace(-0.2, 0.2, len(points[place])) if len(points[place]) > 1 else [0]
        axes.plot([place + x for x in aside], points[place], "o", color=f"C{place % 10}", markersize=3.5, alpha=0.7)
    lost = [sum(map(statistics.failed, mine)) for mine in trials]
    names = [_label(cell) + (f"\n{n} failed" if n else "") for cell, n in zip(study.cells, lost, strict=True)]
    axes.set_xticks(range(len(names)), names, rotation=60 if len(names) > 6 else 0)
    _result(axes, study.about[task], [value for here in points for value in here])


def _means_panel(study: Study, axes: Axes, task: str, _: str) -> None:
    repeated = {cell: study.samples[task, cell] for cell in study.cells if study.repeated(task, cell)}
    for cell, sample in repeated.items():
        place, color, around = study.cells.index(cell), _style(study, cell)["color"], statistics.interval(sample)
        axes.plot(sample, [place] * len(sample), "|", color=color, alpha=0.6)
        axes.plot([around.low, around.high], [place + 0.25] * 2, color=color, linewidth=2)
        axes.plot(float(np.mean(sample)), place + 0.25, "o", color=color)
    axes.set_yticks(range(len(study.cells)), list(map(_label, study.cells)))
    axes.set_ylim(len(study.cells) - 0.4, -0.6)
    _result(axes, study.about[task], [value for sample in repeated.values() for value in sample], across=True)


def _cost_panel(study: Study, axes: Axes, task: str, name: str) -> None:
    unit, means = (2**20 if name == "memory" else 1), {c: float(np.mean(s)) for c, s in study.on(task).items()}
    for cell, mean in means.items():
        cost = float(np.mean([getattr(o, name) for o in study.final[task, cell]])) / unit
        axes.plot([cost], [mean], linestyle="", gid=cell, **_style(study, cell))
    _result(axes, study.about[task], list(means.values()))
    axes.set(xlabel="memory, MiB" if name == "memory" else name)
    axes.margins(0.15)


def _curves(study: Study, axes: Axes, task: str, _: str) -> None:
    seen: list[float] = []
    for cell in study.cells:
        at: dict[int, list[float]] = {}
        for step, value in (point for o in study.final.get((task, cell), []) for point in o.curve):
            if math.isfinite(value):
                at.setdefault(step, []).append(value)
        if at:
            low, middle, high = ([float(part(at[s])) for s in sorted(at)] for part in (np.min, np.median, np.max))
            axes.plot(sorted(at), middle, gid=cell, **_style(study, cell))
            axes.fill_between(sorted(at), low, high, color=_style(study, cell)["color"], alpha=0.15, linewidth=0)
            seen += [*low, *high]
    _scale(axes.yaxis, seen)
    axes.set(xlabel="step", ylabel=_label(f"validation: {study.about[task].metric}"))


def _numeric(study: Study) -> list[str]:
    """The numeric settings that vary in the search of every task."""
    searches = [trials for task in study.about if (trials := study.search(task))]
    known = [[n for n in statistics.varied(trials) if statistics.is_number(trials, n)] for trials in searches]
    return [name for name in (known[0] if known else []) if all(name in names for names in known)]


def _settings(study: Study, axes: Axes, task: str, name: str) -> None:
    trials, worst = study.search(task), study.worst(task)
    counted = [o for o in trials if math.isfinite(statistics.capped(o, worst))]
    for cell in dict.fromkeys(o.cell for o in counted):
        mine, style = [o for o in counted if o.cell == cell], _style(study, cell)
        results = [statistics.capped(o, worst) for o in mine]
        axes.plot([o.settings[name] for o in mine], results, linestyle="", alpha=0.35, **style)
        curve = statistics.marginal(mine, name, worst)
        axes.plot([one.middle for one in curve], [one.mean for one in curve], gid=cell, **style)
    _scale(axes.xaxis, [o.settings[name] for o in trials], bool(trials) and statistics.is_logarithmic(trials, name))
    _result(axes, study.about[task], [statistics.capped(o, worst) for o in counted])
    axes.set(xlabel=_label(name))


def _importance(study: Study, axes: Axes, task: str, _: str) -> None:
    shares = study.importance[task]
    axes.barh(list(map(_label, shares)), [100 * share for share in shares.values()])
    axes.invert_yaxis()
    axes.set(xlabel="% of variance", xlim=(0, 100))


def _lags(study: Study) -> dict[str, dict[float, str]]:
    """The tasks with several numbers, by name: {"adding": {50: "adding:50", 100: "adding:100"}}."""
    kinds: dict[str, dict[float, str]] = {}
    for task in study.about:
        if found := re.fullmatch(r"(.+):(\d+(?:\.\d+)?)", task):
            kinds.setdefault(found[1], {})[float(found[2])] = task
    return {kind: dict(sorted(lags.items())) for kind, lags in kinds.items() if len(lags) > 1}


def _lag(study: Study, axes: Axes, kind: str, column: str) -> None:
    lags = _lags(study)[kind]
    for cell in study.cells:
        on = {lag: study.on(task)[cell] for lag, task in lags.items() if cell in study.on(task)}
        results = {lag: float(np.mean(sample)) for lag, sample in on.items()}
        if column == "solved, %":
            results = {lag: 100 * _solved(sample, study.about[lags[lag]]) for lag, sample in on.items()}
        axes.plot(list(results), list(results.values()), gid=cell, **_style(study, cell))
    if column == "solved, %":
        axes.set_ylim(-5, 105)
    else:
        axes.plot(list(lags), [study.about[task].chance for task in lags.values()], "--", color=INK, alpha=0.7)
    axes.set(xlabel="lag", ylabel=_label(column or study.about[next(iter(lags.values()))].metric))


def _solved(sample: Sequence[float], about: TaskInfo) -> float:
    """The fraction of runs that reach 90 % of the way from chance to the optimum; NaN if either is not known."""
    bar = about.chance + SOLVED * (about.optimum - about.chance)
    return sum(value <= bar for value in sample) / len(sample) if math.isfinite(bar) else math.nan


KINDS = {
    "search": Kind(
        "Results of the search",
        "Points are trials; the box spans the quartiles, and its line is the median.",
        _search,
    ),
    "means": Kind(
        "Means of the repeats",
        "Dots are means with 95 % bootstrap intervals; ticks are runs, with failed ones at chance.",
        _means_panel,
        height=lambda study: 0.9 + 0.28 * len(study.cells),
    ),
    "cost": Kind(
        "Cost against quality",
        "The mean result of each cell against parameters, seconds of training and memory.",
        _cost_panel,
        columns=lambda _: ["parameters", "seconds", "memory"],
    ),
    "curves": Kind(
        "Validation during training", "The median of each cell's runs; the band spans the best to the worst.", _curves
    ),
    "settings": Kind(
        "Effect of each setting",
        "Trials of the search; lines join the means of equal bins. Results worse than chance are drawn at chance.",
        _settings,
        columns=_numeric,
    ),
    "importance": Kind(
        "What explains the results of the search",
        "The fraction of the variance that each setting, or the choice of cell, explains alone.",
        _importance,
        rows=lambda study: [task for task, shares in study.importance.items() if shares],
        height=lambda _: 1.8,
    ),
    "lag": Kind(
        "Success against lag",
        "The mean result, and the fraction of runs that reach 90 % of the way from chance to the optimum.",
        _lag,
        rows=lambda study: list(_lags(study)),
        columns=lambda _: ["", "solved, %"],
    ),
}
