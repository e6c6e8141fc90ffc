"""A genome out of a cell's step, as the compiler traces it: so every cell can be a search's beginning, a user's too."""

from __future__ import annotations

from dataclasses import dataclass

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.compiler.graph import Graph
from conveyor.compiler.graph import Node as Traced
from conveyor.errors import BadInput
from conveyor.search.genome import BINARY, UNARY, Genome, Node, tidy
from conveyor.show import compile

SIZE = 8  # of the cell that is traced; nothing depends on it


def read(kind: type[Cell]) -> Genome:
    """The genome of a cell.

        read(zoo.GRU).maps()                # {"update": ..., "reset": ..., "candidate": ..., "recall": ...}

    What its weights are at the start is no part of it. Raises BadInput for a cell that is made of other things than
    learned maps, sums, differences, products, sigmoid, tanh and relu of values that have all the cell's width.
    """
    try:
        cell = kind(SIZE - 3, SIZE)  # so that x is of another width
        return _Reader(kind, compile(cell).traced).genome()
    except (_Unknown, CannotCompile, TypeError, ValueError) as error:
        raise BadInput(
            f"{kind.__name__} cannot be what a search starts from: {error}; a genome has learned maps, "
            f"{', '.join((*UNARY, *BINARY))} and constants"
        ) from None


class _Unknown(Exception):
    """Something that a genome has not."""


@dataclass(frozen=True)
class _Sum:
    """A learned map that is read in part: some products with its weights, and perhaps its bias."""

    weights: str
    operands: tuple[tuple[str, int, bool], ...] = ()  # of its blocks the name, the node and whether it is diagonal
    bias: bool = False

    def plus(self, other: _Sum) -> _Sum | None:
        """Both, if they are of one map applied once."""
        names = {name for name, *_ in (*self.operands, *other.operands)}
        once = len(names) == len(self.operands) + len(other.operands) and not (self.bias and other.bias)
        if self.weights != other.weights or not once:
            return None
        return _Sum(self.weights, self.operands + other.operands, self.bias or other.bias)


class _Reader:
    def __init__(self, kind: type[Cell], graph: Graph):
        self.kind, self.graph = kind, graph
        self.nodes: list[Node] = []
        self.placed: dict[int, int] = {}  # where a node of the trace is among the genome's
        self.sums: dict[int, _Sum] = {}  # nodes of the trace that are part of a map
        self.turned: dict[str, str] = {}  # of each matrix the operation by which it is read

    def genome(self) -> Genome:
        graph = self.graph
        if self.kind.constant or self.kind.extra or self.kind.below or graph.streams:
            raise _Unknown("it takes or gives more than x and its states")
        for i, node in enumerate(graph.nodes):
            self.read(i, node)
        ends = tuple(self.value(output.node) for output in graph.outputs)
        return tidy(self.nodes, tuple(output.name for output in graph.outputs), ends)

    def read(self, i: int, node: Traced) -> None:
        if node.op == "input" and node.attrs[0] in ("stream", "state"):
            self.add(i, Node("x" if node.attrs[0] == "stream" else "state", name=node.attrs[1]))
        elif node.op == "const":
            self.add(i, Node("const", value=node.attrs[0]))
        elif node.op in ("input", "le") or (node.op == "permute" and not node.rows):
            return  # weights are read where they are used, and conditions
        elif (one := self.rectified(node)) is not None:
            self.add(i, Node("relu", (self.value(one),), node.name))
        elif (part := self.part(node)) is not None:
            self.sums[i] = part
        elif node.op in UNARY + BINARY and node.rows:
            self.add(i, Node(node.op, tuple(self.value(j) for j in node.inputs), node.name))
        else:
            raise _Unknown(f"it has the operation {node.op}")

    def part(self, node: Traced) -> _Sum | None:
        """What the node is of a learned map, if it is of one."""
        if node.op == "matmul":
            value, weight = node.inputs
            return self.product(value, weight, diagonal=False)
        if node.op == "mul":
            for value, weight in (node.inputs, node.inputs[::-1]):
                if self.weight(weight) is not None and self.graph.nodes[value].rows:
                    return self.product(value, weight, diagonal=True)
        if node.op == "add":
            a, b = (self.sums.get(j) or self.bias(j) for j in node.inputs)
            return a.plus(b) if a is not None and b is not None else None
        return None

    def rectified(self, node: Traced) -> int | None:
        """Of which value the node is the relu, if it is: the trace has where(a <= 0, 0, a)."""
        if node.op != "where":
            return None
        nodes, (condition, zero, value) = self.graph.nodes, node.inputs
        known = nodes[condition].op == "le" and nodes[condition].inputs == (value, zero)
        return value if known and nodes[zero].op == "const" and nodes[zero].attrs[0] == 0 else None

    def product(self, value: int, weight: int, diagonal: bool) -> _Sum:
        name = self.weight(weight)
        if name is None:
            raise _Unknown("it multiplies by what is no weight")
        if not diagonal and self.turned.setdefault(name, self.graph.nodes[weight].op) != self.graph.nodes[weight].op:
            raise _Unknown(f"it multiplies by {name} and by its transpose")
        weights, _, block = name.rpartition(".")
        return _Sum(weights or block, ((block, self.value(value), diagonal),))

    def bias(self, i: int) -> _Sum | None:
        name = self.weight(i)
        return None if name is None else _Sum(name.rpartition(".")[0] or name, bias=True)

    def weight(self, i: int) -> str | None:
        """The name of a weight, or of a weight turned round."""
        node = self.graph.nodes[i]
        if node.op == "permute":
            return self.weight(node.inputs[0])
        return node.attrs[1] if node.op == "input" and node.attrs[0] == "weight" else None

    def add(self, i: int, node: Node) -> None:
        if node.op not in ("x", "const") and self.graph.nodes[i].dims != (SIZE,):
            raise _Unknown(f"it has a value of another width than the cell's, {node.name or node.op}")
        self.placed[i] = len(self.nodes)
        self.nodes.append(node)

    def value(self, i: int) -> int:
        """The genome's node of a node of the trace; a map is complete when it is read."""
        if i not in self.placed:
            if i not in self.sums:
                name = self.weight(i)
                raise _Unknown(f"it reads the parameter {name} by itself" if name else "it has a condition")
            found = self.sums[i]
            name = self.graph.nodes[i].name
            inputs = tuple(node for _, node, _ in found.operands)
            diagonal = tuple(diagonal for *_, diagonal in found.operands)
            self.add(i, Node("map", inputs, name, weights=found.weights, diagonal=diagonal, bias=found.bias))
        return self.placed[i]
