"""The report of a search: the best cells as code and as diagrams, and how the other candidates ended."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from conveyor.compare import problems
from conveyor.compare.compare import RUNS
from conveyor.search.config import CRASHED, EVALUATED, MIN_GAIN, REFERENCE, Outcome, SearchConfig
from conveyor.search.genome import Genome
from conveyor.search.writing import literal
from conveyor.training.run import write as write_file

SHOWN = 5  # how many of the best are shown with their code
SIGNS = {"add": "+", "sub": "−", "mul": "×", "sigmoid": "σ", "neg": "−"}
COLUMNS = ("number", "parent", "status", "fitness", "nodes", "parameters", "compiled", "seconds", "memory", "key")


def write(folder: Path, config: SearchConfig, outcomes: Sequence[Outcome]) -> None:
    """Writes search.md, candidates.csv and the sources of the cells into the folder."""
    (folder / "cells").mkdir(exist_ok=True)
    for one in ranked(outcomes):  # including those that another machine evaluated
        candidate = config.candidate(one.number, outcomes)
        write_file(folder / candidate.file, candidate.source.encode())
    write_file(folder / "search.md", markdown(folder, config, outcomes).encode())
    write_file(folder / "candidates.csv", table(config, outcomes).encode())


def markdown(folder: Path, config: SearchConfig, outcomes: Sequence[Outcome]) -> str:
    """The text of search.md."""
    lines = [
        "# The search",
        "",
        *_summary(folder, config, outcomes),
        "",
        "## The best",
        "",
        *_best(config, outcomes),
        "",
    ]
    for candidate in [config.candidate(one.number, outcomes) for one in ranked(outcomes)[:SHOWN]]:
        code, chart = candidate.source.rstrip(), diagram(candidate.genome)
        lines += [f"## {candidate.name}", "", f"```python\n{code}\n```", "", f"```mermaid\n{chart}\n```", ""]
    return "\n".join([*lines, "## Status of all candidates", "", *_statuses(outcomes), ""])


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of candidates that learned every task, the fittest first."""
    return sorted((one for one in outcomes if one.status == EVALUATED), key=lambda one: (-one.fitness, one.number))


def _summary(folder: Path, config: SearchConfig, outcomes: Sequence[Outcome]) -> list[str]:
    compiled, minutes = sum(one.compiled for one in outcomes), sum(one.seconds for one in outcomes) / 60
    said = [
        f"{len(outcomes)} of {config.candidates} candidates were evaluated on {', '.join(config.tasks)}, each in "
        f"{config.draws} configurations of {config.steps} steps with about {config.parameters:,} parameters. "
        f"{compiled} of them have compiled kernels. All together took {minutes:.1f} minutes of one core.",
        "The gain of a candidate on a task is its improvement over chance on the validation part. Its fitness is its "
        "smallest gain relative to the GRU's.",
    ]
    if weak := weak_tasks(config, outcomes):
        said.append(
            f"The GRU gains next to nothing on {', '.join(weak)}, so these tasks are ignored: increase --steps."
        )
    for one in ranked(outcomes)[:1]:
        candidate = config.candidate(one.number, outcomes)
        cells = f"--cells {REFERENCE},{folder / candidate.file}:{candidate.name}"
        again = f"conveyor compare {cells} --tasks {','.join(config.tasks)} --parameters {config.parameters}"
        said.append(
            f"The best of many candidates with one seed each looks better than it is. To test whether it is better: "
            f"`{again}`"
        )
    return "\n\n".join(said).split("\n")


def weak_tasks(config: SearchConfig, outcomes: Sequence[Outcome]) -> list[str]:
    """The tasks on which the GRU gains too little to serve as a reference."""
    gains = next((one.gains for one in outcomes if one.number == 0), {})
    return [task for task in config.tasks if gains.get(task, 0.0) <= MIN_GAIN]


def _best(config: SearchConfig, outcomes: Sequence[Outcome]) -> list[str]:
    metrics = [f"{task}, {problems.about(task).metric}" for task in config.tasks]
    rows = [
        (
            config.candidate(one.number, outcomes).name,
            config.population.candidates[one.number].start or f"{one.parent}: {', '.join(one.changes)}",
            f"{one.fitness:.3f}",
            *(f"{one.tests[task]:.4g} ({one.draws[task]})" for task in config.tasks),
            f"{RUNS}/{one.number}",
        )
        for one in ranked(outcomes)[: 2 * SHOWN]
    ]
    drawn = [config.hyperparameters(draw) for draw in range(config.draws)]
    configurations = [(str(draw), *(f"{value:g}" for value in one.values())) for draw, one in enumerate(drawn)]
    return [
        *_grid(("candidate", "from", "fitness", *metrics, "runs"), rows),
        "",
        "The figures are of the test part, with the configuration that was best on validation in brackets. The runs of "
        "a task are in the candidate's folder, TASK-CONFIGURATION, on the machine that evaluated it:",
        "",
        *_grid(("configuration", *drawn[0]), configurations),
    ]


def _statuses(outcomes: Sequence[Outcome]) -> list[str]:
    statuses = Counter(CRASHED if one.failed else one.status for one in outcomes)
    refused: Counter[str] = sum((Counter(one.refused) for one in outcomes), Counter())
    rows = [(status, str(count)) for status, count in statuses.most_common()]
    rows += [(f"rejected mutation: {why}", str(count)) for why, count in refused.most_common()]
    return _grid(("status", "count"), rows)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def table(config: SearchConfig, outcomes: Sequence[Outcome]) -> str:
    """The text of candidates.csv: a row for each candidate."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    by_task = [f"{what} {task}" for task in config.tasks for what in ("gain", "test", "draw")]
    out.writerow([*COLUMNS, "changes", *by_task])
    for one in outcomes:
        figures = [of.get(task, "") for task in config.tasks for of in (one.gains, one.tests, one.draws)]
        out.writerow([*(getattr(one, name) for name in COLUMNS), ", ".join(one.changes), *figures])
    return text.getvalue()


def diagram(genome: Genome) -> str:
    """A genome as a Mermaid flow chart, which many Markdown viewers render."""
    lines = ["flowchart BT"]
    for i, node in enumerate(genome.nodes):
        sign = f"W {node.weights}" if node.op == "map" else SIGNS.get(node.op, node.op)
        if node.op in ("x", "state"):
            lines.append(f'  n{i}(["{node.name or "x"}"])')
        else:
            label = literal(node.value) if node.op == "const" else f"{sign} = {node.name}" if node.name else sign
            lines.append(f'  n{i}["{label}"]')
        arrows = ("-- first -->", "-- second -->") if node.op == "sub" else ("-->",) * len(node.inputs)
        lines += [f"  n{j} {arrow} n{i}" for j, arrow in zip(node.inputs, arrows, strict=True)]
    updates = zip(genome.states, genome.updates, strict=True)
    lines += [line for name, end in updates for line in (f'  new_{name}(["new {name}"])', f"  n{end} --> new_{name}")]
    return "\n".join(lines)
