"""Products that do not matter in every step, because the number of the step decides whether they are used.

    h = where(t % 4 == 0, tanh(W · h + b), h)      # in three steps of four, W · h is not used

A condition is a value that depends on the step's number alone. A product is under a condition if all that comes of it
is thrown away where the condition is 0, or if what it multiplies is 0 there, as the gradient of what was thrown away
is. The kernel then takes the product to be 0 without computing it. (Where the loop's gradient is 0 times infinity, the
kernel's may therefore be 0 and not NaN.) Only where(condition, new, old) is recognised, not where(condition, old, new)
nor condition * new.
"""

from __future__ import annotations

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS

# What may lie between a product and the choice that throws it away: of finite numbers, none of these makes a value or a
# derivative that is not finite. So with 0 for the product, what backward multiplies by 0 is finite.
SAFE = {name for name, op in OPS.items() if op.is_finite}
STILL_ZERO = {name for name, op in OPS.items() if op.keeps_zero}  # of zero, zero; so is any product


def conditions_of(graph: Graph) -> dict[int, int]:
    """The products between a state and the next that are under a condition, by node, and the condition's node.

    Those that are not between two states are done over all steps at once, which no condition makes less work.
    """
    conditions = _conditions(graph)
    if not any(conditions[node.inputs[0]] for node in graph.nodes if node.op == "where"):
        return {}
    thrown_away, zero = _thrown_away(graph, conditions), _zero(graph, conditions)
    waiting, carried = depends(graph, "state"), _reaches_state(graph)
    found: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if node.op in ("matmul", "gemm") and waiting[i] and carried[i]:
            by = {zero[j] for j in node.inputs[::2]}
            condition = by.pop() if len(by) == 1 else None
            condition = thrown_away[i] if condition is None else condition
            if condition is not None:
                found[i] = condition
    return found


def depends(graph: Graph, kind: str) -> list[bool]:
    """Whether a value comes of an input of this kind."""
    found: list[bool] = []
    for node in graph.nodes:
        found.append((node.op == "input" and node.attrs[0] == kind) or any(found[j] for j in node.inputs))
    return found


def _conditions(graph: Graph) -> list[bool]:
    """Whether a value is one number that comes of the step's number alone."""
    return [i in graph.step_values and node.dims == () for i, node in enumerate(graph.nodes)]


def _thrown_away(graph: Graph, conditions: list[bool]) -> list[int | None]:
    """For each value the condition without which it is not used. What only backward reads, it multiplies by zero."""
    users, ends = graph.users(), {output.node for output in graph.outputs if not output.is_saved}
    found: list[int | None] = [None] * len(graph.nodes)

    def through(user: int, i: int) -> int | None:
        node = graph.nodes[user]
        if node.op == "where" and conditions[node.inputs[0]] and node.inputs[1] == i != node.inputs[2]:
            return node.inputs[0]
        return found[user] if node.op in SAFE else None

    for i in reversed(range(len(graph.nodes))):
        by = {through(user, i) for user in users[i]}
        found[i] = by.pop() if len(by) == 1 and i not in ends else None
    return found


def _zero(graph: Graph, conditions: list[bool]) -> list[int | None]:
    """For each value the condition without which it is zero."""
    found: list[int | None] = []
    for node in graph.nodes:
        condition: int | None = None
        if node.op == "where" and conditions[node.inputs[0]] and _is_zero(graph, node.inputs[2]):
            condition = node.inputs[0]
        elif node.op == "mul":
            condition = next((found[j] for j in node.inputs if found[j] is not None), None)
        elif node.op in STILL_ZERO:
            condition = found[node.inputs[0]]
        found.append(condition)
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
