"""The circuit of a step: its layers, its pointwise operations, and the wires between them.

A traced graph has a node for each product and sum. A circuit has fewer and larger parts: a learned layer with its
products, biases and activation is one part, and so is `1 - z`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from conveyor.compiler.composites import LearnedMap, Term, composites, is_weight, learned_maps
from conveyor.compiler.graph import Graph, Node

# The labels of circles. A slice is labelled with its bounds.
LABELS = {
    **{op: op for op in ("floor", "exp", "log", "log1p", "sin", "cos", "erf", "tanh", "expm1", "max")},
    **{op: op for op in ("relu", "softmax")},  # composite operations
    "slice": "[:]",
    "cat": "[ , ]",
    "neg": "−",
    "add": "+",
    "sub": "−",
    "mul": "×",
    "div": "÷",
    "abs": "|·|",
    "sign": "sgn",
    "sigmoid": "σ",
    "sqrt": "√",
    "root": "√",
    "pow": "^",
    "mod": "mod",
    "maximum": "max",
    "minimum": "min",
    "lt": "<",
    "le": "≤",
    "eq": "=",
    "ne": "≠",
    "where": "if",
    "sum": "Σ",
    "contract": "·",
    "matmul": "·",
    "pad": "0…",
}
SQUASHES = ("sigmoid", "tanh", "relu")  # activations that are drawn as part of their layer
WHOLE = ("relu", "softmax")  # composite operations that are drawn as one circle
SEEN_OTHERWISE = ("expand", "reshape", "permute", "stop_gradient")  # views, which are no parts of their own


@dataclass(frozen=True)
class Part:
    """A part of a circuit.

    `kind`: "stream" (x and other inputs of each step), "state" (that of t-1), "constant", "clock" (a value that depends
    only on the step number), "parameter", "layer" (a learned map with its activation), "op" (an operation, drawn as a
    circle). `node` is the traced node of its value, `nodes` are all nodes that it comprises. `label` is drawn on it;
    `name` is the variable name of its value in the step.
    """

    kind: str
    node: int
    nodes: tuple[int, ...]
    label: str
    name: str = ""
    op: str = ""  # the activation of a layer, if any; the operation of a circle
    terms: tuple[Term, ...] = ()  # for a layer
    biases: tuple[int, ...] = ()
    total: int = -1  # for a layer, the traced node of its sum before the activation
    operands: tuple[int, ...] = ()  # for a circle, the traced nodes of its operands in order, including constants


@dataclass(frozen=True)
class Wire:
    """An edge: the part `target` reads the value of the part `source`. Both are indices into `Circuit.parts`."""

    source: int
    target: int
    block: str = ""  # "full" or "diagonal" if the target is a layer


@dataclass(frozen=True)
class End:
    """An output of the step: a "state" for the next step, or a "stream". `part`: the index of its part."""

    kind: str
    name: str
    part: int


@dataclass(frozen=True)
class Circuit:
    """The parts of a step in topological order, with the wires between them.

    circuit = Circuit.of(conveyor.compile(conveyor.zoo.LSTM(32, 128)).traced)
    [part.name for part in circuit.parts if part.kind == "layer"]               # ["f", "i", "C_tilde", "o"]
    """

    graph: Graph
    parts: tuple[Part, ...]
    wires: tuple[Wire, ...]
    ends: tuple[End, ...]

    @classmethod
    def of(cls, graph: Graph) -> Circuit:
        """The circuit of a traced step."""
        return _Reader(graph).circuit()

    @cached_property
    def owners(self) -> dict[int, int]:
        """For each traced node that belongs to a part, the index of the part."""
        return {node: i for i, part in enumerate(self.parts) for node in part.nodes}

    @cached_property
    def named(self) -> dict[str, int]:
        """The parts of named values that the step computes. For a state, this is the new value."""
        return {part.name: i for i, part in enumerate(self.parts) if part.name and part.kind in ("layer", "op")}

    def sources(self, part: int) -> list[int]:
        """The parts that a part reads."""
        return [wire.source for wire in self.wires if wire.target == part]

    def targets(self, part: int) -> list[int]:
        """The parts that read a part."""
        return [wire.target for wire in self.wires if wire.source == part]


class _Reader:
    def __init__(self, graph: Graph):
        self.graph, self.nodes = graph, graph.nodes
        self.users = graph.users()
        self.given = {output.node for output in graph.outputs}
        self.parts: list[Part] = []
        self.owner: dict[int, int] = {}
        self.whole = composites(graph, WHOLE)
        self.maps = learned_maps(graph, self.joins)
        # The inner nodes of composites and maps, which are read at their last node.
        self.inside = {i for one in self.whole.values() for i in one.nodes[:-1]}
        self.inside |= {i for one in self.maps.values() for i in one.inner}

    def circuit(self) -> Circuit:
        for i, node in enumerate(self.nodes):
            if i not in self.inside:
                self.read(i, node)
        ends = tuple(End(o.kind, o.name, self.part(o.node)) for o in self.graph.outputs)
        return Circuit(self.graph, tuple(self.parts), self.wires(), ends)

    def read(self, i: int, node: Node) -> None:
        if node.op == "input" and node.attrs[0] in ("stream", "state", "constant"):
            self.add(Part(node.attrs[0], i, (i,), node.attrs[1], node.attrs[1]))
        elif node.op in ("input", "const") or not node.rows or self.is_layer(i):
            return  # these become parts where they are used
        elif node.op in SEEN_OTHERWISE:
            self.alias(i, node)
        elif self.is_squash(i):
            of = self.operands(i)[0]
            self.layer(self.maps[of], i, (*self.maps[of].nodes, *self.made_by(i)), self.op(i), of)
        else:
            self.circle(i, node)

    def add(self, part: Part) -> int:
        self.parts.append(part)
        for node in part.nodes:
            self.owner.setdefault(node, len(self.parts) - 1)
        return len(self.parts) - 1

    def alias(self, i: int, node: Node) -> None:
        """A view belongs to the part whose value it shows."""
        at = self.part(node.inputs[0])
        old = self.parts[at]
        self.parts[at] = replace(old, nodes=(*old.nodes, i), name=old.name or node.name)
        self.owner[i] = at

    def joins(self, part: int, whole: int) -> bool:
        """Whether a learned map becomes part of a larger one: if nothing else reads it, and it has no name."""
        same = self.nodes[part].op != "mul" or self.nodes[part].dims == self.nodes[whole].dims
        return is_weight(self.graph, part) or (self.is_read_once(part) and same)

    def is_read_once(self, i: int, by: int = 1) -> bool:
        return len(self.users[i]) == by and not self.nodes[i].name and i not in self.given

    def is_layer(self, i: int) -> bool:
        """Whether it is the sum of a layer. A single product with a vector of weights is a circle."""
        return i in self.maps and (len(self.maps[i].nodes) > 1 or self.nodes[i].op == "matmul")

    def op(self, i: int) -> str:
        return self.whole[i].op if i in self.whole else self.nodes[i].op

    def operands(self, i: int) -> tuple[int, ...]:
        return self.whole[i].inputs if i in self.whole else self.nodes[i].inputs

    def made_by(self, i: int) -> tuple[int, ...]:
        return self.whole[i].nodes if i in self.whole else (i,)

    def is_squash(self, i: int) -> bool:
        """Whether it is the activation of a layer: the only reader of its sum."""
        if self.op(i) not in SQUASHES:
            return False
        (of,) = self.operands(i)
        within = set(self.users[of]) <= set(self.made_by(i))
        return self.is_layer(of) and within and self.is_read_once(of, len(self.users[of]))

    def layer(self, found: LearnedMap, node: int, nodes: tuple[int, ...], op: str, total: int) -> int:
        for term in found.terms:
            self.part(term.value)
        name = self.nodes[node].name
        label = LABELS[op] if op else ""
        return self.add(Part("layer", node, nodes, label, name, op, found.terms, found.biases, total))

    def circle(self, i: int, node: Node) -> None:
        op, operands = self.op(i), self.operands(i)
        for j in operands:
            if self.nodes[j].op != "const":
                self.part(j)
        self.add(Part("op", i, self.made_by(i), self.label(op, node, operands), node.name, op, operands=operands))

    def label(self, op: str, node: Node, operands: tuple[int, ...]) -> str:
        sign = LABELS[op]
        if op == "slice":
            dim, start, step = node.attrs
            return f"{start}:{start + step * node.dims[dim]}" + (f":{step}" if step != 1 else "")
        texts = [number(self.nodes[j].attrs[0]) if self.nodes[j].op == "const" else "" for j in operands]
        return sign.join(texts) if len(texts) == 2 and any(texts) else sign

    def part(self, i: int) -> int:
        """The index of the part of a node; parts that are created on first use are created now."""
        if i in self.owner and not self.is_inside_a_clock(i):
            return self.owner[i]
        node = self.nodes[i]
        if self.is_layer(i):
            return self.layer(self.maps[i], i, self.maps[i].nodes, "", i)
        if i in self.graph.step_values:
            return self.clock(i)
        if node.op == "input":
            return self.add(Part("parameter", i, (i,), node.attrs[1], node.attrs[1]))
        if node.op in SEEN_OTHERWISE:
            self.part(node.inputs[0])
            self.alias(i, node)
        elif node.op == "const":
            self.add(Part("parameter", i, (i,), number(node.attrs[0])))
        else:
            self.circle(i, node)
        return self.owner[i]

    def is_inside_a_clock(self, i: int) -> bool:
        """Whether a node is an inner node of a clock, not its value."""
        part = self.parts[self.owner[i]]
        return part.kind == "clock" and part.node != i

    def clock(self, i: int) -> int:
        """Adds the clock of a value; nodes that belong to other clocks stay with them."""
        nodes, stack = {i}, [i]
        while stack:
            for j in self.nodes[stack.pop()].inputs:
                if j not in nodes:
                    nodes.add(j)
                    stack.append(j)
        if i in self.owner:
            old = self.parts[self.owner[i]]
            self.parts[self.owner.pop(i)] = replace(old, nodes=tuple(j for j in old.nodes if j != i))
        timely = tuple(sorted(j for j in nodes if self.nodes[j].time and j not in self.owner))
        return self.add(Part("clock", i, timely, self.clock_text(i), self.nodes[i].name))

    def clock_text(self, i: int, within: bool = False) -> str:
        """A clock as an expression of t, in parentheses if it is an operand (`within`) and a binary operation."""
        node = self.nodes[i]
        if node.op in ("input", "const"):
            return "t" if node.op == "input" else number(node.attrs[0])
        if node.op in SEEN_OTHERWISE:
            return self.clock_text(node.inputs[0], within)
        sign = LABELS[node.op]
        if len(node.inputs) != 2:
            return f"{sign}({', '.join(map(self.clock_text, node.inputs))})"
        compares = node.op in ("lt", "le", "eq", "ne")
        text = f" {sign} ".join(self.clock_text(j, not compares) for j in node.inputs)
        return f"({text})" if within else text

    def wires(self) -> tuple[Wire, ...]:
        found: dict[tuple[int, int], str] = {}
        for at, part in enumerate(self.parts):
            for value, block in self.reads(part):
                key = self.owner[value], at
                found[key] = "full" if "full" in (block, found.get(key)) else block
        return tuple(Wire(*ends, block) for ends, block in found.items())

    def reads(self, part: Part) -> Iterable[tuple[int, str]]:
        for term in part.terms:
            yield term.value, term.block
        for j in part.operands:
            if self.nodes[j].op != "const":
                yield j, ""


def number(value: float) -> str:
    """A number as it is written in a formula."""
    text = f"{value:.6g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.10f}".rstrip("0")
    return (text if float(text) else f"{value:.6g}").replace("-", "−")
