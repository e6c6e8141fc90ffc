"""What a search found, as a person reads it: the best cells as code and as diagrams, and what became of the others."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from conveyor.compare import problems
from conveyor.search.genome import Genome
from conveyor.search.quest import LITTLE, TRIED, Quest, Worth
from conveyor.training.run import write as write_file

SHOWN = 5  # so many of the best, with their code
SIGNS = {"add": "+", "sub": "−", "mul": "×", "sigmoid": "σ", "neg": "−"}
COLUMNS = ("number", "parent", "fate", "worth", "nodes", "parameters", "compiled", "seconds", "memory", "file")


def write(folder: Path, quest: Quest, worths: Sequence[Worth]) -> None:
    """search.md and candidates.csv."""
    write_file(folder / "search.md", markdown(folder, quest, worths).encode())
    write_file(folder / "candidates.csv", table(quest, worths).encode())


def markdown(folder: Path, quest: Quest, worths: Sequence[Worth]) -> str:
    lines = ["# The search", "", *_summary(quest, worths), "", "## The best", "", *_best(quest, worths), ""]
    known = {one.number: one.worth for one in worths}
    for one in ranked(worths)[:SHOWN]:
        chart = diagram(quest.breed.birth(one.number, known).genome)
        source = (folder / one.file).read_text().rstrip()
        lines += [f"## {one.name}", "", f"```python\n{source}\n```", "", f"```mermaid\n{chart}\n```", ""]
    return "\n".join([*lines, "## What became of all", "", *_fates(worths), ""])


def ranked(worths: Sequence[Worth]) -> list[Worth]:
    """Those that learnt every task, the best first."""
    return sorted((one for one in worths if one.fate == TRIED), key=lambda one: (-one.worth, one.number))


def _summary(quest: Quest, worths: Sequence[Worth]) -> list[str]:
    compiled, minutes = sum(one.compiled for one in worths), sum(one.seconds for one in worths) / 60
    said = [
        f"{len(worths)} of {quest.candidates} candidates were tried on {', '.join(quest.tasks)}, each in {quest.draws} "
        f"configurations of {quest.steps} steps with about {quest.parameters:,} parameters. {compiled} of them have "
        f"compiled kernels. All took {minutes:.1f} minutes of one core.",
        "A candidate's worth is, over the tasks, the least of what it gains on chance, on validation, as a part of "
        "what the GRU gains.",
    ]
    if weak := [task for one in worths for task, gain in one.gains.items() if one.number == 0 and gain <= LITTLE]:
        said.append(
            f"The GRU gains next to nothing on {', '.join(weak)}, which so counts for nobody: give more --steps."
        )
    for one in ranked(worths)[:1]:
        again = f"conveyor compare --cells gru,{one.file}:{one.name} --tasks {','.join(quest.tasks)}"
        said.append(
            f"The best of many tries, with one seed each, looks better than it is; whether it is better: `{again}`"
        )
    return "\n\n".join(said).split("\n")


def _best(quest: Quest, worths: Sequence[Worth]) -> list[str]:
    metrics = [f"{task}, {problems.about(task).metric}" for task in quest.tasks]
    rows = [
        (one.name, _origin(one, quest), f"{one.worth:.3f}", *(f"{one.tests[task]:.4g}" for task in quest.tasks))
        for one in ranked(worths)[: 2 * SHOWN]
    ]
    return _grid(("candidate", "from", "worth", *metrics), rows)


def _origin(one: Worth, quest: Quest) -> str:
    return quest.breed.births[one.number].start if one.parent is None else f"{one.parent}: {', '.join(one.changes)}"


def _fates(worths: Sequence[Worth]) -> list[str]:
    fates = Counter(one.fate.partition(":")[0] for one in worths)
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
            label = f"{node.value:g}" if node.op == "const" else f"{sign} = {node.name}" if node.name else sign
            lines.append(f'  n{i}["{label}"]')
        lines += [f"  n{j} --> n{i}" for j in node.inputs]
    ends = zip(genome.states, genome.ends, strict=True)
    lines += [line for name, end in ends for line in (f'  new_{name}(["new {name}"])', f"  n{end} --> new_{name}")]
    return "\n".join(lines)
