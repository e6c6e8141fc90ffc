"""The command conveyor draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.options import check_place, write_file
from conveyor.compiler import CannotCompile
from conveyor.errors import BadInput, suggest
from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.diagram import THEMES, Diagram
from conveyor.explain.drawing.diagram import draw as drawn
from conveyor.explain.drawing.errors import REPORT, CannotDraw
from conveyor.layer.compilation import compile
from conveyor.zoo.find import create

SUFFIXES = (".svg", ".png")


def draw(
    cell: Annotated[str, typer.Argument(help="a cell's name, or file.py:ClassName")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="FILE.svg or FILE.png; - prints the SVG [default: CELL.svg]")
    ] = None,
    unroll: Annotated[int, typer.Option(min=1, max=100, help="modules drawn in full, one of them for step t")] = 1,
    highlight: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="highlight this value and its lines; can be repeated")
    ] = None,
    theme: Annotated[str, typer.Option(help=f"{', '.join(THEMES)}; auto follows the viewer's system")] = "auto",
    scale: Annotated[float, typer.Option(min=0.1, max=20, help="of a PNG: pixels per unit of the drawing")] = 2.0,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SIZE,...", help="shape of a stream or constant that the cell does not know"),
    ] = None,
    input_size: Annotated[int, typer.Option(min=1)] = 32,
    hidden_size: Annotated[int, typer.Option(min=1)] = 128,
) -> None:
    """Draw a cell: the repeating module, its layers, its operations and the lines between them."""
    out = out or Path(f"{cell.rpartition(':')[2]}.svg")
    _check_file(out)
    try:
        circuit = _read(cell, input_size, hidden_size, _shapes(shape or []))
        picture = drawn(circuit, cell.rpartition(":")[2], unroll, tuple(highlight or ()), theme)
    except CannotDraw as error:
        raise BadInput(f"{cell}: its picture could not be laid out ({error}): {REPORT}") from error
    except RecursionError:
        raise BadInput(f"{cell}: the step is too long to be drawn: draw a part of it") from None
    _write(picture, out, scale)


def _read(cell: str, input_size: int, hidden_size: int, shapes: dict[str, tuple[int, ...]]) -> Circuit:
    try:
        return Circuit.of(compile(create(cell, input_size, hidden_size), shapes=shapes).traced)
    except BadInput:
        raise
    except (CannotCompile, TypeError, ValueError) as error:
        raise BadInput(f"{cell}: {error}") from error


def _check_file(out: Path) -> None:
    """Raises BadInput if the file cannot be written. Called before anything is drawn."""
    if str(out) == "-":
        return
    if out.suffix not in SUFFIXES:
        raise BadInput(f"{out}: the name must end in .svg or .png; {suggest(out.suffix, SUFFIXES)}")
    check_place(out, f"cell{out.suffix}")


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """Parses shapes such as key=49,128. Raises BadInput."""
    found = {}
    for text in given:
        name, _, sizes = text.partition("=")
        numbers = sizes.split(",")
        if not name or not all(number.isdecimal() and int(number) for number in numbers):
            raise BadInput(f"--shape {text}: write NAME=SIZE, or NAME=SIZE,SIZE, as in keys=49,128")
        found[name] = tuple(map(int, numbers))
    return found


def _write(diagram: Diagram, out: Path, scale: float) -> None:
    if str(out) == "-":
        print(diagram.svg, end="")
    elif out.suffix == ".png":
        write_file(out, diagram.png(scale))
    else:
        write_file(out, diagram.svg.encode())
