"""Work that the number of the step decides upon: products that do not matter in every step.

    h = where(t % 4 == 0, tanh(W · h + b), h)      # in three steps of four, nobody needs W · h

A clock is a number that depends on the step's number alone. A product is under a clock if all that comes of it is
thrown away where the clock is 0, or if what it multiplies is 0 there, as the gradient of what was thrown away is. The
kernel then takes the product to be 0, without computing it. (Where the loop's gradient is 0 times infinity, that of the
kernel may so be 0 and not NaN.) Only where(clock, new, old) is seen, not where(clock, old, new) nor clock * new.
"""

from __future__ import annotations

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS

# What may lie between a product and the choice that throws it away: of finite numbers, none of these makes a value or a
# derivative that is not finite. So with 0 for the product, what backward multiplies by 0 is finite.
SAFE = {name for name, op in OPS.items() if op.is_finite}
STILL_ZERO = {name for name, op in OPS.items() if op.keeps_zero}  # of zero, zero; so is any product


def clock_of(graph: Graph) -> dict[int, int]:
    """The products between a state and the next that are under a clock, by node, and the clock's node.

    Those that are not between two states are done over all steps at once, which no clock makes less work.
    """
    clocks = _clocks(graph)
    if not any(clocks[node.inputs[0]] for node in graph.nodes if node.op == "where"):
        return {}
    thrown_away, zero = _thrown_away(graph, clocks), _zero(graph, clocks)
    waiting, carried = depends(graph, "state"), _reaches_state(graph)
    found: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if node.op in ("matmul", "gemm") and waiting[i] and carried[i]:
            by = {zero[j] for j in node.inputs[::2]}
            clock = by.pop() if len(by) == 1 else None
            clock = thrown_away[i] if clock is None else clock
            if clock is not None:
                found[i] = clock
    return found


def depends(graph: Graph, kind: str) -> list[bool]:
    """Whether a value comes of an input of this kind."""
    found: list[bool] = []
    for node in graph.nodes:
        found.append((node.op == "input" and node.attrs[0] == kind) or any(found[j] for j in node.inputs))
    return found


def _clocks(graph: Graph) -> list[bool]:
    """Whether a value is one number that comes of the step's number alone."""
    return [i in graph.step_values and node.dims == () for i, node in enumerate(graph.nodes)]


def _thrown_away(graph: Graph, clocks: list[bool]) -> list[int | None]:
    """For each value the clock without which nobody sees it. What backward alone will see, it multiplies by zero."""
    users, ends = graph.users(), {output.node for output in graph.outputs if not output.is_saved}
    found: list[int | None] = [None] * len(graph.nodes)

    def through(user: int, i: int) -> int | None:
        node = graph.nodes[user]
        if node.op == "where" and clocks[node.inputs[0]] and node.inputs[1] == i != node.inputs[2]:
            return node.inputs[0]
        return found[user] if node.op in SAFE else None

    for i in reversed(range(len(graph.nodes))):
        by = {through(user, i) for user in users[i]}
        found[i] = by.pop() if len(by) == 1 and i not in ends else None
    return found


def _zero(graph: Graph, clocks: list[bool]) -> list[int | None]:
    """For each value the clock without which it is zero."""
    found: list[int | None] = []
    for node in graph.nodes:
        clock: int | None = None
        if node.op == "where" and clocks[node.inputs[0]] and _is_zero(graph, node.inputs[2]):
            clock = node.inputs[0]
        elif node.op == "mul":
            clock = next((found[j] for j in node.inputs if found[j] is not None), None)
        elif node.op in STILL_ZERO:
            clock = found[node.inputs[0]]
        found.append(clock)
    return found


def _is_zero(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    return node.op == "const" and node.attrs[0] == 0


def _reaches_state(graph: Graph) -> list[bool]:
    users, ends = graph.users(), {output.node for output in graph.outputs if output.kind == "state"}
    found = [False] * len(graph.nodes)
    for i in reversed(range(len(graph.nodes))):
        found[i] = i in ends or any(found[user] for user in users[i])
    return found
