"""A user-defined task, described in a few lines of TOML.

    [task]
    kind = "classes"            # classification; "numbers": regression; "next": predict the next step
    file = "mine.csv"           # a row for each step, in temporal order; or .parquet, or arrays in .npz
    sequence = "id"             # the column that identifies the sequence of a row
    inputs = ["x1", "x2"]
    target = "label"            # several are allowed with "numbers" and "next": ["y1", "y2"]

Paths are relative to the TOML file. Optional keys:

    judged = "every"            # every step has a target; by default, "last", only the last step of a sequence has one
    window = 48                 # instead of `sequence`: the file is one long series, cut into windows of 48 steps
    part = "part"               # the column with the part of a sequence: learn, validation or test
    validation = 0.15           # without `part`: fractions of all sequences, split at random by `seed`;
    test = 0.15                 # a series is split in temporal order instead, with the test part at the end
    seed = 0
    about = "a sentence for the report"

A .npz file has the arrays `inputs` [sequences, steps, features] and `targets` [sequences], or [sequences, steps] with
judged = "every", with one more dimension for several numbers. `lengths` and `part` [sequences] are optional. The keys
that name columns do not apply. Two other keys can replace `file`:

    function = "mine.py:draw"   # draw(rows, generator) returns inputs, targets and, if they differ, lengths, as above
    text = "mine.txt"           # for language modelling; unit = "char" or "word", in sequences of length = 64

A text needs no kind. Inputs and numeric targets are standardised over the training part, except those of a function.
For classification the metric is the error rate, and chance is always predicting the most frequent class. For regression
the metric is the root mean squared error in the unit of the data, and chance is predicting the mean; for the next step
it is predicting no change.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.errors import BadInput, suggest
from conveyor.tasks.characters import Characters, NextWords
from conveyor.tasks.function import load
from conveyor.tasks.sequences import Sequences, kept, of_arrays, split
from conveyor.tasks.table import Table, read_arrays, read_table
from conveyor.tasks.task import PARTS, Task

KINDS = {"classes": "classify the sequence", "numbers": "predict a number", "next": "predict the next step"}
SOURCES = ("file", "function", "text")
PART = {"learn": "learn", "train": "learn", "valid": "validation", "val": "validation"} | {name: name for name in PARTS}
TEXTS: dict[str, type[Characters]] = {"char": Characters, "word": NextWords}
# The keys allowed for each source; "table" and "arrays" are both files.
ALWAYS = {"kind", "about"}
SPLIT = {"validation", "test", "seed"}
KEYS = {
    "table": ALWAYS | SPLIT | {"file", "judged", "sequence", "window", "inputs", "target", "part"},
    "arrays": ALWAYS | SPLIT | {"file", "judged"},
    "function": ALWAYS | {"function", "judged"},
    "text": ALWAYS | {"text", "unit", "length"},
}


@dataclass(frozen=True)
class Description:
    """The keys of the TOML file, with their defaults."""

    kind: str = ""
    file: str = ""
    function: str = ""
    text: str = ""
    sequence: str = ""
    inputs: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    judged: str = "last"
    window: int = 0
    part: str = ""
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    unit: str = "char"
    length: int = 64
    about: str = ""


def read(path: Path) -> Task:
    """The task described by a TOML file, with its data. Raises BadInput if either cannot be used."""
    said = describe(path)
    if said.function:
        file, _, name = said.function.rpartition(":")
        return load(path.parent / file, name, said.kind == "classes", said.judged == "every")
    if said.text:
        return _text(path.parent / said.text, said)
    place = path.parent / said.file
    if place.suffix.lower() == ".npz":
        arrays = read_arrays(place)
        found = of_arrays(str(place), arrays, said.kind, said.judged == "every")
        names = arrays["part"].tolist() if "part" in arrays else None
    else:
        found, names = _of_table(read_table(place), said)
    if names is None:
        parts = split(found, said.validation, said.test, said.seed, in_time=bool(said.window))
    else:
        parts = _named(found, names)
    return kept(found, parts, said.kind == "classes")


def files(path: Path) -> list[Path]:
    """The files that define the task: the TOML file and the files that it names."""
    said = describe(path)
    place = path.parent / (said.file or said.text or said.function.rpartition(":")[0])
    return [path, *(sorted(one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place])]


def about(path: Path) -> str:
    """The description of the task for a report."""
    said = describe(path)
    return said.about or f"{KINDS[said.kind]} ({said.file or said.function or said.text})"


def _text(place: Path, said: Description) -> Task:
    if not place.exists():
        raise BadInput(f"cannot read {place}: there is no such file or folder")
    task = TEXTS[said.unit](str(place), said.length)
    for part in PARTS:
        task.part(part)  # raises BadInput if the part is too short
    return task


def describe(path: Path) -> Description:
    """The contents of the file, checked as far as possible without the data. Raises BadInput."""
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a TOML file: {error}") from error
    if set(text) != {"task"} or not isinstance(text["task"], dict):
        raise BadInput(f"{path} must have one table, [task], with kind, file, sequence, inputs and target")
    said = text["task"]
    known = {one.name: one for one in dataclasses.fields(Description)}
    for name in said:
        if name not in known:
            raise BadInput(f"{path}: a task has no key {name}; {suggest(name, known)}")
    said = {"kind": "next"} | said if "text" in said else said
    found = Description(**{name: _value(path, known[name].default, name, value) for name, value in said.items()})
    _check(path, found, set(said))
    return found


def _value(path: Path, default: Any, name: str, value: Any) -> Any:
    """The value, converted to the type of its key. Raises BadInput for another type."""
    if isinstance(default, tuple) and isinstance(value, str | list):
        values = [value] if isinstance(value, str) else value
        if values and all(isinstance(one, str) for one in values) and len(set(values)) == len(values):
            return tuple(values)
        raise BadInput(f"{path}: {name} must be one or more column names, each once, not {value!r}")
    if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
        kinds = {str: "a string", int: "a whole number", float: "a number", tuple: "a list of names"}
        raise BadInput(f"{path}: {name} must be {kinds[type(default)]}, not {value!r}")
    return value


def _check(path: Path, said: Description, given: set[str]) -> None:
    def need(fine: bool, words: str) -> None:
        if not fine:
            raise BadInput(f"{path}: {words}")

    sources = [name for name in SOURCES if getattr(said, name)]
    need(
        len(sources) == 1,
        f"a task needs exactly one of file, function and text; this one has {' and '.join(sources) or 'none'}",
    )
    need(said.kind in KINDS, f'kind must be "classes", "numbers" or "next", not "{said.kind}"')
    suffix = Path(said.file).suffix.lower()
    need(suffix in ("", ".csv", ".parquet", ".npz") and bool(suffix) == bool(said.file), FORMS.format(said.file))
    source = {"file": "arrays" if suffix == ".npz" else "table"}.get(sources[0], sources[0])
    for name in sorted(given - KEYS[source]):
        need(False, f"{name} does not apply to {SHOWN[source]}; leave it out")
    need(said.judged in ("last", "every"), f'judged must be "last" or "every", not "{said.judged}"')
    need(said.kind != "next" or "judged" not in given, 'with kind = "next" every step has a target; leave judged out')
    need(said.validation > 0 < said.test and said.validation + said.test < 1, FRACTIONS)
    if source == "table":
        need(bool(said.sequence) != bool(said.window), SEQUENCE)
        need(said.window >= 0, f"window must be a number of steps, not {said.window}")
        need(bool(said.inputs), "inputs names no columns")
        need(bool(said.target) or said.kind == "next", "target names no column")
        need(said.kind != "classes" or len(said.target) == 1, 'with kind = "classes" there must be one target')
        new = [name for name in said.target if name not in said.inputs] if said.kind == "next" else []
        need(not new, f'with kind = "next" the targets must be among the inputs, but {", ".join(new)} is not')
    if source == "function":
        need(
            said.kind != "next",
            'the kind of a function must be "classes" or "numbers": it can return the next step as targets',
        )
        need(said.function.partition(":")[2].isidentifier(), f'function must be "file.py:name", not "{said.function}"')
    if source == "text":
        need(said.kind == "next", 'the kind of a text must be "next": each next character or word is predicted')
        need(said.unit in TEXTS, f'unit must be "char" or "word", not "{said.unit}"')


FORMS = "a file must be .csv, .parquet or .npz, which {} is not"
SHOWN = {"table": "a table", "arrays": "a .npz, whose arrays are named", "function": "a function", "text": "a text"}
FRACTIONS = "validation and test must be fractions above 0 that leave a training part"
SEQUENCE = "give either sequence, the column that identifies sequences, or window, the length in steps of each window"


def _of_table(table: Table, said: Description) -> tuple[Sequences, Sequence[Any] | None]:
    """The sequences of a table, in the order of their first rows, and their parts, if a column holds them."""
    inputs, columns = table.numbers(said.inputs), [table.column(name) for name in said.target]
    groups = _windows(table, said) if said.window else _groups(table.column(said.sequence))
    last = said.kind != "next" and said.judged == "last"
    for name in said.target if last else ():
        _check_same(table, groups, name, 'a sequence has one target, or write judged = "every"')
    if said.part:
        _check_same(table, groups, said.part, "a sequence is in one part")
    names = [table.columns[said.part][rows[0]] for rows in groups.values()] if said.part else None
    found = [inputs[rows] for rows in groups.values()]
    if said.kind == "next":
        ahead = tuple(said.inputs.index(name) for name in said.target or said.inputs)
        return Sequences.ahead(table.name, list(groups), found, ahead), names
    values = table.numbers(said.target) if said.kind == "numbers" else np.array([str(cell) for cell in columns[0]])
    targets = [values[rows[-1]] if last else values[rows] for rows in groups.values()]
    return Sequences(table.name, list(groups), found, targets, not last), names


def _groups(ids: Sequence[Any]) -> dict[str, list[int]]:
    """The rows of each sequence."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        groups.setdefault(str(name), []).append(row)
    return groups


def _windows(table: Table, said: Description) -> dict[str, list[int]]:
    """The rows of each window of a series, with the step after it for forecasts."""
    count, more = len(table.places), int(said.kind == "next")
    begins = range(0, count - said.window - more + 1, said.window)
    if not begins:
        needed = f"a window of {said.window}" + (" and the next step" if more else "")
        raise BadInput(f"{table.name} has {count} rows, too few for {needed}")
    return {f"from {table.places[a]}": list(range(a, a + said.window + more)) for a in begins}


def _check_same(table: Table, groups: Mapping[str, Sequence[int]], column: str, cure: str) -> None:
    """Raises BadInput if a column varies within a sequence."""
    cells = table.column(column)
    for name, rows in groups.items():
        for row in rows:
            if cells[row] != cells[rows[0]]:
                place = f"{table.name}, {table.places[row]}: {column} is {cells[row]}"
                raise BadInput(f"{place}, but it was {cells[rows[0]]} before in the same sequence, {name}: {cure}")


def _named(found: Sequences, names: Sequence[Any]) -> list[str]:
    """The parts, from their names in the file. Raises BadInput for unknown names."""
    for name, part in zip(found.names, names, strict=True):
        if part not in PART:
            raise BadInput(
                f"{found.source}: sequence {name} is in the part {part}, but the parts are learn, validation, test"
            )
    return [PART[part] for part in names]
