"""The cards of all tasks, from the tasks: `python -m conveyor.compare.page > docs/tasks.md`."""

import hashlib
import inspect
import math
import textwrap

from conveyor.compare.problems import PROBLEMS, Problem
from conveyor.tasks import Task, own

ROWS = 100  # validation sequences in the checksum
HEAD = f"""# The tasks of a comparison

Made from the classes in `src/conveyor/tasks/` by `python -m conveyor.compare.page > docs/tasks.md`.

`conveyor compare --tasks adding:40,chorales` takes them by these names; a number after a colon replaces the default
that stands here. Of every metric lower is better. Chance is the metric of a model that has learnt everything but what
takes memory, or what the card says. The validation part selects models, and the test part is reported.

Synthetic sequences come from a seeded generator: for training the run's own, for validation and test always the same.
`validation` is the SHA-256 of the first {ROWS} validation sequences, in thousandths. Data that is read from files is
checked: `checksum` is the SHA-256 that it must have.

| name | what is asked | metric | chance | best possible |
|---|---|---|---|---|
"""
OWN = "\n## A task of one's own\n\n`conveyor compare --tasks mine.toml`. {}\n"


def page() -> str:
    """The page: all tasks of `PROBLEMS` in a table and one by one, and how to describe your own."""
    rows, sections = (map(part, PROBLEMS, PROBLEMS.values()) for part in (_row, _section))
    return "".join([HEAD, *rows, *sections, OWN.format((own.__doc__ or "").strip())])


def checksum(task: Task) -> str:
    """The SHA-256 of the first validation sequences."""
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
    return "counted" if differs else f"{task.chance:.3g}"


def _optimum(task: Task) -> str:
    return "not known" if math.isnan(task.optimum) else f"{task.optimum:g}"


def _section(name: str, problem: Problem) -> str:
    task = problem.made()
    about = textwrap.dedent(inspect.getdoc(type(task)) or "")
    lines = [f"- asked: {problem.about}"]
    lines += [f"- the number: {problem.number} {problem.unit}"] if problem.number is not None else []
    if task.data is None:
        lines += ["- data: drawn by chance"]
    else:
        lines += [f"- data: {task.data.source}", f"- licence: {task.data.licence}"]
    if task.data is None or (task.data.checksum and not task.data.counts):  # all of it, or what is made of what is read
        lines += [f"- validation: {checksum(task)}"]
    if task.data and task.data.counts:
        learn, validation, test = task.data.counts
        lines += [f"- sequences: {learn:,} to learn from, {validation:,} for validation, {test:,} for testing"]
    if task.data and task.data.checksum:
        lines += [f"- checksum: {task.data.checksum}"]
    return f"\n## {name}\n\n```text\n{about}\n```\n\n" + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(page(), end="")
