"""The command that makes a page of a trained language model: conveyor explain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.options import RunFolder, check_place, write_file
from conveyor.errors import BadInput
from conveyor.explain.page import serve as server
from conveyor.explain.page.assemble import page
from conveyor.language.trained import load
from conveyor.training.run import Run

TRAINED = "conveyor train"
FILE, PORT = Path("explain.html"), 8000  # where nobody says


def explain(
    run: RunFolder,
    beside: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="another, to be seen side by side", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="what the networks read at first [default: the beginning of what was held out]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help=f"the page [default: {FILE}]", show_default=False)
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="show the page on this machine, with the runs' texts to be searched")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help=f"with --serve: where; 0: any that is free [default: {PORT}]", show_default=False)
    ] = None,
) -> None:
    """Write a page on which a trained language model runs: its text, its cell, each of its units.

    The page is one file and needs nothing else, no server and no network. With --serve no file is written.
    """
    if serve and out is not None:
        raise BadInput(f"--serve writes no file: leave out --out {out}, or --serve")
    if not serve and port is not None:
        raise BadInput(f"--port {port} is for --serve: add that, or leave out --port")
    out = FILE if out is None else out
    if not serve:
        check_place(out, FILE.name)
    folders = [run] if beside is None else [run, beside]
    for folder in folders:
        check_language(folder)
    runs = [load(folder) for folder in folders]
    if serve:
        with server.listen(PORT if port is None else port) as listening:
            server.serve(page(runs, text, served=True), runs, listening)
        return
    document = page(runs, text).encode()
    write_file(out, document)
    print(f"{out}: {len(document) / 1e6:.1f} MB; open it in a browser", file=sys.stderr)


def check_language(folder: Path) -> None:
    """Raises BadInput for the folder of a run that trained something else than a language model."""
    maker = Run(folder).maker()
    if maker and maker != TRAINED:
        raise BadInput(f"{folder} holds a run of {maker}, and no language model: name one that {TRAINED} made")
