"""Reads user-supplied sequences: a CSV or Parquet table with a row for each step, or NPZ arrays."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.errors import BadInput, suggest

PARQUET_CURE = "pip install 'conveyor[parquet]', or save the table as .csv"
ARRAYS = ("inputs", "targets", "lengths", "part")


@dataclass(frozen=True)
class Table:
    """Columns by name, and the position of each row in the file, for messages."""

    name: str
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str]  # such as "line 7"

    def column(self, name: str) -> Sequence[Any]:
        """A column. Raises BadInput if it is missing or has an empty cell."""
        if name not in self.columns:
            raise BadInput(f"{self.name} has no column {name}: {suggest(name, self.columns)}")
        column = self.columns[name]
        for row, cell in enumerate(column):
            if cell is None or cell == "":
                raise BadInput(f"{self.name}, {self.places[row]}: column {name} is empty")
        return column

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """These columns, [rows, names]. Raises BadInput for a cell that is not a finite number."""
        return np.stack([self._numbers(name) for name in names], 1)

    def _numbers(self, name: str) -> np.ndarray:
        column = self.column(name)
        try:
            found = np.array(column, np.float64)
        except (TypeError, ValueError):
            found = np.array([_number(cell) for cell in column])
        for row in np.flatnonzero(~np.isfinite(found))[:1]:
            raise BadInput(f"{self.name}, {self.places[row]}: column {name} is {column[row]!r}, not a finite number")
        return found


def read_table(path: Path) -> Table:
    """The table in a file. Raises BadInput if it cannot be read or has no rows."""
    table = _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)
    if not table.places:
        raise BadInput(f"{path} has column names but no rows")
    return table


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """`inputs` [N, T, features] or [N, T] and, if present, `targets`, `lengths` [N] and `part` [N].

    Raises BadInput for a file without inputs, and for arrays of inconsistent shapes.
    """
    try:
        with np.load(io.BytesIO(_bytes(path)), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ARRAYS}
            names = file.files
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise BadInput(f"{path} is not a file of arrays, as written by numpy.savez: {error}") from error
    if "inputs" not in arrays:
        raise BadInput(f"{path} has no array named inputs, [sequences, steps, features]: {suggest('inputs', names)}")
    return check_arrays(str(path), arrays)


def check_arrays(source: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays, with `inputs` in three dimensions and `lengths`. Raises BadInput for inconsistent shapes."""
    inputs = arrays["inputs"]
    if inputs.ndim not in (2, 3) or not inputs.size or inputs.dtype.kind not in "fiub":
        said = f"{inputs.dtype} {list(inputs.shape)}"
        raise BadInput(f"{source}: inputs must be numbers, [sequences, steps, features], none of size 0, not {said}")
    for name, array in arrays.items():
        if array.ndim < 1 or len(array) != len(inputs):
            raise BadInput(f"{source}: inputs has {len(inputs)} sequences, but {name} is {list(array.shape)}")
    found = {**arrays, "inputs": inputs[..., None] if inputs.ndim == 2 else inputs}
    return found | {"lengths": _lengths(source, found)}


def _lengths(source: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    count, steps, _ = arrays["inputs"].shape
    lengths = arrays.get("lengths", np.full(count, steps))
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu":
        raise BadInput(f"{source}: lengths must be {count} whole numbers, not {lengths.dtype} {list(lengths.shape)}")
    for row in np.flatnonzero((lengths < 1) | (lengths > steps))[:1]:
        raise BadInput(f"{source}: the length of sequence {row} must be from 1 to {steps}, not {lengths[row]}")
    return lengths


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def _csv(path: Path) -> Table:
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 (byte {error.start}): convert it, for example with iconv") from error
    if not text.strip():
        raise BadInput(f"{path} is empty: its first line must name the columns")
    try:
        lines = list(_lines(text))
    except csv.Error as error:
        raise BadInput(f"{path} is not a CSV file: {error}") from error
    (_, header), rows = lines[0], lines[1:]
    names = [name.strip() for name in header]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{path} has two columns called {twice}")
    for line, cells in rows:
        if len(cells) != len(names):
            raise BadInput(f"{path}, line {line}: {len(cells)} cells, but the first line names {len(names)} columns")
    columns = {name: [cells[i].strip() for _, cells in rows] for i, name in enumerate(names)}
    return Table(str(path), columns, [f"line {line}" for line, _ in rows])


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each non-empty line; cells are separated by commas, semicolons or tabs."""
    first = text.lstrip().splitlines()[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    return ((reader.line_num, cells) for cells in reader if cells)


def _parquet(path: Path) -> Table:
    data = _bytes(path)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(f"reading {path} needs the package pyarrow: {PARQUET_CURE}") from error
    try:
        columns = pyarrow.parquet.read_table(io.BytesIO(data)).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from error
    count = len(next(iter(columns.values()), ()))
    return Table(str(path), columns, [f"row {row + 1}" for row in range(count)])


def _number(cell: Any) -> float:
    """The cell as a number; NaN if it is not one."""
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
