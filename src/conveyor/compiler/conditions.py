"""Matrix products that only some steps use, depending on the step number.

    h = where(t % 4 == 0, tanh(W · h + b), h)      # in three steps of four, W · h is not used

A condition is a value that depends only on the step number. A product is conditional if its result is discarded
whenever the condition is 0, or if one of its operands is 0 then, as the gradient of a discarded value is. The kernel
then uses 0 for the product without computing it. (So where the loop's gradient is 0 times infinity, which is NaN, the
kernel's may be 0.) Only where(condition, new, old) is recognised, not where(condition, old, new) or condition * new.
"""

from __future__ import annotations

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS

# The operations that may stand between a product and the `where` that discards it. They map finite values to finite
# values with finite derivatives, so with 0 for the product, the backward pass multiplies only finite values by 0.
SAFE = {name for name, op in OPS.items() if op.is_finite}
STILL_ZERO = {name for name, op in OPS.items() if op.keeps_zero}  # they map 0 to 0, as any product does


def conditions_of(graph: Graph) -> dict[int, int]:
    """The conditional products on a path from state to state: the node of the condition for the node of each product.

    All other products run over all steps at once, so a condition would save nothing.
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
    """For each node, whether it depends on an input of this kind."""
    found: list[bool] = []
    for node in graph.nodes:
        found.append((node.op == "input" and node.attrs[0] == kind) or any(found[j] for j in node.inputs))
    return found


def _conditions(graph: Graph) -> list[bool]:
    """For each node, whether it is a scalar that depends only on the step number."""
    return [i in graph.step_values and node.dims == () for i, node in enumerate(graph.nodes)]


def _thrown_away(graph: Graph, conditions: list[bool]) -> list[int | None]:
    """For each node, the condition under which it is used, if there is one.

    The backward pass multiplies values that only it reads by zero, so those uses do not count.
    """
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
    """For each node, the condition outside which it is zero, if there is one."""
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
