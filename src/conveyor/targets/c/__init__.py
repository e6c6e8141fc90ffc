"""What targets that are written in C have in common: how a loop is spelled, the functions of a step, the compiler."""

from __future__ import annotations

from pathlib import Path

from conveyor.targets.c.build import read


def maths() -> str:
    """The functions of a step in C, maths.h."""
    return read(Path(__file__).parent / "maths.h")
