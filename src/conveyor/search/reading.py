"""Reads a genome from the traced step of a cell, so that a search can start from any cell, including the user's own."""

from __future__ import annotations

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.compiler.composites import composites, is_weight, learned_maps, weight_name
from conveyor.compiler.graph import Graph
from conveyor.compiler.graph import Node as Traced
from conveyor.errors import BadInput
from conveyor.layer.compilation import compile
from conveyor.search.genome import BINARY, UNARY, Genome, Node, canonicalise

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


class _Reader:
    def __init__(self, kind: type[Cell], graph: Graph):
        self.kind, self.graph = kind, graph
        self.nodes: list[Node] = []
        self.index: dict[int, int] = {}  # from nodes of the trace to nodes of the genome
        self.whole = composites(graph, ("relu",))
        self.maps = {i: one for i, one in learned_maps(graph, self.joins).items() if one.terms}
        self.inside = {i for one in self.whole.values() for i in one.nodes[:-1]}
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
        op, inputs = (self.whole[i].op, self.whole[i].inputs) if i in self.whole else (node.op, node.inputs)
        if op == "input" and node.attrs[0] in ("stream", "state"):
            self.add(i, Node("x" if node.attrs[0] == "stream" else "state", name=node.attrs[1]))
        elif op == "const":
            self.add(i, Node("const", value=node.attrs[0]))
        elif op == "input" or (op == "permute" and not node.rows) or i in self.inside or i in self.maps:
            return  # these are read where they are used
        elif op in UNARY + BINARY and node.rows:
            self.add(i, Node(op, tuple(self.value(j) for j in inputs), node.name))
        else:
            raise _Unsupported(f"it uses the operation {op}")

    def joins(self, part: int, whole: int) -> bool:
        """Whether both are computed in one module, which is not the cell: so a sum of two maps is not a map."""
        module, weight = _module(self.graph.nodes[whole]), is_weight(self.graph, part)
        return module != "" and module == (_owner(self.name(part)) if weight else _module(self.graph.nodes[part]))

    def name(self, weight: int) -> str:
        return weight_name(self.graph, weight)

    def map(self, i: int) -> Node:
        """The genome's node of a learned map; its weights are named by the module that has them."""
        one = self.maps[i]
        names = [self.name(term.weight) for term in one.terms]
        if len({_owner(name) for name in names}) > 1 or len(set(names)) < len(names) or len(one.biases) > 1:
            raise _Unsupported(f"it has the module {_module(self.graph.nodes[i])}, which is not a single map")
        for term, name in zip(one.terms, names, strict=True):
            op = self.graph.nodes[term.weight].op
            if term.block == "full" and self.orientation.setdefault(name, op) != op:
                raise _Unsupported(f"it multiplies both by {name} and by its transpose")
        inputs = tuple(self.value(term.value) for term in one.terms)
        diagonal = tuple(term.block == "diagonal" for term in one.terms)
        weights = _owner(names[0]) or names[0]
        return Node("map", inputs, self.graph.nodes[i].name, weights=weights, diagonal=diagonal, bias=bool(one.biases))

    def add(self, i: int, node: Node) -> None:
        if node.op not in ("x", "const") and self.graph.nodes[i].dims != (SIZE,):
            raise _Unsupported(f"the width of its value {node.name or node.op} is not hidden_size")
        self.index[i] = len(self.nodes)
        self.nodes.append(node)

    def value(self, i: int) -> int:
        """The genome's node of a node of the trace; a map is added when it is first read."""
        if i in self.maps and i not in self.index:
            self.add(i, self.map(i))
        if i not in self.index:
            raise _Unsupported(f"it uses {self.name(i)} outside a map")
        return self.index[i]


def _owner(name: str) -> str:
    """The module that has a weight of this name, "" for the cell itself."""
    return name.rpartition(".")[0]


def _module(node: Traced) -> str:
    return node.origin.module if node.origin is not None else ""
