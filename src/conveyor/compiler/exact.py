"""How many steps a kernel can count exactly: it stores integers as floats, which are exact only up to a limit.

h = where((t * 1000003) % 7 < 3, new, h)      # t is a 64-bit integer in PyTorch, but a float in a kernel
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Mapping

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS


def steps_within(graph: Graph, whole: Mapping[str, float], limit: int) -> int:
    """The number of steps for which every integer that a step computes is at most `limit`.

    The integers of a step are the step number, the weights in `whole` (name: largest magnitude), and what is computed
    from them. A step without any has no limit: sys.maxsize.
    """
    if "step" not in {key.kind for key in graph.input_keys} and not whole:
        return sys.maxsize
    return bisect_left(range(limit), True, key=lambda last: _largest(graph, whole, last) > limit)


def _largest(graph: Graph, whole: Mapping[str, float], last: int) -> float:
    """The largest magnitude of an integer in step `last` or any step before it."""
    known: list[float | None] = []  # None: not an integer
    made: list[bool] = []  # whether it is computed, and not a literal of the step
    for node in graph.nodes:
        sources = node.inputs[1:] if node.op == "where" else node.inputs  # without the condition
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
