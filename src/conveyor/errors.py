"""Errors for the user, which the command line shows as one line without a traceback, and warnings."""

import difflib
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

WITHIN = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, torch.__file__))


class BadInput(ValueError):
    """Invalid input: the message states the cause and the remedy in one line."""


class Mismatch(ValueError, RuntimeError):
    """What a layer was given does not fit it: a ValueError, as elsewhere here, and a RuntimeError, as torch.nn's."""


def suggest(name: str, known: Iterable[str]) -> str:
    """ "did you mean lstm?" if a known name is close, else the list of known names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def warn(text: str, kind: type[Warning] = UserWarning) -> None:
    """Warns, pointing at the caller's line: the innermost frame outside this package and PyTorch."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(WITHIN):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, kind, stacklevel=level)
