"""Structures of several nodes in a graph: composite operations, and learned (affine) maps.

Diagrams, equations, the search and the report read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from conveyor.compiler.graph import Graph, Node

VIEWS_OF_WEIGHTS = ("expand", "reshape", "permute", "stop_gradient")  # their result is still a weight


@dataclass(frozen=True)
class Composite:
    """One call of a PyTorch function such as `softmax`: its nodes (the last is the result), and its inputs."""

    op: str
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]


def composites(graph: Graph, ops: Collection[str]) -> dict[int, Composite]:
    """The calls of these functions, by the node of their result.

    A call is left out if the step reads or names one of its intermediate values elsewhere.
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
    """`weight · value`, one block of a learned map: its two nodes, and whether the block is "full" or "diagonal"."""

    value: int
    weight: int
    block: str


@dataclass(frozen=True)
class LearnedMap:
    """A sum of weighted values and biases, and the nodes that compute it. A weight by itself counts as a bias."""

    nodes: tuple[int, ...]
    terms: tuple[Term, ...]
    biases: tuple[int, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """All its nodes except the last, which is the result."""
        return tuple(i for i in self.nodes if i != max(self.nodes))


def learned_maps(graph: Graph, joins: Callable[[int, int], bool] | None = None) -> dict[int, LearnedMap]:
    """The learned maps of a step, by the node of their result; a map includes the smaller ones that it is a sum of.

    It does not matter whether they are written with `Cell.affine`, `nn.Linear` or `x @ W + b`. `joins(part, whole)`
    decides whether the map at node `part` becomes part of the addition at node `whole`; by default it always does.
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
    """Whether a node is a learned tensor or a view of one. A scalar does not count."""
    node = graph.nodes[i]
    if node.op in VIEWS_OF_WEIGHTS:
        return node.shared and is_weight(graph, node.inputs[0])
    return node.op == "input" and node.attrs[0] == "weight" and bool(node.dims)


def weight_name(graph: Graph, i: int) -> str:
    """The name of the learned tensor behind a weight or a view of it."""
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
