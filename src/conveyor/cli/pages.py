"""The command conveyor explain, which writes a page about a trained language model."""

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
FILE, PORT = Path("explain.html"), 8000  # defaults


def explain(
    run: RunFolder,
    beside: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="another run, to compare side by side", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="the text shown first [default: the beginning of the held-out text]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help=f"the page [default: {FILE}]", show_default=False)
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="serve the page on this machine, with search in the runs' texts")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help=f"port of --serve; 0: any free port [default: {PORT}]", show_default=False)
    ] = None,
) -> None:
    """Write a page on which a trained language model runs: its text, its cell, each of its units.

    The page is a single file that works offline. With --serve no file is written.
    """
    if serve and out is not None:
        raise BadInput(f"--serve writes no file: omit --out {out}, or --serve")
    if not serve and port is not None:
        raise BadInput(f"--port {port} requires --serve: add it, or omit --port")
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
    """Raises BadInput if the run in the folder did not train a language model."""
    maker = Run(folder).maker()
    if maker and maker != TRAINED:
        raise BadInput(f"{folder} is a run of {maker}, not a language model: give a run of {TRAINED}")
