"""The command conveyor explain, which writes a page about a trained network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli import given
from conveyor.cli.options import check_place, listed, write_file
from conveyor.errors import BadInput
from conveyor.explain.page import serve as server
from conveyor.explain.page.assemble import page
from conveyor.language.trained import load
from conveyor.training.run import Run

TRAINED, TRIAL = "conveyor train", "conveyor compare"
FILE, PORT = Path("explain.html"), 8000  # defaults


Runs = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", help="the folder of a run of conveyor train or compare", show_default=False),
]
Beside = Annotated[
    Path | None, typer.Argument(metavar="[RUN2]", help="another run, to compare side by side", show_default=False)
]
Opening = Annotated[str | None, typer.Option(help="the text shown first [default: the beginning of the held-out text]")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help=f"the page [default: {FILE}]", show_default=False)
]
Serve = Annotated[bool, typer.Option("--serve", help="serve the page on this machine, with search in the runs' texts")]
Port = Annotated[
    int | None, typer.Option(help=f"port of --serve; 0: any free port [default: {PORT}]", show_default=False)
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="weights, .safetensors or a saved state_dict", show_default=False)
]
OfCell = Annotated[str, typer.Option(help="with --weights: the cell of its layer")]
Data = Annotated[
    Path | None, typer.Option(metavar="FILE", help="with --weights: a table, a row a step", show_default=False)
]
Inputs = Annotated[list[str] | None, typer.Option(help="the columns that are read [default: all of numbers]")]
Target = Annotated[list[str] | None, typer.Option(help="the columns that should come out")]
Gives = Annotated[str, typer.Option(help="next: the inputs one step later; numbers or classes: those of --target")]
Layer = Annotated[str, typer.Option(help="the layer in --weights, if there are several")]
Head = Annotated[str, typer.Option(help="the linear map after the layer, if there are several")]
Normalise = Annotated[bool, typer.Option("--normalise", help="it reads deviations from the mean of each column")]


def explain(
    run: Runs = None,
    beside: Beside = None,
    text: Opening = None,
    out: Out = None,
    serve: Serve = False,
    port: Port = None,
    weights: Weights = None,
    cell: OfCell = "lstm",
    data: Data = None,
    inputs: Inputs = None,
    target: Target = None,
    gives: Gives = "",
    layer: Layer = "",
    head: Head = "",
    normalise: Normalise = False,
) -> None:
    """Write a page on which a trained network runs: its text or series, its cell, each of its units.

    The page is a single file that works offline. With --serve no file is written. Of a network trained elsewhere:

    conveyor explain --weights model.safetensors --cell gru --data hours.csv --gives next
    """
    if serve and out is not None:
        raise BadInput(f"--serve writes no file: omit --out {out}, or --serve")
    if not serve and port is not None:
        raise BadInput(f"--port {port} requires --serve: add it, or omit --port")
    out = FILE if out is None else out
    if not serve:
        check_place(out, FILE.name)
    said = {"data": data, "inputs": inputs, "target": target, "gives": gives, "layer": layer, "head": head}
    if weights is not None:
        check_foreign(run is not None, text is not None, serve, data is not None)
        assert data is not None
        columns = given.Columns(data, listed(inputs, ()), listed(target, ()), gives, normalise)
        finish(out, given.weights(weights, cell, columns, layer, head).html)
        return
    if wrong := next((name for name, value in {**said, "normalise": normalise}.items() if value), None):
        raise BadInput(f"--{wrong} requires --weights: add it, or omit --{wrong}")
    if run is None:
        raise BadInput("name the folder of a run, or --weights FILE and --data FILE")
    of_runs([run] if beside is None else [run, beside], text, out, serve, PORT if port is None else port)


def check_foreign(run: bool, text: bool, serve: bool, data: bool) -> None:
    """Raises BadInput for what does not go with --weights, and without what it needs."""
    if run or text or serve:
        raise BadInput("--weights takes no RUN, --text or --serve: it shows the series of --data")
    if not data:
        raise BadInput("--weights requires --data FILE: a .csv with a row for each step")


def of_runs(folders: list[Path], text: str | None, out: Path, serve: bool, port: int) -> None:
    """Writes or serves the page of runs: of language models, or of trials of a comparison."""
    if all(Run(folder).maker() == TRIAL for folder in folders):
        if serve or text is not None:
            raise BadInput("a trial of a comparison reads series: omit --serve and --text")
        finish(out, given.trial(folders).html)
        return
    for folder in folders:
        check_language(folder)
    runs = [load(folder) for folder in folders]
    if serve:
        with server.listen(port) as listening:
            server.serve(page(runs, text, served=True), runs, listening)
        return
    finish(out, page(runs, text))


def finish(out: Path, html: str) -> None:
    """Writes a page, and says so."""
    document = html.encode()
    write_file(out, document)
    print(f"{out}: {len(document) / 1e6:.1f} MB; open it in a browser", file=sys.stderr)


def check_language(folder: Path) -> None:
    """Raises BadInput if the run in the folder did not train a language model."""
    maker = Run(folder).maker()
    if maker and maker != TRAINED:
        wanted = f"give a run of {TRAINED} or {TRIAL}"
        raise BadInput(f"{folder} is a run of {maker}, not a language model or a trial of a comparison: {wanted}")
