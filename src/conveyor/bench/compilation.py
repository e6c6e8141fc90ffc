"""How long it takes to make a cell's kernels."""

from __future__ import annotations

from conveyor.cell import Cell


def compilation_seconds(cell: type[Cell]) -> dict[str, float]:  # noqa: ARG001 - the compiler will read it
    """Seconds of a compilation from nothing ("first") and of one that finds the cache ("cached").

    Empty while there is no compiler; the worker asks once for each cell, and the report shows what is in it.
    """
    return {}
