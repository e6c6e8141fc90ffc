"""The command conveyor export, which writes a trained language model as C, ONNX or JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from conveyor.cli.options import RunFolder
from conveyor.cli.pages import check_language
from conveyor.errors import BadInput
from conveyor.exporting.formats import FORMATS
from conveyor.exporting.write import export as write
from conveyor.language.trained import load


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder, or one of an earlier export")],
    to: Annotated[str, typer.Option(help=", ".join(FORMATS))] = "c",
    weights: Annotated[str, typer.Option(help="what C stores its matrices in: float32, bfloat16 or int8")] = "float32",
    name: Annotated[
        str | None, typer.Option(help="of files and functions [default: the cell's]", show_default=False)
    ] = None,
) -> None:
    """Write a trained language model as C, ONNX or JavaScript, run what was written, and compare.

    Layers and cells of your own are exported in Python: conveyor.export(layer, folder, to="c").
    """
    check_language(run)
    if weights != "float32" and to != "c":
        raise BadInput(f"--weights is for --to c; the format {to} has float32 alone: omit it")
    trained = load(run)
    options: dict[str, Any] = {"weights": weights} if to == "c" else {}
    print(write(trained.model, out, to, vocabulary=trained.vocabulary, name=name, **options))
