"""The command that makes a page of a trained language model: conveyor explain."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.options import RunFolder
from conveyor.errors import BadInput
from conveyor.explain.page import serve as server
from conveyor.explain.page.assemble import page
from conveyor.language.trained import load
from conveyor.training.run import Run, write

TRAINED = "conveyor train"


def explain(
    run: RunFolder,
    beside: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="another, to be seen side by side", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="what the networks read at first [default: the beginning of what was held out]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="the page")] = Path("explain.html"),
    serve: Annotated[
        bool, typer.Option("--serve", help="show the page on this machine, with the runs' texts to be searched")
    ] = False,
    port: Annotated[int, typer.Option(help="with --serve: where; 0: any that is free")] = 8000,
) -> None:
    """Write a page on which a trained language model runs: its text, its cell, each of its units.

    The page is one file and needs nothing else, no server and no network. With --serve no file is written.
    """
    if not serve:
        check_place(out)
    folders = [run] if beside is None else [run, beside]
    for folder in folders:
        check_language(folder)
    runs = [load(folder) for folder in folders]
    if serve:
        with server.listen(port) as listening:
            server.serve(page(runs, text, served=True), runs, listening)
        return
    document = page(runs, text).encode()
    write(out, document)
    print(f"{out}: {len(document) / 1e6:.1f} MB; open it in a browser", file=sys.stderr)


def check_language(folder: Path) -> None:
    """Raises BadInput for the folder of a run that trained something else than a language model."""
    maker = Run(folder).maker()
    if maker and maker != TRAINED:
        raise BadInput(f"{folder} holds a run of {maker}, and no language model: name one that {TRAINED} made")


def check_place(out: Path) -> None:
    """Before anything is computed. Raises BadInput if there can be no such file."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder: name the file, such as {out / 'explain.html'}")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.exists() and not os.access(out, os.W_OK):
        raise BadInput(f"--out {out} may not be written: take another name")
