"""The error of a person's input, which the command line shows as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """What was given cannot be used: the message names the cause and the cure in one line."""


def suggest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean lstm?", or else the list of what is known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
