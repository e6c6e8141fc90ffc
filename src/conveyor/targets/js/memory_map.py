"""The memory of a step in JavaScript, and when its values are computed: all decisions that emit.py needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from conveyor.compiler.graph import Graph

ALIASES = ("reshape", "stop_gradient")  # operations that keep the elements and their order
SPACES = ("kept", "rest", "once", "held", "edits")  # one array each


class Parted(Protocol):
    """A step whose parts are to be seen: `owners` says to which part a node belongs."""

    @property
    def graph(self) -> Graph:
        """The graph of the step."""

    @property
    def parts(self) -> Sequence[Any]:
        """Each with its `kind`, its `node`, and the node `total`, or -1."""

    @property
    def owners(self) -> Mapping[int, int]:
        """The part of each node that belongs to one."""


@dataclass(frozen=True)
class Plain:
    """A step of which only the outputs are to be seen."""

    graph: Graph
    parts: tuple[Any, ...] = ()
    owners: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """The memory of a value: from offset `at` on in the array `space`.

    `space`: "kept" (values of a step that a record keeps), "rest" (other values of a step), "once" (values that depend
    only on weights), "held" (weights that are parts, so they can be edited), "edits" (the edits), "weight" (other
    weights, `at` is the index of the weight), "literal" (a constant).
    """

    space: str
    at: int


@dataclass(frozen=True)
class MemoryMap:
    """What a step computes, where, and when. `saved`: further nodes to keep.

    memory = MemoryMap(Circuit.of(graph))
    memory.at[21]                                           # Slot("kept", 512)
    """

    circuit: Parted
    saved: tuple[int, ...] = ()

    @property
    def graph(self) -> Graph:
        """The graph of the step."""
        return self.circuit.graph

    def end(self, name: str) -> int:
        """The node of an output of the step."""
        return next(output.node for output in self.graph.outputs if output.name == name)

    @cached_property
    def weights(self) -> list[str]:
        """The names of the weights of the step, in order."""
        return [node.attrs[1] for node in self.graph.nodes if node.op == "input" and node.attrs[0] == "weight"]

    @cached_property
    def used(self) -> list[int]:
        """The nodes that are computed. A transposed matrix is not: it is read as it is stored."""
        seen: set[int] = set()
        stack = [output.node for output in self.graph.outputs] + [*self.saved]
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack.extend(self.reads(i))
        return sorted(seen)

    def reads(self, i: int) -> tuple[int, ...]:
        """The nodes that a node's computation reads."""
        node = self.graph.nodes[i]
        return (node.inputs[0], self.matrix(i)[0]) if node.op == "matmul" else node.inputs

    def matrix(self, i: int) -> tuple[int, bool]:
        """For a product: the node of its stored matrix, and whether that has a row for each element of the result."""
        of = self.graph.nodes[i].inputs[1]
        node = self.graph.nodes[of]
        return (node.inputs[0], True) if node.op == "permute" else (of, False)

    @cached_property
    def once(self) -> set[int]:
        """The nodes that are computed only when the weights change. Parts are computed at each step, for edits."""
        found: set[int] = set()
        for i in self.used:
            node = self.graph.nodes[i]
            plain = node.op in ("input", "const") or all(j in found for j in self.reads(i))
            if node.shared and i not in self.circuit.owners and plain:
                found.add(i)
        return found

    @cached_property
    def alias(self) -> dict[int, int]:
        """Nodes that share the memory of another node, because their elements are the same."""
        own = {part.node for part in self.circuit.parts}
        ends = {output.node for output in self.graph.outputs}
        found: dict[int, int] = {}
        for i in self.used:
            node = self.graph.nodes[i]
            if i in own or not node.inputs or (i in self.once) != (node.inputs[0] in self.once):
                continue
            of = found.get(node.inputs[0], node.inputs[0])
            same = node.op in ALIASES or (node.op == "expand" and node.size == self.graph.nodes[of].size)
            if same and not (i in ends and of in self.parameters):
                found[i] = of
        return found

    @cached_property
    def parameters(self) -> dict[int, int]:
        """The parts that are weights or constants, by node. A record does not keep them at each step."""
        return {part.node: i for i, part in enumerate(self.circuit.parts) if part.kind == "parameter"}

    @cached_property
    def at(self) -> dict[int, Slot]:
        """The slot of every value that is used."""
        sizes = dict.fromkeys(SPACES, 0)
        found: dict[int, Slot] = {}
        for i in self.used:
            space, node = self._space(i), self.graph.nodes[i]
            if i in self.alias:
                found[i] = found[self.alias[i]]
            elif space in sizes:
                found[i] = Slot(space, sizes[space])
                sizes[space] += node.size
            else:
                found[i] = Slot(space, self.weights.index(node.attrs[1]) if space == "weight" else 0)
        return found

    def size(self, space: str) -> int:
        """The number of elements of an array."""
        return max((p.at + self.graph.nodes[i].size for i, p in self.at.items() if p.space == space), default=0)

    def _space(self, i: int) -> str:
        node = self.graph.nodes[i]
        if i in self.parameters:
            return "held"
        if node.op == "input" and node.attrs[0] == "edit":
            return "edits"
        if i in self._kept or (node.op == "input" and node.attrs[0] != "weight"):
            return "kept"
        if node.op in ("input", "const"):
            return "weight" if node.op == "input" else "literal"
        return "once" if i in self.once else "rest"

    @cached_property
    def _kept(self) -> set[int]:
        parts, outputs = self.circuit.parts, self.graph.outputs
        seen = {node for part in parts for node in (part.node, part.total) if node in set(self.used)}
        wanted = seen | {output.node for output in outputs} | set(self.saved)
        return {self.alias.get(i, i) for i in wanted} - set(self.parameters)


def order(memory: MemoryMap, nodes: Sequence[int]) -> list[int]:
    """The nodes that have to be computed, in order."""
    return [i for i in nodes if i not in memory.alias and memory.at[i].space not in ("weight", "literal")]
