"""Generates the gallery of all cells: `python -m conveyor.explain.gallery docs/reference/gallery`."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from conveyor.cell import Cell
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.explain.difference import changed, gone
from conveyor.explain.drawing.diagram import diagram
from conveyor.explain.formula import Equation, equations, symbol
from conveyor.layer.compilation import compile
from conveyor.zoo import CELLS

SIZES = (4, 8)  # input and hidden size; eight units give each period of a clockwork a module
SPEED = "speed.json"  # results of `conveyor bench --json`
BASE = "lstm"  # the cell that the others are compared with
HEAD = """# The gallery

Every cell of the zoo: its diagram, its equations, its differences from the LSTM, and its speed. Diagrams and
equations are derived from the step that is run, by `python -m conveyor.explain.gallery docs/reference/gallery`;
`conveyor draw FILE.py:CLASS -o cell.svg` draws your own cell. [the cells](../cells.md) has papers and code.

In a diagram, a box is a learned layer and a circle is an elementwise operation; lines that merge are concatenated, and
a line that forks is copied. In equations, `*` is the elementwise product, `·` a matrix product; w is a diagonal matrix.

"""
SPEEDS = """The speeds are of {mode}, forward, backward and all gradients, on one thread: {steps} steps, {batch} rows,
{inputs} inputs, {hidden} units. They are compared with the same equations as a loop in PyTorch and, if it has the cell,
with `torch.nn`. All are medians of one run of `conveyor bench`, PyTorch {torch}; see
[the speed of all cells](../../explanation/speed.md).

"""
NAMES = {"eager": "its loop", "torch.nn": "`torch.nn`"}


def gallery(folder: Path) -> dict[str, str]:
    """The files of the gallery, by name, with the speeds from `speed.json` in the folder.

    files = gallery(Path("docs/reference/gallery"))
    files["README.md"], files["lstm.svg"]

    Raises BadInput if `speed.json` cannot be read.
    """
    try:
        measured = json.loads((folder / SPEED).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"{folder / SPEED} cannot be read ({error.strerror}); conveyor bench --json {folder / SPEED} measures it"
        ) from None
    rows = {row["cell"]: row for row in measured["rows"]}
    base = circuit_of(CELLS[BASE])
    files, sections = {}, []
    for name, kind in CELLS.items():
        files[f"{name}.svg"] = diagram(kind(*SIZES)).svg
        sections.append(_section(name, kind, base, rows.get(name)))
    contents = "".join(f"- [{name}](#{name}): {_about(kind)}\n" for name, kind in CELLS.items())
    files["README.md"] = HEAD + contents + "\n" + _speeds(measured) + "\n".join(sections)
    return files


def circuit_of(kind: type[Cell]) -> Circuit:
    """The circuit of a cell at the size of the gallery."""
    return Circuit.of(compile(kind(*SIZES)).traced)


def _about(kind: type[Cell]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _speeds(measured: dict[str, Any]) -> str:
    row = measured["rows"][0]
    return SPEEDS.format(**row["shape"], mode=row["mode"], torch=measured["torch"])


def _section(name: str, kind: type[Cell], base: Circuit, row: dict[str, Any] | None) -> str:
    circuit = circuit_of(kind)
    text = f"## {name}\n\n{_about(kind)}\n\n![The {name} cell, drawn]({name}.svg)\n\n"
    text += _math(equations(circuit)) + "\n"
    if name != BASE:
        text += f"**Against the LSTM:** {_difference(circuit, base)}\n\n"
    return text + (f"**Speed:** {_speed(row)}\n" if row else "")


def _math(found: tuple[Equation, ...]) -> str:
    lines = [equation.latex.replace(" = ", " &= ", 1) for equation in found]
    return "```math\n\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}\n```\n"


def _difference(circuit: Circuit, base: Circuit) -> str:
    """The differences from the LSTM in words, with the symbols of the values."""
    theirs = {equation.name for equation in equations(base)}
    new = [equation.name for equation in changed(circuit, base)]
    pieces = []
    for what, names in (
        ("computed differently", [name for name in new if name in theirs]),
        ("new", [name for name in new if name not in theirs]),
        ("removed", gone(circuit, base)),
    ):
        if names:
            pieces.append(f"{what}: {', '.join(f'${symbol(name)[1]}$' for name in names)}")
    return "; ".join(pieces) + "." if pieces else "the same equations."


def _speed(row: dict[str, Any]) -> str:
    milliseconds = row["seconds"][row["ours"]] * 1e3
    ratios = [f"{ratio:.1f} times as fast as {NAMES[n]}" for n, ratio in row["ratios"].items() if n in NAMES]
    return f"{milliseconds:.3g} ms, {', '.join(ratios)}; the matrix products alone take {row['fraction']:.0%} of it."


def main(folder: Path) -> None:
    """Writes the files of the gallery to the folder."""
    for name, text in gallery(folder).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m conveyor.explain.gallery FOLDER, the folder of the gallery, with its speed.json")
    try:
        main(Path(sys.argv[1]))
    except BadInput as error:
        sys.exit(str(error))
