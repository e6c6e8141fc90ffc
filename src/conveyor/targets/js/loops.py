"""Loops, indices and literals in JavaScript."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np


def literal(value: float) -> str:
    """A constant, rounded to float32 as in PyTorch."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    if not math.isfinite(rounded):
        return "NaN" if math.isnan(rounded) else "Infinity" if rounded > 0 else "-Infinity"
    return repr(rounded).removesuffix(".0")


def contiguous(dims: Sequence[int]) -> list[int]:
    """The strides of an array without gaps."""
    return [math.prod(dims[k + 1 :]) for k in range(len(dims))]


def spread(dims: Sequence[int], to: Sequence[int]) -> list[int]:
    """The strides of a value that is broadcast to a larger shape."""
    strides = [0 if d == 1 else s for d, s in zip(dims, contiguous(dims), strict=True)]
    return [0] * (len(to) - len(dims)) + strides


def index(strides: Sequence[int], letters: Sequence[str], at: int = 0) -> str:
    """The index expression of an element; `letters` are the loop variables of its dimensions."""
    terms = [c if s == 1 else f"{s} * {c}" for s, c in zip(strides, letters, strict=True) if s and c != "0"]
    return " + ".join([*([str(at)] if at or not terms else []), *terms])


def loops(dims: Sequence[int], one: Callable[[Sequence[str]], str | list[str]], around: int = 0) -> list[str]:
    """Nested loops inside `around` others. Dimensions of size 1 have no loop."""
    running = [k for k, d in enumerate(dims) if d != 1]
    letters = ["0"] * len(dims)
    for depth, k in enumerate(running, around):
        letters[k] = _letter(depth)
    found = one(letters)
    lines = [found] if isinstance(found, str) else found
    for k, depth in zip(reversed(running), count()):
        head = f"for (let {letters[k]} = 0; {letters[k]} < {dims[k]}; {letters[k]}++)"
        lines = [f"{head} {lines[0]}"] if not depth and len(lines) == 1 else [f"{head} {{", *_inner(lines), "}"]
    return lines if running or len(lines) == 1 else ["{", *_inner(lines), "}"]


def _letter(depth: int) -> str:
    letters = "ijlmnopqruxyz"
    return letters[depth] if depth < len(letters) else f"i{depth}"


def _inner(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
