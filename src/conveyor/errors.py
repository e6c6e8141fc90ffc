"""What a person is told: an error, which the command line shows as one line without a traceback, or a warning."""

import difflib
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

WITHIN = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, torch.__file__))


class BadInput(ValueError):
    """What was given cannot be used: the message names the cause and the cure in one line."""


def suggest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean lstm?", or else the list of what is known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def warn(text: str, kind: type[Warning] = UserWarning) -> None:
    """Points at the line that uses this package: the nearest one outside it and PyTorch."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(WITHIN):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, kind, stacklevel=level)
