"""Every cell in pictures and equations: `python -m conveyor.explain.gallery docs/gallery`."""

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

SIZES = (4, 8)  # of the cells that are drawn; eight units are a module for each of a clockwork's periods, and more
SPEED = "speed.json"  # what `conveyor bench` measured
BASE = "lstm"  # what the others are set against
HEAD = """# The gallery

Every cell of the zoo: what it looks like, its equations, what it does otherwise than the LSTM, and how fast it is.
Picture and equations are made from the step that is run, by `python -m conveyor.explain.gallery docs/gallery`; of your
own cell `conveyor draw FILE.py:CLASS -o cell.svg` draws the picture. [cells.md](../cells.md) has papers and code.

In a picture a box is a learned layer and a circle works number by number; lines that meet are put one after the other,
a line that forks is copied. In equations `*` multiplies number by number, `·` is a matrix product, and w is a diagonal
matrix.

"""
SPEEDS = """The speeds are of {mode}, forward, backward and all gradients, on one thread: {steps} steps, {batch} rows,
{inputs} inputs, {hidden} units. They stand against the same equations as a loop in PyTorch and, where it has the cell,
against `torch.nn`; medians of one run of `conveyor bench`, PyTorch {torch}. [speed.md](../speed.md) says more of how.

"""
NAMES = {"eager": "its loop", "torch.nn": "`torch.nn`"}


def gallery(folder: Path) -> dict[str, str]:
    """The files of the gallery, by name, with the speeds that lie in the folder.

    files = gallery(Path("docs/gallery"))
    files["README.md"], files["lstm.svg"]
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
    """In words, with the symbols of the values."""
    theirs = {equation.name for equation in equations(base)}
    new = [equation.name for equation in changed(circuit, base)]
    pieces = []
    for what, names in (
        ("otherwise computed", [name for name in new if name in theirs]),
        ("new", [name for name in new if name not in theirs]),
        ("gone", gone(circuit, base)),
    ):
        if names:
            pieces.append(f"{what}: {', '.join(f'${symbol(name)[1]}$' for name in names)}")
    return "; ".join(pieces) + "." if pieces else "the same equations."


def _speed(row: dict[str, Any]) -> str:
    milliseconds = row["seconds"][row["ours"]] * 1e3
    ratios = [f"{ratio:.1f} times as fast as {NAMES[n]}" for n, ratio in row["ratios"].items() if n in NAMES]
    return f"{milliseconds:.3g} ms, {', '.join(ratios)}; the products alone take {row['fraction']:.0%} of it."


def main(folder: Path) -> None:
    for name, text in gallery(folder).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m conveyor.explain.gallery FOLDER: the folder that holds, or is to hold, the gallery")
    try:
        main(Path(sys.argv[1]))
    except BadInput as error:
        sys.exit(str(error))
