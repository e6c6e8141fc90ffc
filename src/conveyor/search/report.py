"""What a search found, as a person reads it: the best cells as code and as diagrams, and what became of the others."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from conveyor.compare import problems
from conveyor.compare.compare import RUNS
from conveyor.search.genome import Genome
from conveyor.search.quest import CRASHED, LITTLE, REFERENCE, TRIED, Quest, Worth
from conveyor.search.writing import number
from conveyor.training.run import write as write_file

SHOWN = 5  # so many of the best, with their code
SIGNS = {"add": "+", "sub": "−", "mul": "×", "sigmoid": "σ", "neg": "−"}
COLUMNS = ("number", "parent", "fate", "worth", "nodes", "parameters", "compiled", "seconds", "memory", "key")


def write(folder: Path, quest: Quest, worths: Sequence[Worth]) -> None:
    """search.md and candidates.csv."""
    (folder / "cells").mkdir(exist_ok=True)
    for one in ranked(worths):  # those that another machine tried, too
        born = quest.birth(one.number, worths)
        write_file(folder / born.file, born.source.encode())
    write_file(folder / "search.md", markdown(folder, quest, worths).encode())
    write_file(folder / "candidates.csv", table(quest, worths).encode())


def markdown(folder: Path, quest: Quest, worths: Sequence[Worth]) -> str:
    lines = ["# The search", "", *_summary(folder, quest, worths), "", "## The best", "", *_best(quest, worths), ""]
    for born in [quest.birth(one.number, worths) for one in ranked(worths)[:SHOWN]]:
        code, chart = born.source.rstrip(), diagram(born.genome)
        lines += [f"## {born.name}", "", f"```python\n{code}\n```", "", f"```mermaid\n{chart}\n```", ""]
    return "\n".join([*lines, "## What became of all", "", *_fates(worths), ""])


def ranked(worths: Sequence[Worth]) -> list[Worth]:
    """Those that learnt every task, the best first."""
    return sorted((one for one in worths if one.fate == TRIED), key=lambda one: (-one.worth, one.number))


def _summary(folder: Path, quest: Quest, worths: Sequence[Worth]) -> list[str]:
    compiled, minutes = sum(one.compiled for one in worths), sum(one.seconds for one in worths) / 60
    said = [
        f"{len(worths)} of {quest.candidates} candidates were tried on {', '.join(quest.tasks)}, each in {quest.draws} "
        f"configurations of {quest.steps} steps with about {quest.parameters:,} parameters. {compiled} of them have "
        f"compiled kernels. All took {minutes:.1f} minutes of one core.",
        "A candidate's worth is, over the tasks, the least of what it gains on chance, on validation, as a part of "
        "what the GRU gains.",
    ]
    if weak := weak_tasks(quest, worths):
        said.append(
            f"The GRU gains next to nothing on {', '.join(weak)}, which so counts for nobody: give more --steps."
        )
    for one in ranked(worths)[:1]:
        born = quest.birth(one.number, worths)
        cells = f"--cells {REFERENCE},{folder / born.file}:{born.name}"
        again = f"conveyor compare {cells} --tasks {','.join(quest.tasks)} --parameters {quest.parameters}"
        said.append(
            f"The best of many tries, with one seed each, looks better than it is; whether it is better: `{again}`"
        )
    return "\n\n".join(said).split("\n")


def weak_tasks(quest: Quest, worths: Sequence[Worth]) -> list[str]:
    """Those on which the GRU gains next to nothing, so that nobody can be measured by it."""
    gains = next((one.gains for one in worths if one.number == 0), {})
    return [task for task in quest.tasks if gains.get(task, 0.0) <= LITTLE]


def _best(quest: Quest, worths: Sequence[Worth]) -> list[str]:
    metrics = [f"{task}, {problems.about(task).metric}" for task in quest.tasks]
    rows = [
        (
            quest.birth(one.number, worths).name,
            quest.breed.births[one.number].start or f"{one.parent}: {', '.join(one.changes)}",
            f"{one.worth:.3f}",
            *(f"{one.tests[task]:.4g} ({one.draws[task]})" for task in quest.tasks),
            f"{RUNS}/{one.number}",
        )
        for one in ranked(worths)[: 2 * SHOWN]
    ]
    drawn = [quest.configuration(draw) for draw in range(quest.draws)]
    configurations = [(str(draw), *(f"{value:g}" for value in one.values())) for draw, one in enumerate(drawn)]
    return [
        *_grid(("candidate", "from", "worth", *metrics, "runs"), rows),
        "",
        "Figures of the test part; in brackets the configuration that was best on validation. The runs of a task lie "
        "in the candidate's folder, TASK-CONFIGURATION, on the machine that tried it:",
        "",
        *_grid(("configuration", *drawn[0]), configurations),
    ]


def _fates(worths: Sequence[Worth]) -> list[str]:
    fates = Counter(CRASHED if one.failed else one.fate for one in worths)
    refused: Counter[str] = sum((Counter(one.refused) for one in worths), Counter())
    rows = [(fate, str(count)) for fate, count in fates.most_common()]
    rows += [(f"no candidate: {why}", str(count)) for why, count in refused.most_common()]
    return _grid(("what became of it", "how many"), rows)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def table(quest: Quest, worths: Sequence[Worth]) -> str:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    by_task = [f"{what} {task}" for task in quest.tasks for what in ("gain", "test", "draw")]
    out.writerow([*COLUMNS, "changes", *by_task])
    for one in worths:
        figures = [of.get(task, "") for task in quest.tasks for of in (one.gains, one.tests, one.draws)]
        out.writerow([*(getattr(one, name) for name in COLUMNS), ", ".join(one.changes), *figures])
    return text.getvalue()


def diagram(genome: Genome) -> str:
    """A genome as a flow chart in Mermaid's language, which many readers of Markdown draw."""
    lines = ["flowchart BT"]
    for i, node in enumerate(genome.nodes):
        sign = f"W {node.weights}" if node.op == "map" else SIGNS.get(node.op, node.op)
        if node.op in ("x", "state"):
            lines.append(f'  n{i}(["{node.name or "x"}"])')
        else:
            label = number(node.value) if node.op == "const" else f"{sign} = {node.name}" if node.name else sign
            lines.append(f'  n{i}["{label}"]')
        arrows = ("-- first -->", "-- second -->") if node.op == "sub" else ("-->",) * len(node.inputs)
        lines += [f"  n{j} {arrow} n{i}" for j, arrow in zip(node.inputs, arrows, strict=True)]
    ends = zip(genome.states, genome.ends, strict=True)
    lines += [line for name, end in ends for line in (f'  new_{name}(["new {name}"])', f"  n{end} --> new_{name}")]
    return "\n".join(lines)
