"""A cell as a graph that can be mutated: learned maps, unary and binary functions, constants."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

UNARY = ("sigmoid", "tanh", "relu", "neg")
BINARY = ("add", "sub", "mul")
COMMUTATIVE = ("add", "mul")


@dataclass(frozen=True)
class Node:
    """A value of a step. All have the width `hidden_size` except x, which only maps may read.

    `op` is "x", "state", "const", "map" (a learned affine map of its inputs), or one of UNARY and BINARY.
    """

    op: str
    inputs: tuple[int, ...] = ()
    name: str = ""  # its name in the equations
    value: float = 0.0  # of a constant
    weights: str = ""  # of a map: the name of its weights; maps with the same name share them
    diagonal: tuple[bool, ...] = ()  # of a map: for each input, whether its block is diagonal
    bias: bool = True  # of a map


@dataclass(frozen=True)
class Genome:
    """A step as a graph. `updates` has, for each of `states`, the node of its new value. The first is the output.

    The nodes are in topological order and all of them are live: `canonicalise` makes it so.
    """

    nodes: tuple[Node, ...]
    states: tuple[str, ...]
    updates: tuple[int, ...]

    def users(self, i: int) -> list[tuple[int, int]]:
        """The users of node i, as (node, position among its inputs)."""
        return [(j, k) for j, node in enumerate(self.nodes) for k, one in enumerate(node.inputs) if one == i]

    def ancestors(self, i: int) -> set[int]:
        """Node i and all nodes that it is computed from."""
        found, stack = set[int](), [i]
        while stack:
            if (one := stack.pop()) not in found:
                found.add(one)
                stack.extend(self.nodes[one].inputs)
        return found

    def of(self, *ops: str) -> list[int]:
        """The nodes with one of these operations."""
        return [i for i, node in enumerate(self.nodes) if node.op in ops]

    def maps(self) -> dict[str, Node]:
        """By the names of the weights, in order, the first map that has them."""
        found: dict[str, Node] = {}
        for i in self.of("map"):
            found.setdefault(self.nodes[i].weights, self.nodes[i])
        return found

    @property
    def key(self) -> str:
        """A digest that ignores names and order: genomes with equal keys compute the same function in the same way.

        The converse nearly always holds; genomes that differ only in the order of a map's operands have other keys.
        """
        forms: list[str] = []  # digests of the nodes that ignore which weights their maps share
        for n in self.nodes:
            inputs = [forms[i] for i in n.inputs]
            inputs = sorted(inputs) if n.op in COMMUTATIVE else inputs
            name = n.name if n.op == "state" else ""
            forms.append(_digest((n.op, inputs, name, n.value, n.diagonal, n.bias)))
        order: dict[str, int] = {}
        seen: dict[int, str] = {}

        def spell(i: int) -> str:
            if i not in seen:
                n = self.nodes[i]
                weights = order.setdefault(n.weights, len(order)) if n.op == "map" else -1
                inputs = sorted(n.inputs, key=lambda j: forms[j]) if n.op in COMMUTATIVE else n.inputs
                seen[i] = _digest((forms[i], weights, [spell(j) for j in inputs]))
            return seen[i]

        return _digest((self.states, [spell(end) for end in self.updates]))

    def invalid_reason(self) -> str:
        """Why it is not worth evaluating; "" if it is."""
        if len(self.nodes) > MOST_NODES or len(self.maps()) > MOST_MAPS:
            return "too large"
        if any(len(set(node.inputs)) < len(node.inputs) for node in self.nodes if node.op == "map"):
            return "a map reads a value twice"
        if not self.maps_fit():
            return "a map reads x where it cannot"
        reached = self.live_nodes()
        if not any(self.nodes[i].op == "x" for i in reached):
            return "blind to x"
        if not self.recurrent(reached):
            return "not recurrent"
        return ""

    def maps_fit(self) -> bool:
        """Whether x, whose width differs, is read by full blocks only, and alike by maps that share weights."""
        forms: dict[str, tuple[bool, ...]] = {}
        for node in (self.nodes[i] for i in self.of("map")):
            form = tuple(self.nodes[i].op == "x" for i in node.inputs)
            if any(map(operator.and_, form, node.diagonal)) or forms.setdefault(node.weights, form) != form:
                return False
        return True

    def live_nodes(self) -> set[int]:
        """The nodes that the output depends on, at this step or a later one."""
        found = self.ancestors(self.updates[0])
        while True:
            more = found.union(*(self.ancestors(end) for end in self.live_updates(found)))
            if more == found:
                return found
            found = more

    def recurrent(self, reached: set[int]) -> bool:
        """Whether the new value of a live state depends on a state, other than by being one unchanged."""
        return any(
            self.nodes[end].op != "state" and any(self.nodes[i].op == "state" for i in self.ancestors(end))
            for end in self.live_updates(reached)
        )

    def live_updates(self, nodes: set[int]) -> list[int]:
        """The updates of the states that are among the nodes."""
        read = {self.nodes[i].name for i in nodes if self.nodes[i].op == "state"}
        return [end for name, end in zip(self.states, self.updates, strict=True) if name in read]


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


MOST_NODES, MOST_MAPS = 48, 10


def canonicalise(nodes: dict[int, Node] | Iterable[Node], states: tuple[str, ...], updates: tuple[int, ...]) -> Genome:
    """A genome from numbered nodes in any order: sorted, without duplicates and without dead nodes.

    States that the output does not depend on are removed, except the output itself. Raises ValueError if there is a
    cycle.
    """
    given = nodes if isinstance(nodes, dict) else dict(enumerate(nodes))
    while True:
        made = _Canonicaliser(given)
        new = tuple(made.visit(end) for end in updates)
        found = Genome(tuple(made.nodes), states, new)
        read = {found.nodes[i].name for i in found.live_nodes() if found.nodes[i].op == "state"}
        kept = [n for n, name in enumerate(states) if n == 0 or name in read]
        if len(kept) == len(states):
            return found
        states, updates = tuple(states[n] for n in kept), tuple(updates[n] for n in kept)


class _Canonicaliser:
    """Sorts nodes topologically and merges equal ones."""

    def __init__(self, given: dict[int, Node]):
        self.given, self.nodes = given, list[Node]()
        self.index: dict[int, int] = {}
        self.known: dict[Any, int] = {}
        self.open: set[int] = set()

    def visit(self, i: int) -> int:
        if i in self.index:
            return self.index[i]
        if i in self.open:
            raise ValueError("a value depends on itself")
        self.open.add(i)
        node = self.given[i]
        made = replace(node, inputs=tuple(self.visit(j) for j in node.inputs))
        self.open.discard(i)
        if (other := self.simplified(made)) is not None:
            self.index[i] = other
            return other
        inputs = tuple(sorted(made.inputs)) if made.op in COMMUTATIVE else made.inputs
        identity = replace(made, inputs=inputs, name=made.name if made.op == "state" else "")
        if identity not in self.known:
            self.known[identity] = len(self.nodes)
            self.nodes.append(made)
        self.index[i] = self.known[identity]
        return self.index[i]

    def simplified(self, node: Node) -> int | None:
        """The node that this one equals by --a = a or 1 * a = a, which the compiler simplifies, too; or None."""
        if node.op == "neg" and self.nodes[node.inputs[0]].op == "neg":
            return self.nodes[node.inputs[0]].inputs[0]
        if node.op == "mul":
            for one, other in (node.inputs, node.inputs[::-1]):
                if self.nodes[one].op == "const" and self.nodes[one].value == 1:
                    return other
        return None
