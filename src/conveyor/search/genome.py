"""A cell as a graph that can be changed: learned maps, functions of one value and of two, constants."""

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
    """A value of a step. All have the cell's width but x, which only maps may read.

    `op`: "x", "state", "const", "map" (a learned map of its inputs), or one of UNARY and BINARY.
    """

    op: str
    inputs: tuple[int, ...] = ()
    name: str = ""  # what the equations call it
    value: float = 0.0  # of a constant
    weights: str = ""  # of a map, which weights; maps with the same name share them
    diagonal: tuple[bool, ...] = ()  # of a map, which of its blocks
    bias: bool = True  # of a map


@dataclass(frozen=True)
class Genome:
    """`ends`: by the states' names, in their order, the node that each becomes. The first state is the output.

    Each node comes after its inputs, and every node is needed: `tidy` sees to it.
    """

    nodes: tuple[Node, ...]
    states: tuple[str, ...]
    ends: tuple[int, ...]

    def users(self, i: int) -> list[tuple[int, int]]:
        """The (node, place) where node i is read."""
        return [(j, k) for j, node in enumerate(self.nodes) for k, one in enumerate(node.inputs) if one == i]

    def ancestors(self, i: int) -> set[int]:
        """Node i and all that it is computed from."""
        found, stack = set[int](), [i]
        while stack:
            if (one := stack.pop()) not in found:
                found.add(one)
                stack.extend(self.nodes[one].inputs)
        return found

    def of(self, *ops: str) -> list[int]:
        """The nodes of these operations."""
        return [i for i, node in enumerate(self.nodes) if node.op in ops]

    def maps(self) -> dict[str, Node]:
        """A node of each set of weights, in their order."""
        found: dict[str, Node] = {}
        for i in self.of("map"):
            found.setdefault(self.nodes[i].weights, self.nodes[i])
        return found

    @property
    def key(self) -> str:
        """Equal only for genomes that compute the same in the same way, whatever the order and what things are called.

        Nearly always equal for such: what differs by the order of a map's operands alone has another key.
        """
        forms: list[str] = []  # of each node, all but which weights its maps have
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

        return _digest((self.states, [spell(end) for end in self.ends]))

    def why_not(self) -> str:
        """Why it is no cell to be tried: "" if it is one."""
        if len(self.nodes) > MOST_NODES or len(self.maps()) > MOST_MAPS:
            return "too large"
        if any(len(set(node.inputs)) < len(node.inputs) for node in self.nodes if node.op == "map"):
            return "a map reads a value twice"
        if not self.maps_fit():
            return "a map reads x where it cannot"
        reached = self.remembered()
        if not any(self.nodes[i].op == "x" for i in reached):
            return "blind to x"
        if not self.recurrent(reached):
            return "not recurrent"
        return ""

    def maps_fit(self) -> bool:
        """Whether x, which is of another width, is read by full blocks only, and alike by all that share weights."""
        forms: dict[str, tuple[bool, ...]] = {}
        for node in (self.nodes[i] for i in self.of("map")):
            form = tuple(self.nodes[i].op == "x" for i in node.inputs)
            if any(map(operator.and_, form, node.diagonal)) or forms.setdefault(node.weights, form) != form:
                return False
        return True

    def remembered(self) -> set[int]:
        """The nodes that the output depends on, at whatever step."""
        found = self.ancestors(self.ends[0])
        while True:
            more = found.union(*(self.ancestors(end) for end in self.read_ends(found)))
            if more == found:
                return found
            found = more

    def recurrent(self, reached: set[int]) -> bool:
        """Whether a state that counts depends on a state, other than by being one unchanged."""
        return any(
            self.nodes[end].op != "state" and any(self.nodes[i].op == "state" for i in self.ancestors(end))
            for end in self.read_ends(reached)
        )

    def read_ends(self, nodes: set[int]) -> list[int]:
        """What the states become that are among the nodes."""
        read = {self.nodes[i].name for i in nodes if self.nodes[i].op == "state"}
        return [end for name, end in zip(self.states, self.ends, strict=True) if name in read]


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


MOST_NODES, MOST_MAPS = 48, 10


def tidy(nodes: dict[int, Node] | Iterable[Node], states: tuple[str, ...], ends: tuple[int, ...]) -> Genome:
    """The genome of nodes by number, in any order and with any that are not needed; equal ones become one.

    States that the output does not depend on are left out, but for the output. Raises ValueError where a value would
    need itself.
    """
    given = nodes if isinstance(nodes, dict) else dict(enumerate(nodes))
    while True:
        made = _Tidy(given)
        new = tuple(made.place(end) for end in ends)
        found = Genome(tuple(made.nodes), states, new)
        read = {found.nodes[i].name for i in found.remembered() if found.nodes[i].op == "state"}
        kept = [n for n, name in enumerate(states) if n == 0 or name in read]
        if len(kept) == len(states):
            return found
        states, ends = tuple(states[n] for n in kept), tuple(ends[n] for n in kept)


class _Tidy:
    """Nodes put in order, each after its inputs."""

    def __init__(self, given: dict[int, Node]):
        self.given, self.nodes = given, list[Node]()
        self.placed: dict[int, int] = {}
        self.known: dict[Any, int] = {}
        self.open: set[int] = set()

    def place(self, i: int) -> int:
        if i in self.placed:
            return self.placed[i]
        if i in self.open:
            raise ValueError("a value would need itself")
        self.open.add(i)
        node = self.given[i]
        made = replace(node, inputs=tuple(self.place(j) for j in node.inputs))
        self.open.discard(i)
        if (plain := self.plain(made)) is not None:
            self.placed[i] = plain
            return plain
        inputs = tuple(sorted(made.inputs)) if made.op in COMMUTATIVE else made.inputs
        identity = replace(made, inputs=inputs, name=made.name if made.op == "state" else "")
        if identity not in self.known:
            self.known[identity] = len(self.nodes)
            self.nodes.append(made)
        self.placed[i] = self.known[identity]
        return self.placed[i]

    def plain(self, node: Node) -> int | None:
        """What the node is without any work, if so, as the compiler sees it, too: --a and 1 * a."""
        if node.op == "neg" and self.nodes[node.inputs[0]].op == "neg":
            return self.nodes[node.inputs[0]].inputs[0]
        if node.op == "mul":
            for one, other in (node.inputs, node.inputs[::-1]):
                if self.nodes[one].op == "const" and self.nodes[one].value == 1:
                    return other
        return None
