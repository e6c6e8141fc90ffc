"""How far a kernel can count: it holds whole numbers as reals of its own type, which are exact up to a limit only.

h = where((t * 1000003) % 7 < 3, new, h)      # t is a whole number of 64 bits in PyTorch, and not in a kernel
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS


def steps_within(graph: Graph, whole: Mapping[str, float], limit: int) -> int:
    """The number of steps up to which every whole number of a step is at most `limit`.

    Whole numbers are those made of the step's number and of the weights in `whole`, by name with their magnitudes.
    """
    if "step" not in {key.kind for key in graph.taken} and not whole:
        return limit
    return bisect_left(range(limit), True, key=lambda last: _largest(graph, whole, last) > limit)


def _largest(graph: Graph, whole: Mapping[str, float], last: int) -> float:
    """The largest magnitude of a whole number in step `last` or before it."""
    known: list[float | None] = []  # none: a real number
    made: list[bool] = []  # whether it is more than a number that stands in the step
    for node in graph.nodes:
        sources = node.inputs[1:] if node.op == "where" else node.inputs  # of which a condition is none
        values = [known[j] for j in sources]
        if node.op == "input":
            found = last if node.attrs[0] == "step" else whole.get(node.attrs[1])
        elif node.op == "const":
            found = abs(node.attrs[0])
        else:
            largest = OPS[node.op].largest
            found = None if None in values or largest is None else largest(*values)
        known.append(found)
        made.append(found is not None and (node.op == "input" or any(made[j] for j in sources)))
    return max((value for value, own in zip(known, made, strict=True) if own and value is not None), default=0)
