"""What there is to see of a step: its layers, its pointwise operations, and the lines between them.

A traced graph has an operation for each product and sum. A person sees fewer and larger things: a learned layer, with
all its products, its bias and its squashing, is one box; `1 - z` is one circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from conveyor.compiler.graph import Graph, Node

# How a circle is labelled; `{}` stands for a number that is part of the operation.
LABELS = {
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
SQUASHES = ("sigmoid", "tanh")  # and relu, which a trace has as a choice
SEEN_OTHERWISE = ("expand", "reshape", "permute", "stop")  # the same numbers


@dataclass(frozen=True)
class Term:
    """`weight · value`, one block of a layer: the traced nodes of both, and "full" or "diagonal"."""

    value: int
    weight: int
    block: str


@dataclass(frozen=True)
class Part:
    """Something that is drawn: what it is, what is written on it, and which traced nodes it stands for.

    `kind`: "stream" (x, and whatever else comes at each step), "state" (that of t-1), "constant", "clock" (what is made
    of the step's number alone), "parameter", "layer" (a learned map, and the squashing of its sum), "op" (a circle).
    `node` is the traced node of its value, `nodes` are all that make it. `name` is what the step calls the value.
    """

    kind: str
    node: int
    nodes: tuple[int, ...]
    label: str
    name: str = ""
    op: str = ""  # of a layer its squashing, if it has one; of a circle its operation
    terms: tuple[Term, ...] = ()  # of a layer
    biases: tuple[int, ...] = ()
    total: int = -1  # of a layer the traced node of its sum, before it is squashed
    operands: tuple[int, ...] = ()  # of a circle, in order: traced nodes, numbers among them


@dataclass(frozen=True)
class Wire:
    """A line: the value of the part `source` goes to the part `target`. Both count within `Circuit.parts`."""

    source: int
    target: int
    block: str = ""  # to a layer "full" or "diagonal", otherwise nothing


@dataclass(frozen=True)
class End:
    """A value that the step gives: "state" to the next step, "stream" to the outside. `part` has it."""

    kind: str
    name: str
    part: int


@dataclass(frozen=True)
class Circuit:
    """The parts of a step in an order in which each comes after those that it reads.

    circuit = Circuit.of(conveyor.compile(conveyor.zoo.LSTM(32, 128)).traced)
    [part.name for part in circuit.parts if part.kind == "layer"]               # ["f", "i", "C_tilde", "o"]
    """

    graph: Graph
    parts: tuple[Part, ...]
    wires: tuple[Wire, ...]
    ends: tuple[End, ...]

    @classmethod
    def of(cls, graph: Graph) -> Circuit:
        return _Reader(graph).circuit()

    @cached_property
    def owners(self) -> dict[int, int]:
        """For each traced node that is seen, the part that it belongs to."""
        return {node: i for i, part in enumerate(self.parts) for node in part.nodes}

    @cached_property
    def named(self) -> dict[str, int]:
        """The parts of the values that the step computes and names. A state is here as it becomes, not as it was."""
        return {part.name: i for i, part in enumerate(self.parts) if part.name and part.kind in ("layer", "op")}

    def sources(self, part: int) -> list[int]:
        return [wire.source for wire in self.wires if wire.target == part]

    def targets(self, part: int) -> list[int]:
        return [wire.target for wire in self.wires if wire.source == part]


@dataclass(frozen=True)
class _Sum:
    """A learned map as far as it has been read."""

    nodes: tuple[int, ...]
    terms: tuple[Term, ...]
    biases: tuple[int, ...]

    def plus(self, other: _Sum, node: int) -> _Sum:
        nodes = (*self.nodes, *other.nodes, node)
        return _Sum(nodes, (*self.terms, *other.terms), (*self.biases, *other.biases))


class _Reader:
    def __init__(self, graph: Graph):
        self.graph, self.nodes = graph, graph.nodes
        self.users = graph.users()
        self.given = {output.node for output in graph.outputs}
        self.parts: list[Part] = []
        self.owner: dict[int, int] = {}
        self.sums: dict[int, _Sum] = {}  # nodes that are a learned map which may still grow
        self.within = dict(_rectifiers(graph)) | dict(_softmaxes(graph))  # nodes inside a larger thing: its last node

    def circuit(self) -> Circuit:
        for i, node in enumerate(self.nodes):
            self.read(i, node)
        ends = tuple(End(o.kind, o.name, self.part(o.node)) for o in self.graph.outputs)
        return Circuit(self.graph, tuple(self.parts), self.wires(), ends)

    def read(self, i: int, node: Node) -> None:
        if i in self.within and self.within[i] != i:
            return  # the last of them is read for all
        if node.op == "input" and node.attrs[0] in ("stream", "state", "constant"):
            self.add(Part(node.attrs[0], i, (i,), node.attrs[1], node.attrs[1]))
        elif node.op in ("input", "const") or not node.rows:
            return  # these are read where they are used
        elif node.op in SEEN_OTHERWISE:
            self.alias(i, node)
        elif (found := self.map(i, node)) is not None:
            self.sums[i] = found
        elif self.is_squash(i, node):
            self.squash(i, node)
        else:
            self.circle(i, node)

    def add(self, part: Part) -> int:
        self.parts.append(part)
        for node in part.nodes:
            self.owner.setdefault(node, len(self.parts) - 1)
        return len(self.parts) - 1

    def alias(self, i: int, node: Node) -> None:
        """The same numbers seen otherwise belong to the part that has them."""
        at = self.part(node.inputs[0])
        old = self.parts[at]
        self.parts[at] = replace(old, nodes=(*old.nodes, i), name=old.name or node.name)
        self.owner[i] = at

    def map(self, i: int, node: Node) -> _Sum | None:
        """The learned map that this node is, or goes on with, if it is of one."""
        if node.op == "matmul" and self.nodes[node.inputs[1]].shared:
            value, weight = node.inputs
            return _Sum((i,), (Term(value, weight, "full"),), ())
        if node.op == "mul":
            for value, weight in (node.inputs, node.inputs[::-1]):
                if self.is_weight(weight) and self.nodes[value].rows and self.is_term(i, node):
                    return _Sum((i,), (Term(value, weight, "diagonal"),), ())
        if node.op == "add":
            a, b = (self.mappable(j) for j in node.inputs)
            return a.plus(b, i) if a is not None and b is not None and (a.terms or b.terms) else None
        return None

    def is_term(self, i: int, node: Node) -> bool:
        """Whether a product with a weight is added to a map, or to a bias: by itself it is a circle."""
        return self.alone(i) and all(
            self.nodes[j].op == "add" and node.dims == self.nodes[j].dims and self.sums_up(j, i) for j in self.users[i]
        )

    def sums_up(self, total: int, i: int) -> bool:
        (other,) = [j for j in self.nodes[total].inputs if j != i] or [i]
        return other != i and (self.is_weight(other) or self.sums.get(other) is not None or self.is_product(other))

    def is_product(self, i: int) -> bool:
        node = self.nodes[i]
        return node.op == "matmul" or (node.op == "mul" and any(map(self.is_weight, node.inputs)))

    def mappable(self, i: int) -> _Sum | None:
        """The node as a piece of a larger map: a map that nobody else reads or names, or a bias."""
        if i in self.sums and self.alone(i):
            return self.sums[i]
        return _Sum((), (), (i,)) if self.is_weight(i) else None

    def alone(self, i: int) -> bool:
        """Whether one node reads it, and it has no name of its own."""
        return len(self.users[i]) == 1 and not self.nodes[i].name and i not in self.given

    def is_weight(self, i: int) -> bool:
        """A learned tensor itself, or one seen otherwise."""
        node = self.nodes[i]
        if node.op in SEEN_OTHERWISE:
            return node.shared and self.is_weight(node.inputs[0])
        return node.op == "input" and node.attrs[0] == "weight" and bool(node.dims)

    def is_squash(self, i: int, node: Node) -> bool:
        if node.op in SQUASHES:
            return self.mappable(node.inputs[0]) is not None and node.inputs[0] in self.sums
        return i in self.within and node.op == "where" and self.is_rectified(node)

    def is_rectified(self, node: Node) -> bool:
        of = node.inputs[2]
        alone = {self.within.get(j, j) for j in self.users[of]} == {self.within[node.inputs[0]]}
        return of in self.sums and alone and not self.nodes[of].name and of not in self.given

    def squash(self, i: int, node: Node) -> None:
        of = node.inputs[-1]
        found, op = self.sums.pop(of), "relu" if node.op == "where" else node.op
        nodes = (*found.nodes, *self.inner(i), i)
        self.layer(found, i, nodes, op, of)

    def layer(self, found: _Sum, node: int, nodes: tuple[int, ...], op: str, total: int) -> int:
        for term in found.terms:
            self.part(term.value)
        name = self.nodes[node].name
        label = LABELS.get(op, op)
        return self.add(Part("layer", node, nodes, label, name, op, found.terms, found.biases, total))

    def inner(self, last: int) -> tuple[int, ...]:
        """The nodes inside the larger thing that ends here."""
        return tuple(sorted(j for j, end in self.within.items() if end == last and j != last))

    def circle(self, i: int, node: Node) -> None:
        op, operands = node.op, node.inputs
        if i in self.within:  # a rectifier or a softmax, of one value
            op = "relu" if node.op == "where" else "softmax"
            operands = (_whole(self.graph, i),)
        for j in operands:
            if self.nodes[j].op != "const":
                self.part(j)
        nodes = (*self.inner(i), i)
        self.add(Part("op", i, nodes, self.label(op, node, operands), node.name, op, operands=operands))

    def label(self, op: str, node: Node, operands: tuple[int, ...]) -> str:
        sign = LABELS.get(op, op)
        if op == "slice":
            dim, start, step = node.attrs
            return f"{start}:{start + step * node.dims[dim]}" + (f":{step}" if step != 1 else "")
        if op == "cat":
            return "[ , ]"
        texts = [number(self.nodes[j].attrs[0]) if self.nodes[j].op == "const" else "" for j in operands]
        return sign.join(texts) if len(texts) == 2 and any(texts) else sign

    def part(self, i: int) -> int:
        """The part that has a node's value; what is read where it is used is made now."""
        if i in self.owner and not self.is_inside_a_clock(i):
            return self.owner[i]
        node = self.nodes[i]
        if i in self.sums:
            found = self.sums.pop(i)
            return self.layer(found, i, found.nodes, "", i)
        if self.is_clock(i):
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

    def is_clock(self, i: int) -> bool:
        """Whether it is made of the step's number and of nothing else but numbers."""
        node = self.nodes[i]
        if node.op == "input":
            return node.attrs[0] == "step"
        return node.time and not node.rows and all(self.nodes[j].op == "const" or self.is_clock(j) for j in node.inputs)

    def is_inside_a_clock(self, i: int) -> bool:
        """Whether it is on the way to a part made of the step's number, and not that part's value."""
        part = self.parts[self.owner[i]]
        return part.kind == "clock" and part.node != i

    def clock(self, i: int) -> int:
        """All that is made of the step's number, up to here; what other such parts have is left to them."""
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
        """How it is made of t; `within` a product or sum it is in parentheses if it is one itself."""
        node = self.nodes[i]
        if node.op in ("input", "const"):
            return "t" if node.op == "input" else number(node.attrs[0])
        sign = LABELS.get(node.op, node.op)
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
    """As a person writes it."""
    text = f"{value:.6g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.10f}".rstrip("0")
    return (text if float(text) else f"{value:.6g}").replace("-", "−")


def _whole(graph: Graph, last: int) -> int:
    """What a rectifier or a softmax, which ends here, is of."""
    node = graph.nodes[last]
    if node.op == "where":
        return node.inputs[2]
    exp = graph.nodes[node.inputs[0]]
    return graph.nodes[exp.inputs[0]].inputs[0]


def _rectifiers(graph: Graph) -> Iterable[tuple[int, int]]:
    """where(a <= 0, 0, a): the nodes, and the last of them."""
    nodes, users = graph.nodes, graph.users()
    for i, node in enumerate(nodes):
        if node.op == "where":
            condition, zero, value = node.inputs
            if nodes[condition].op == "le" and nodes[condition].inputs == (value, zero) and _is(nodes[zero], 0):
                yield i, i
                if users[condition] == [i]:
                    yield condition, i


def _softmaxes(graph: Graph) -> Iterable[tuple[int, int]]:
    """exp(a - max a) / sum(exp(a - max a)): the nodes, and the last of them."""
    nodes, users = graph.nodes, graph.users()

    def plain(j: int) -> int:
        return plain(nodes[j].inputs[0]) if nodes[j].op in SEEN_OTHERWISE else j

    for i, node in enumerate(nodes):
        if node.op != "div" or nodes[node.inputs[0]].op != "exp":
            continue
        exp, total = node.inputs
        shifted = nodes[exp].inputs[0]
        if nodes[plain(total)].op != "sum" or nodes[plain(total)].inputs != (exp,) or nodes[shifted].op != "sub":
            continue
        a, peak = nodes[shifted].inputs
        if nodes[plain(peak)].op != "max" or nodes[plain(peak)].inputs != (a,):
            continue
        inside = {exp, shifted, *_between(nodes, total, exp), *_between(nodes, peak, a)}
        if all(set(users[j]) <= inside | {i} for j in inside):
            yield from ((j, i) for j in (*inside, i))


def _between(nodes: tuple[Node, ...], last: int, first: int) -> list[int]:
    """A chain of nodes of one input, without the first."""
    found = []
    while last != first:
        found.append(last)
        last = nodes[last].inputs[0]
    return found


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.attrs[0] == value
