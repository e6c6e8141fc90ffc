"""Options and checks that several commands share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from conveyor.errors import BadInput
from conveyor.training.run import write

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: cuda if available")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run of conveyor train")]


def folder_name(name: str) -> Path:
    """The path of a folder. Refuses an empty name, which would mean the current folder."""
    if not name:
        raise typer.BadParameter("the name of the folder is empty")
    return Path(name)


def check_place(out: Path, example: str) -> None:
    """Raises BadInput if the file cannot be written. Called before anything is computed. `example` is a file name."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder: give a file name, such as {out / example}")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: the folder {out.parent} does not exist; create it first")
    if not all(os.access(path, os.W_OK) for path in (out.parent, out) if path.exists()):
        raise BadInput(f"--out {out} is not writable: use another name")


def write_file(out: Path, data: bytes) -> None:
    """Writes a file atomically, following links. Writes directly to /dev/stdout, pipes and the like."""
    try:
        if out.exists() and not out.is_file():
            out.write_bytes(data)
        else:
            write(out.resolve(), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error


def listed(names: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """The names from a flag that can be repeated and takes comma-separated names."""
    return tuple(name for one in names for name in one.split(",") if name) if names else default


def duration(text: str) -> float:
    """The seconds in 90s, 10m or 2h. Raises BadInput."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        raise BadInput(f"--budget must be a number followed by s, m or h, such as 10m, not {text!r}") from None
    if not 0 < seconds < math.inf:
        raise BadInput(f"--budget must be positive and finite, not {text}")
    return seconds
