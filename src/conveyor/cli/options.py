"""What several commands are told alike."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from conveyor.errors import BadInput
from conveyor.training.run import write

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: cuda where there is one")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, as conveyor train made it")]


def folder_name(name: str) -> Path:
    """The path; an empty name would be the folder where one is."""
    if not name:
        raise typer.BadParameter("the name of the folder is empty")
    return Path(name)


def check_place(out: Path, example: str) -> None:
    """Before anything is computed. Raises BadInput if there can be no such file. `example`: what it may be called."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder: name the file, such as {out / example}")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}; make it first")
    if not all(os.access(place, os.W_OK) for place in (out.parent, out) if place.exists()):
        raise BadInput(f"--out {out} may not be written: take another name")


def write_file(out: Path, data: bytes) -> None:
    """Whole or not at all, where a link leads; what is no file, such as /dev/stdout or a pipe, is written to."""
    try:
        if out.exists() and not out.is_file():
            out.write_bytes(data)
        else:
            write(out.resolve(), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error


def listed(names: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """What a flag that is given several times, or takes names with commas between, says."""
    return tuple(name for one in names for name in one.split(",") if name) if names else default


def duration(text: str) -> float:
    """Seconds, of 90s, 10m or 2h. Raises BadInput."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        raise BadInput(f"--budget is a number of s, m or h, such as 10m, not {text!r}") from None
    if not 0 < seconds < math.inf:
        raise BadInput(f"--budget must be more than nothing, not {text}")
    return seconds
