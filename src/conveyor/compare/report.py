"""The report of a comparison: report.html, report.md, results.csv and plots/."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.compare import statistics
from conveyor.compare.outcomes import Outcome, TaskInfo
from conveyor.compare.pictures import Picture, pictures, themed
from conveyor.compare.statistics import Comparison, Study
from conveyor.training.run import write_all

SURE, LIKELY, SEEDS = 0.95, 0.8, 5  # thresholds of the wording: two probabilities, and the runs of each cell


def write(
    folder: Path,
    outcomes: Sequence[Outcome],
    about: Sequence[TaskInfo],
    reference: str = "",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the report of a study into the folder, over an earlier one of the same study.

        write(Path("report"), outcomes, about, facts={"command": "conveyor compare ...", "seed": "0"})

    The cells are compared with `reference`, by default the LSTM, or the first cell without an LSTM. The facts are shown
    at the top. Each table names the rows of results.csv behind its figures, and each row names the folder of its run.
    Files are written atomically.

    Raises BadInput for an unknown reference, and if matplotlib, scipy, optuna or scikit-learn is missing.
    """
    study = Study.of(outcomes, about, reference)
    document = Document(dict(facts or {}), answer(study), tables(study), pictures(study))
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    plots = {one.name + suffix: data for one in document.pictures for suffix, data in one.files.items()}
    texts = {"results.csv": results(outcomes), "report.md": markdown(document), "report.html": page(document, study)}
    write_all({folder / name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()})
    if plots:  # the page also embeds them
        write_all({folder / "plots" / name: data for name, data in plots.items()})


@dataclass(frozen=True)
class Table:
    """A table of the report, as text."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Document:
    """The content of the report, independent of Markdown and HTML."""

    facts: dict[str, str]
    answers: list[tuple[str, list[str]]]
    tables: list[Table]
    pictures: list[Picture]


# The answers in words


def answer(study: Study) -> list[tuple[str, list[str]]]:
    """The answers: pairs of a heading and its sentences."""
    if not study.outcomes:
        return [("Which cell is best? Are the differences significant?", ["No trial has ended yet."])]
    return [
        ("Which cell is best?", _which(study)),
        ("Are the differences significant?", _matter(study)),
        ("How reliable is this?", _trust(study)),
    ]


def _which(study: Study) -> list[str]:
    lines = [_best_on(study, task) for task in study.about]
    firsts = Counter(
        min(on, key=lambda cell: float(np.mean(on[cell])))
        for task, about in study.about.items()
        if (on := study.on(task)) and not min(map(np.mean, on.values())) >= about.chance
    )
    if len(study.about) > 1 and len(study.cells) > 1 and firsts:
        cell, times = firsts.most_common(1)[0]
        tied = [other for other, number in firsts.items() if number == times]
        ahead = f"{' and '.join(tied)} have the lowest mean on {times} each" if len(tied) > 1 else ""
        ahead = ahead or f"{cell} has the lowest mean on {times}"
        lines.append(f"Of the {firsts.total()} tasks with a conclusion, {ahead}; see above for how certain that is.")
    return lines


def _best_on(study: Study, task: str) -> str:
    on, about = study.on(task), study.about[task]
    if all(statistics.failed(o) for (name, _), runs in study.final.items() if name == task for o in runs):
        return f"{task}: every run failed, so there is no conclusion."
    order = sorted(on, key=lambda cell: float(np.mean(on[cell])))
    means = [float(np.mean(on[cell])) for cell in order]
    if means[0] >= about.chance:
        return f"{task}: no cell is better than chance ({number(about.chance)}), so there is no conclusion."
    if len(order) == 1:
        return f"{task}: {order[0]} reaches {number(means[0])} ({about.metric}). There is no other cell."
    ahead = (
        f"{task}: {order[0]} has the lowest {about.metric}, {number(means[0])}, "
        f"followed by {order[1]} with {number(means[1])}."
    )
    odds, runs = statistics.favourites(on), min(map(len, on.values()))
    if not odds:
        return f"{ahead} There are too few repeats to tell whether it is the best."
    odd = odds[order[0]]
    return f"{ahead} It is the best over all seeds with a probability of {odd:.0%}: {_words(odd, runs)}."


def _words(odds: float, runs: int) -> str:
    if runs < SEEDS:
        return f"inconclusive with only {runs} seeds"
    return "nearly certain" if odds >= SURE else "likely but not certain" if odds >= LIKELY else "inconclusive"


def _matter(study: Study) -> list[str]:
    if len(study.cells) < 2:
        return ["There is only one cell, so there are no differences.", *_explained(study)]
    tested = [one for one in study.comparisons if one.tested]
    if not tested:
        text = f"There are too few seeds to tell: on no task do {study.reference} and another cell have two runs each."
        return [text, *_explained(study)]
    found = sorted((one for one in tested if one.differs), key=lambda one: one.corrected)
    lines = [_found(study, one) for one in found]
    others = len(tested) - len(found)
    if others:
        lines.append(_not_found(study, others, tested))
    return [*lines, *_explained(study)]


def _found(study: Study, one: Comparison) -> str:
    kind = "worse" if one.difference > 0 else "better"
    effect = number(abs(one.effect))
    return (
        f"{one.cell} is {kind} than {one.reference} on {one.task}: on average its {study.about[one.task].metric} is "
        f"{number(abs(one.difference))} {'higher' if one.difference > 0 else 'lower'}, {effect} standard deviations "
        f"(p = {number(one.corrected)} after correction)."
    )


def _not_found(study: Study, others: int, tested: list[Comparison]) -> str:
    seeds = min(len(study.samples[one.task, cell]) for one in tested for cell in (one.cell, one.reference))
    all_, size = len(tested), statistics.size_found(seeds, len(tested))
    return (
        f"{others} of the {all_} comparisons with {study.reference} found no difference. This does not mean that the "
        f"cells are equal: with this many comparisons, {seeds} seeds find a difference of {number(size)} standard "
        f"deviations in 80 % of cases, and smaller ones less often. A difference of one standard deviation would need "
        f"{statistics.seeds_to_find(1.0, all_)} seeds."
    )


def _explained(study: Study) -> list[str]:
    """Sentences on the importance of the hyperparameters."""
    lines = []
    for task, shares in study.importance.items():
        if shares:
            most = max(shares, key=lambda name: shares[name])
            cell = f", the choice of cell {shares['cell']:.0%}" if "cell" in shares and most != "cell" else ""
            name = "the choice of cell" if most == "cell" else most
            lines.append(f"In the search on {task}, {name} alone explains {shares[most]:.0%} of the variance{cell}.")
    return lines


def _trust(study: Study) -> list[str]:
    repeated = sum(o.repeat for o in study.outcomes)
    lines = []
    if not repeated:
        lines.append(
            "No configuration has been repeated with new seeds yet: each cell is represented by its best trial."
        )
    lost = sum(statistics.failed(o) for o in study.outcomes)
    if lost:
        lines.append(
            f"{lost} of {len(study.outcomes)} runs failed. Each counts as a run at chance or, if that is not known, as "
            "the worst run."
        )
    lines += [f"{one.task}, {one.cell}: {remark}." for one in study.comparisons if (remark := _remark(one))]
    lines.append(
        "The repeats of a cell share the best configuration of its search. The figures do not reflect that another "
        "search might have found a better one. Bootstrap intervals are too short for few runs: the nominal 95 % "
        "intervals contain the mean in 84 % of cases with 5 runs and in 89 % with 10."
    )
    return lines


def _remark(one: Comparison) -> str:
    if one.differs and one.ranks >= statistics.LEVEL:
        return f"the rank test does not confirm the difference (p = {number(one.ranks)})"
    if one.tested and not one.differs and one.ranks < statistics.LEVEL <= one.p:
        return f"the ranks differ but the means do not (p = {number(one.ranks)}, uncorrected): look at the points"
    return one.why


# Tables


def tables(study: Study) -> list[Table]:
    """All tables that have rows."""
    found = [
        _tasks(study),
        _means(study),
        _tests(study),
        *_kinds(study),
        _shares(study),
        _costs(study),
        _failures(study),
    ]
    return [table for table in found if table.rows]


def _tasks(study: Study) -> Table:
    rows = [
        (one.name, one.metric, number(one.chance), _named(one.rules), number(one.optimum), one.text)
        for one in study.about.values()
    ]
    head = ("task", "metric", "chance", "baselines", "optimum", "description")
    return Table("Tasks", "Lower is better for every metric.", head, rows)


def _named(figures: Mapping[str, float]) -> str:
    return "; ".join(f"{name}: {number(value)}" for name, value in figures.items()) or "–"


def _kinds(study: Study) -> list[Table]:
    """For each task with `details`, the results on subsets of sequences."""
    found = []
    for task in study.about:
        of = {cell: [o for o in runs if o.details] for (name, cell), runs in study.final.items() if name == task}
        kinds = list(dict.fromkeys(kind for runs in of.values() for o in runs for kind in o.details))
        rows = []
        for cell, runs in of.items():
            told = [[o.details[kind] for o in runs if kind in o.details] for kind in kinds]
            means = (number(float(np.mean(values))) if values else "–" for values in told)
            rows.append((cell, *means, _rows(study, runs)))
        if kinds:
            note = f"Means over the same runs: {study.about[task].metric}."
            found.append(Table(f"{task} in detail", note, ("cell", *kinds, "rows"), rows))
    return found


def _means(study: Study) -> Table:
    rows = []
    for (task, cell), runs in study.final.items():
        sample, odds = (
            study.samples[task, cell],
            statistics.favourites(study.on(task)) if cell in study.on(task) else {},
        )
        around = statistics.interval(sample)
        mean = float(np.mean(sample)) if sample else math.nan
        spread = float(np.std(sample, ddof=1)) if len(sample) > 1 else math.nan
        lost = sum(map(statistics.failed, runs))
        figures = (mean, around.low, around.high, spread)
        kind = "repeats" if runs[0].repeat else "search"
        first = f"{odds[cell]:.0%}" if cell in odds and len(odds) > 1 else "–"
        rows.append((task, cell, *map(number, figures), f"{len(runs)}", f"{lost}", first, kind, _rows(study, runs)))
    head = ("task", "cell", "mean", "from", "to", "sd", "runs", "failed", "best?", "of", "rows")
    note = (
        "The mean of the repeats, or the best trial of the search without repeats, with a 95 % bootstrap interval "
        "(BCa). Failed runs count at chance. best?: the probability that the cell's mean over all seeds is the lowest. "
        "rows: in results.csv."
    )
    return Table("Results", note, head, rows)


def _tests(study: Study) -> Table:
    rows = []
    for one in study.comparisons:
        around = (one.effect_interval.low, one.effect_interval.high)
        figures = (one.difference, one.effect, *around, one.p, one.corrected, one.ranks)
        says = ("differs" if one.differs else "not significant") if one.tested else "not tested"
        runs = [*study.final[one.task, one.cell], *study.final.get((one.task, one.reference), [])]
        rows.append((one.task, one.cell, *map(number, figures), says, _rows(study, runs)))
    head = ("task", "cell", "difference", "g", "from", "to", "p", "p corrected", "p of ranks", "at 5 %", "rows")
    note = (
        f"Compared with {study.reference}; above 0 is worse. g: Hedges' effect size, in standard deviations, with its "
        "95 % interval. p: Welch's t-test. p corrected: after Holm's correction over all rows of this table, which "
        "decides. p of ranks: the Mann-Whitney test, uncorrected, as a check against outliers."
    )
    return Table("Differences", note, head, rows)


def _failures(study: Study) -> Table:
    rows = []
    for task, cell in dict.fromkeys((o.task, o.cell) for o in study.outcomes if statistics.failed(o)):
        lost = [o for o in study.outcomes if (o.task, o.cell) == (task, cell) and statistics.failed(o)]
        rows.append((task, cell, f"{len(lost)}", lost[0].error or "its result is not finite", _rows(study, lost)))
    note = "Runs without a result, and the reason for the first of them; log.txt in its folder has the details."
    return Table("Failures", note, ("task", "cell", "runs", "reason", "rows"), rows)


def _shares(study: Study) -> Table:
    rows = [
        (task, name, f"{share:.1%}", _rows(study, study.search(task)))
        for task, shares in study.importance.items()
        for name, share in shares.items()
    ]
    note = (
        "The fraction of the variance of the search's results that each setting explains alone (functional ANOVA over "
        "a random forest); the rest is due to interactions. Runs worse than chance count at chance."
    )
    return Table("Importance of the settings", note, ("task", "setting", "explains", "rows"), rows)


def _costs(study: Study) -> Table:
    rows = []
    for (task, cell), runs in study.final.items():
        cost = [float(np.mean([getattr(o, name) for o in runs])) for name in ("parameters", "seconds", "memory")]
        shown = (number(cost[0]), number(cost[1]), number(cost[2] / 2**20))
        settings = ", ".join(f"{name} {setting(value)}" for name, value in runs[0].settings.items())
        rows.append((task, cell, *shown, settings, _rows(study, runs)))
    head = ("task", "cell", "parameters", "seconds", "memory, MiB", "settings", "rows")
    return Table("Cost", "Means over the runs in the table of results, and their common settings.", head, rows)


def _rows(study: Study, chosen: Sequence[Outcome]) -> str:
    """The rows of these outcomes in results.csv, such as 1–8, 12."""
    wanted, spans = {id(o) for o in chosen}, list[list[int]]()
    for row in (row for row, o in enumerate(study.outcomes, 1) if id(o) in wanted):
        if spans and spans[-1][1] == row - 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in spans)


def number(value: float) -> str:
    """Three significant digits: 0.00123, 12.3, 12,345; – for NaN."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def setting(value: Any) -> str:
    """The value of a hyperparameter as text."""
    return number(value) if isinstance(value, float) else str(value)


# Texts


def results(outcomes: Sequence[Outcome]) -> str:
    """The text of results.csv: a row for each trial, with numbers in full precision."""
    names = list(dict.fromkeys(name for o in outcomes for name in o.settings))
    fixed = ("task", "cell", "index", "seed", "repeat")
    measured = ("value", "validation", "parameters", "seconds", "memory", "folder", "error")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", *fixed, *(f"settings.{name}" for name in names), *measured])
    for row, o in enumerate(outcomes, 1):
        settings = [o.settings.get(name, "") for name in names]
        table.writerow(
            [row, *(getattr(o, name) for name in fixed), *settings, *(getattr(o, name) for name in measured)]
        )
    return text.getvalue()


TITLE = "Which cell is best, and are the differences significant?"


def markdown(document: Document) -> str:
    """The report as Markdown."""
    lines = [f"# {TITLE}", "", *(f"- {_md(name)}: {_md(text)}" for name, text in document.facts.items()), ""]
    for question, said in document.answers:
        lines += [f"## {question}", "", *(f"{_md(text)}\n" for text in said)]
    for table in document.tables:
        lines += [f"## {table.title}", "", _md(table.note), "", _md_row(table.head), "|---" * len(table.head) + "|"]
        lines += [*map(_md_row, table.rows), ""]
    for one in document.pictures:
        lines += [f"## {one.title}", "", f"![{_md(one.text)}](plots/{one.name}.png)", ""]
    return "\n".join(lines)


def _md_row(row: Sequence[str]) -> str:
    return f"| {' | '.join(map(_md, row))} |"


def _md(text: str) -> str:
    """Escapes text for Markdown: HTML, table bars and emphasis."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|])|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], plain)


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #c9ced6; --soft: #f3f5f8; --link: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #16191d; --line: #444b55; --soft: #20252b;
  --link: #7db8f5 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
a { color: var(--link) } h1, h2 { line-height: 1.2 } img { max-width: 100%; height: auto } figure { margin: 1rem 0 }
figcaption, .note, dt { font-size: .9rem; opacity: .85 } dd { margin: 0 0 .5rem } dt { font-weight: 600 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; overflow-wrap: normal }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top }
th { background: var(--soft) } .answer { background: var(--soft); padding: .5rem 1rem; border-radius: .5rem }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the browser loads nothing else


def page(document: Document, study: Study) -> str:
    """The report as a self-contained HTML page."""
    e = html.escape
    facts = "".join(f"<dt>{e(name)}</dt><dd>{e(text)}</dd>" for name, text in document.facts.items())
    answers = "".join(
        f"<h2>{e(question)}</h2>" + "".join(f"<p>{e(text)}</p>" for text in said) for question, said in document.answers
    )
    drawn = "".join(map(_figure, document.pictures))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<title>{e(TITLE)}</title><style>{STYLE}</style></head>\n<body><h1>{e(TITLE)}</h1><dl>{facts}</dl>\n"
        f'<main><section class="answer">{answers}</section>\n{"".join(map(_table, document.tables))}{drawn}'
        f"{_trials(study)}</main></body></html>\n"
    )


def _figure(one: Picture) -> str:
    data = base64.b64encode(themed(one.files[".svg"].decode()).encode()).decode()
    title, text = html.escape(one.title), html.escape(one.text)
    image = f'<img alt="{title}. {text}" title="{title}" src="data:image/svg+xml;base64,{data}">'
    return f"<section><h2>{title}</h2><figure>{image}<figcaption>{text}</figcaption></figure></section>\n"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in table.rows)
    grid = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    note = f'<p class="note">{html.escape(table.note)}</p>'
    return f'<section><h2>{html.escape(table.title)}</h2>{note}<div class="wide">{grid}</div></section>\n'


def _trials(study: Study) -> str:
    """All rows of results.csv, with the folders of their runs."""
    rows = [
        (f"{row}", o.task, o.cell, f"{o.index}", f"{o.seed}", "repeat" if o.repeat else "search",
         "failed" if o.value is None else number(o.value), o.folder, o.error)
        for row, o in enumerate(study.outcomes, 1)
    ]  # fmt: skip
    head = ("row", "task", "cell", "configuration", "seed", "of", "result", "folder", "error")
    table = _table(Table("All trials", "As in results.csv, which has the numbers in full precision.", head, rows))
    return f"<details><summary>All trials ({len(rows)})</summary>{table}</details>"
