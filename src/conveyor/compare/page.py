"""Generates the cards of all tasks: `python -m conveyor.compare.page > docs/reference/tasks.md`."""

import hashlib
import inspect
import math
import textwrap

from conveyor.compare.problems import PROBLEMS, Problem
from conveyor.tasks import Task, own

ROWS = 100  # validation sequences in the checksum
HEAD = f"""# The tasks of a comparison

Generated from the classes in `src/conveyor/tasks/` by `python -m conveyor.compare.page > docs/reference/tasks.md`.

`conveyor compare --tasks adding:40,chorales` selects tasks by name. A number after a colon replaces the default shown
here. For every metric, lower is better. Chance is the metric of a model that has learnt everything except what requires
memory, unless the card defines it otherwise. Models are selected on the validation part and reported on the test part.

Synthetic sequences come from a seeded generator: training uses the seed of the run, and the validation and test parts
are always the same. `validation` is the SHA-256 of the first {ROWS} validation sequences, rounded to thousandths. Data
read from files is verified: `checksum` is its expected SHA-256.

| name | task | metric | chance | optimum |
|---|---|---|---|---|
"""
OWN = "\n## Your own task\n\n`conveyor compare --tasks mine.toml`. {}\n"


def page() -> str:
    """The Markdown page: a table of all tasks in `PROBLEMS`, a card for each, and how to define your own."""
    rows, sections = (map(part, PROBLEMS, PROBLEMS.values()) for part in (_row, _section))
    return "".join([HEAD, *rows, *sections, OWN.format((own.__doc__ or "").strip())])


def checksum(task: Task) -> str:
    """The SHA-256 of the first validation sequences, in hexadecimal."""
    batch = task.held_out("validation", ROWS)
    found = hashlib.sha256()
    for values in (batch.inputs, batch.targets, batch.lengths * 1.0):
        found.update((values * 1000.0).round().int().numpy().tobytes())
    return found.hexdigest()


def _row(name: str, problem: Problem) -> str:
    task = problem.made()
    shown = name if problem.number is None else f"{name}:{problem.number}"
    return f"| [{shown}](#{name}) | {problem.about} | {task.metric} | {_chance(task)} | {_optimum(task)} |\n"


def _chance(task: Task) -> str:
    differs = task.data is not None and not task.data.checksum
    return "computed" if differs else f"{task.chance:.3g}"


def _optimum(task: Task) -> str:
    return "not known" if math.isnan(task.optimum) else f"{task.optimum:g}"


def _section(name: str, problem: Problem) -> str:
    task = problem.made()
    about = textwrap.dedent(inspect.getdoc(type(task)) or "")
    lines = [f"- task: {problem.about}"]
    lines += [f"- the number: {problem.number} {problem.unit}"] if problem.number is not None else []
    if task.data is None:
        lines += ["- data: synthetic"]
    else:
        lines += [f"- data: {task.data.source}", f"- licence: {task.data.licence}"]
    if task.data is None or (task.data.checksum and not task.data.counts):  # synthetic, or generated from a file
        lines += [f"- validation: {checksum(task)}"]
    if task.data and task.data.counts:
        learn, validation, test = task.data.counts
        lines += [f"- sequences: {learn:,} for training, {validation:,} for validation, {test:,} for testing"]
    if task.data and task.data.checksum:
        lines += [f"- checksum: {task.data.checksum}"]
    return f"\n## {name}\n\n```text\n{about}\n```\n\n" + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(page(), end="")
