"""What a graph has that is larger than a node: composite operations, and the learned maps of a step.

Whoever shows or changes a step reads these: the picture, the equations, the search, the report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from conveyor.compiler.graph import Graph, Node

VIEWS_OF_WEIGHTS = ("expand", "reshape", "permute", "stop_gradient")  # the same elements, which are learned as before


@dataclass(frozen=True)
class Composite:
    """One call of a PyTorch function such as `softmax`: its nodes, the last of which is its value, and its inputs."""

    op: str
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]


def composites(graph: Graph, ops: Collection[str]) -> dict[int, Composite]:
    """The calls of these functions, by the node of their value.

    Left out is a call of which another part of the step reads or names an intermediate value: it is not seen as one.
    """
    users, ends = graph.users(), {output.node for output in graph.outputs}
    calls: dict[int, list[int]] = defaultdict(list)
    for i, node in enumerate(graph.nodes):
        if node.origin is not None and node.origin.op in ops and node.origin.call >= 0:
            calls[node.origin.call].append(i)
    found = {}
    for nodes in calls.values():
        origin, inner = graph.nodes[nodes[-1]].origin, nodes[:-1]
        closed = all(not graph.nodes[i].name and i not in ends and set(users[i]) <= set(nodes) for i in inner)
        if origin is not None and closed:
            found[nodes[-1]] = Composite(origin.op, tuple(nodes), origin.inputs)
    return found


@dataclass(frozen=True)
class Term:
    """`weight · value`, one block of a learned map: the nodes of both, and "full" or "diagonal"."""

    value: int
    weight: int
    block: str


@dataclass(frozen=True)
class LearnedMap:
    """A sum of products with weights and of biases, and the nodes that compute it. A weight alone is a bias."""

    nodes: tuple[int, ...]
    terms: tuple[Term, ...]
    biases: tuple[int, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """Its nodes but for the last, which has its value."""
        return tuple(i for i in self.nodes if i != max(self.nodes))


def learned_maps(graph: Graph, joins: Callable[[int, int], bool] | None = None) -> dict[int, LearnedMap]:
    """The learned maps of a step by the node of their value, each with all smaller ones that are part of it.

    It makes no difference how they are written: by `Cell.affine`, `nn.Linear`, or as `x @ W + b`. `joins(part, whole)`
    says whether the map at node `part`, which the addition `whole` reads, goes on in the sum: by default always.
    """
    found: dict[int, LearnedMap] = {}
    for i, node in enumerate(graph.nodes):
        if is_weight(graph, i):
            found[i] = LearnedMap((), (), (i,))
        elif (term := _term(graph, node)) is not None:
            found[i] = LearnedMap((i,), (term,), ())
        elif node.op == "add" and node.rows and all(j in found and (joins is None or joins(j, i)) for j in node.inputs):
            a, b = (found[j] for j in node.inputs)
            found[i] = LearnedMap((*a.nodes, *b.nodes, i), (*a.terms, *b.terms), (*a.biases, *b.biases))
    return found


def is_weight(graph: Graph, i: int) -> bool:
    """Whether it is a learned tensor, or a view of one; a single number is none."""
    node = graph.nodes[i]
    if node.op in VIEWS_OF_WEIGHTS:
        return node.shared and is_weight(graph, node.inputs[0])
    return node.op == "input" and node.attrs[0] == "weight" and bool(node.dims)


def weight_name(graph: Graph, i: int) -> str:
    """The name of the tensor that a weight is, or is a view of."""
    node = graph.nodes[i]
    return node.attrs[1] if node.op == "input" else weight_name(graph, node.inputs[0])


def _term(graph: Graph, node: Node) -> Term | None:
    if node.op == "matmul" and graph.nodes[node.inputs[1]].shared:
        value, weight = node.inputs
        return Term(value, weight, "full")
    if node.op == "mul":
        for value, weight in (node.inputs, node.inputs[::-1]):
            if is_weight(graph, weight) and graph.nodes[value].rows:
                return Term(value, weight, "diagonal")
    return None
