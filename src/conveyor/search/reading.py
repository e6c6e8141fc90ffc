"""Reads a genome from the traced step of a cell, so that a search can start from any cell, including the user's own."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.compiler.graph import Graph
from conveyor.compiler.graph import Node as Traced
from conveyor.errors import BadInput
from conveyor.search.genome import BINARY, UNARY, Genome, Node, canonicalise
from conveyor.show import compile

SIZE = 8  # hidden size of the cell that is traced; any would do


def read(kind: type[Cell]) -> Genome:
    """The genome of a cell.

        read(zoo.GRU).maps()                # {"update": ..., "reset": ..., "candidate": ..., "recall": ...}

    Initial weights are not part of it. Raises BadInput unless the step consists of learned maps, sums, differences,
    products, sigmoid, tanh and relu, and all its values but x have width `hidden_size`.
    """
    try:
        cell = kind(SIZE - 3, SIZE)  # so that x has another width
        return _Reader(kind, compile(cell).traced).genome()
    except (_Unsupported, CannotCompile, TypeError, ValueError) as error:
        raise BadInput(
            f"a search cannot start from {kind.__name__}: {error}; a genome may contain learned maps, "
            f"{', '.join((*UNARY, *BINARY))} and constants"
        ) from None


class _Unsupported(Exception):
    """Something that a genome cannot express."""


@dataclass(frozen=True)
class _PartialMap:
    """Part of a learned map: products with some of its weight blocks, and perhaps its bias."""

    weights: str
    operands: tuple[tuple[str, int, bool], ...] = ()  # for each block its name, its node, and whether it is diagonal
    bias: bool = False

    def plus(self, other: _PartialMap) -> _PartialMap | None:
        """The sum of both, if they belong to the same application of one map; else None."""
        names = {name for name, *_ in (*self.operands, *other.operands)}
        once = len(names) == len(self.operands) + len(other.operands) and not (self.bias and other.bias)
        if self.weights != other.weights or not once:
            return None
        return _PartialMap(self.weights, self.operands + other.operands, self.bias or other.bias)


class _Reader:
    def __init__(self, kind: type[Cell], graph: Graph):
        self.kind, self.graph = kind, graph
        self.nodes: list[Node] = []
        self.index: dict[int, int] = {}  # from nodes of the trace to nodes of the genome
        self.partial: dict[int, _PartialMap] = {}  # nodes of the trace that are part of a map
        self.orientation: dict[str, str] = {}  # for each matrix the operation that reads it: as it is or transposed

    def genome(self) -> Genome:
        graph = self.graph
        if self.kind.constant or self.kind.extra or self.kind.below or graph.streams:
            raise _Unsupported("it has inputs or outputs besides x and its states")
        for i, node in enumerate(graph.nodes):
            self.read(i, node)
        updates = tuple(self.value(output.node) for output in graph.outputs)
        return canonicalise(self.nodes, tuple(output.name for output in graph.outputs), updates)

    def read(self, i: int, node: Traced) -> None:
        if node.op == "input" and node.attrs[0] in ("stream", "state"):
            self.add(i, Node("x" if node.attrs[0] == "stream" else "state", name=node.attrs[1]))
        elif node.op == "const":
            self.add(i, Node("const", value=node.attrs[0]))
        elif node.op in ("input", "le") or (node.op == "permute" and not node.rows):
            return  # weights and conditions are handled where they are used
        elif (one := self.relu_input(node)) is not None:
            self.add(i, Node("relu", (self.value(one),), node.name))
        elif (part := self.part(node)) is not None:
            self.partial[i] = part
        elif node.op in UNARY + BINARY and node.rows:
            self.add(i, Node(node.op, tuple(self.value(j) for j in node.inputs), node.name))
        else:
            raise _Unsupported(f"it uses the operation {node.op}")

    def part(self, node: Traced) -> _PartialMap | None:
        """The part of a learned map that the node computes, or None."""
        if node.op == "matmul":
            value, weight = node.inputs
            return self.product(value, weight, diagonal=False)
        if node.op == "mul":
            for value, weight in (node.inputs, node.inputs[::-1]):
                if self.weight(weight) is not None and self.graph.nodes[value].rows:
                    return self.product(value, weight, diagonal=True)
        if node.op == "add":
            a, b = (self.partial.get(j) or self.bias(j) for j in node.inputs)
            return a.plus(b) if a is not None and b is not None else None
        return None

    def relu_input(self, node: Traced) -> int | None:
        """The node a, if this node is relu(a), which is traced as where(a <= 0, 0, a); or None."""
        if node.op != "where":
            return None
        nodes, (condition, zero, value) = self.graph.nodes, node.inputs
        known = nodes[condition].op == "le" and nodes[condition].inputs == (value, zero)
        return value if known and nodes[zero].op == "const" and nodes[zero].attrs[0] == 0 else None

    def product(self, value: int, weight: int, diagonal: bool) -> _PartialMap:
        name = self.weight(weight)
        if name is None:
            raise _Unsupported("it multiplies by a matrix that is not a weight")
        if (
            not diagonal
            and self.orientation.setdefault(name, self.graph.nodes[weight].op) != self.graph.nodes[weight].op
        ):
            raise _Unsupported(f"it multiplies both by {name} and by its transpose")
        weights, _, block = name.rpartition(".")
        return _PartialMap(weights or block, ((block, self.value(value), diagonal),))

    def bias(self, i: int) -> _PartialMap | None:
        name = self.weight(i)
        return None if name is None else _PartialMap(name.rpartition(".")[0] or name, bias=True)

    def weight(self, i: int) -> str | None:
        """The name of a weight or of a transposed weight; None for other nodes."""
        node = self.graph.nodes[i]
        if node.op == "permute":
            return self.weight(node.inputs[0])
        return node.attrs[1] if node.op == "input" and node.attrs[0] == "weight" else None

    def add(self, i: int, node: Node) -> None:
        if node.op not in ("x", "const") and self.graph.nodes[i].dims != (SIZE,):
            raise _Unsupported(f"the width of its value {node.name or node.op} is not hidden_size")
        self.index[i] = len(self.nodes)
        self.nodes.append(node)

    def value(self, i: int) -> int:
        """The genome's node for a node of the trace. A map is complete when its result is first read."""
        if i not in self.index:
            if i not in self.partial:
                name = self.weight(i)
                raise _Unsupported(f"it uses the parameter {name} outside a map" if name else "it has a condition")
            found = self.partial[i]
            name = self.graph.nodes[i].name
            inputs = tuple(node for _, node, _ in found.operands)
            diagonal = tuple(diagonal for *_, diagonal in found.operands)
            self.add(i, Node("map", inputs, name, weights=found.weights, diagonal=diagonal, bias=found.bias))
        return self.index[i]
