"""The command conveyor export, which writes a network as C, ONNX or JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from conveyor.cli.pages import check_language
from conveyor.errors import BadInput, suggest
from conveyor.exporting.formats import FORMATS, check_options, format_of
from conveyor.exporting.write import export as write
from conveyor.language.trained import load
from conveyor.nn.incoming import from_onnx
from conveyor.tasks.text import Vocabulary
from conveyor.zoo.find import imported


def export(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="a run, file.py:NAME, or file.onnx")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder, or one of an earlier export")],
    to: Annotated[str, typer.Option(help=", ".join(FORMATS))] = "c",
    weights: Annotated[str, typer.Option(help="what C stores its matrices in: float32, bfloat16 or int8")] = "float32",
    inline: Annotated[
        bool | None,
        typer.Option("--inline/--beside", help="weights in the source or in a file [default: C in, JavaScript beside]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="of files and functions [default: the cell's]", show_default=False)
    ] = None,
) -> None:
    """Write a network as C, ONNX or JavaScript, run what was written, and compare it with PyTorch.

    A run of conveyor train gives its language model. In file.py, NAME is a layer or a language model, or a function
    without arguments that returns one. Of file.onnx, its LSTM, GRU or RNN is taken.
    """
    options: dict[str, Any] = {} if weights == "float32" else {"weights": weights}
    if inline is not None:
        options["inline"] = inline
    check_options(format_of(to), options)
    module, vocabulary = _read(source)
    print(write(module, out, to, vocabulary=vocabulary, name=name, **options))


def _read(source: str) -> tuple[nn.Module, Vocabulary | None]:
    """The network, and the vocabulary of a language model."""
    path, separator, name = source.rpartition(":")
    if separator and path.endswith(".py"):
        return _made(Path(path), name), None
    if source.endswith(".py"):
        raise BadInput(f"{source} is a file: name the layer in it, {source}:NAME")
    if source.endswith(".onnx"):
        return from_onnx(source), None
    check_language(Path(source))
    trained = load(Path(source))
    return trained.model, trained.vocabulary


def _made(path: Path, name: str) -> nn.Module:
    """The module of this name in a user's file, or what the function of this name returns."""
    found = imported(path)
    if name not in found:
        known = [key for key, value in found.items() if isinstance(value, nn.Module)]
        raise BadInput(f"{path} has no {name}: {suggest(name, known) if known else 'it has no layer'}")
    value = found[name]
    if isinstance(value, nn.Module):
        return value
    if not callable(value) or isinstance(value, type):
        raise BadInput(f"{name} in {path} is neither a layer nor a function that returns one")
    try:
        value = value()
    except Exception as error:  # a user's own function can fail in any way
        raise BadInput(f"{path}: {name}() fails: {type(error).__name__}: {error}") from error
    if not isinstance(value, nn.Module):
        raise BadInput(f"{path}: {name}() returns a {type(value).__name__}, not a layer")
    return value
