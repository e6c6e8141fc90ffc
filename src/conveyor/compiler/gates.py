"""Which steps are an RNN, an LSTM or a GRU: found by their equations, whatever they are called and however written."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations, product
from typing import Any

from conveyor.compiler.graph import Graph

Coefficient = tuple[int, bool]  # σ(a), or 1 - σ(a), which is σ(-a): the node of a, and whether it is negated
Term = tuple[Coefficient, int]  # a coefficient, and the node that it multiplies


class Differs(Exception):
    """The step computes something else."""


@dataclass
class Gate:
    """A sum W · x + R · h + p * C + b: the nodes of the matrices [K, H], of p and of b, several of which are added.

    `recalled`: the biases that stand within r * (R · h + b). `negated`: it is the sum's opposite.
    """

    x: list[int] = field(default_factory=list)
    h: list[int] = field(default_factory=list)
    C: list[int] = field(default_factory=list)
    bias: list[int] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    negated: bool = False


@dataclass(frozen=True)
class Found:
    """An RNN, LSTM or GRU as ONNX has it: the attributes, the gates in its order (None: one that is not used), the
    states, h first. `projection`: the node of the matrix [H, P] of an LSTM's projection, which ONNX has not.
    """

    op: str
    attributes: dict[str, Any]
    gates: tuple[Gate | None, ...]
    states: tuple[str, ...]
    hidden: int
    projection: int | None = None


def find(graph: Graph, output: str) -> Found | None:
    """The RNN, LSTM or GRU that computes this step and gives the state `output` of each step, if there is one.

    The graph is one of `distributed`. It has no outputs but its states.
    """
    for states in permutations(graph.states):
        for read in {1: (rnn, gru), 2: (lstm,)}.get(len(states), ()):
            try:
                reader = _Reader(graph, states)
                found: Found = read(reader)
            except Differs:
                continue
            if states[0] == output:
                return found
    return None


class _Reader:
    """A graph whose states are h and perhaps C, by what they are."""

    def __init__(self, graph: Graph, states: tuple[str, ...]):
        self.nodes, self.states = graph.nodes, states
        read, streams = graph.inputs("state"), graph.inputs("stream")
        self.old = [read.get(name, -1) for name in states]
        self.new = [next(o.node for o in graph.outputs if o.name == name) for name in states]
        self.x = streams.get("x", -1)
        _must(set(streams) <= {"x"})
        (self.hidden,) = _must(self.nodes[self.new[-1]].dims, lambda dims: len(dims) == 1)
        for old, new in zip(self.old, self.new, strict=True):
            _must(old < 0 or self.nodes[old].dims == self.nodes[new].dims)
        _must(self.x < 0 or len(self.nodes[self.x].dims) == 1)

    def inputs(self, i: int, op: str) -> tuple[int, ...]:
        """The operands of a node, which must be of this operation."""
        _must(self.nodes[i].op == op)
        return self.nodes[i].inputs

    def both(self, i: int, op: str) -> Iterator[tuple[int, int]]:
        """The two operands, in both orders."""
        a, b = self.inputs(i, op)
        yield from ((a, b), (b, a))

    def is_one(self, i: int) -> bool:
        return self.nodes[i].op == "const" and self.nodes[i].attrs[0] == 1

    def coefficient(self, i: int) -> Coefficient:
        """σ(a) or 1 - σ(a)."""
        if self.nodes[i].op == "sub":
            one, i = self.nodes[i].inputs
            _must(self.is_one(one))
            return self.inputs(i, "sigmoid")[0], True
        return self.inputs(i, "sigmoid")[0], False

    def terms(self, i: int) -> Iterator[tuple[Term, Term]]:
        """The ways to read a value as a sum of two terms, each a gate times a value."""
        if self.nodes[i].op == "sub":  # b - g * (b - a)
            two, product = self.nodes[i].inputs
            for gate, value in self.both(product, "mul"):
                if self.nodes[value].op == "sub" and self.nodes[value].inputs[0] == two:
                    yield from self._mixed(gate, self.nodes[value].inputs[1], two)
            return
        for one, two in self.both(i, "add"):
            if self.nodes[one].op != "mul":
                continue
            for gate, value in self.both(one, "mul"):
                if self.nodes[value].op == "sub" and self.nodes[value].inputs[1] == two:  # b + g * (a - b)
                    yield from self._mixed(gate, self.nodes[value].inputs[0], two)
                elif self.nodes[two].op == "mul":
                    for other, beside in self.both(two, "mul"):
                        yield from self._added(gate, value, other, beside)

    def _mixed(self, gate: int, a: int, b: int) -> Iterator[tuple[Term, Term]]:
        try:
            at, negated = self.coefficient(gate)
        except Differs:
            return
        one, two = ((at, negated), a), ((at, not negated), b)
        yield from ((one, two), (two, one))

    def _added(self, gate: int, value: int, other: int, beside: int) -> Iterator[tuple[Term, Term]]:
        try:
            yield (self.coefficient(gate), value), (self.coefficient(other), beside)
        except Differs:
            return

    def summands(self, i: int) -> Iterator[int]:
        """What is added to give a value; what only weights give is one of them."""
        node = self.nodes[i]
        if node.op == "add" and not node.shared:
            for j in node.inputs:
                yield from self.summands(j)
        else:
            yield i

    def gate(self, coefficient: Coefficient, C: int = -1) -> Gate:
        """The sum that a gate is the σ of; `C`: the node of the state that it may look at."""
        made = self.sum(self.summands(coefficient[0]), C)
        return replace(made, negated=coefficient[1])

    def sum(self, summands: Collection[int] | Iterator[int], C: int = -1) -> Gate:
        found = Gate()
        for i in summands:
            node = self.nodes[i]
            if node.shared:
                _must(node.dims in ((self.hidden,), (1,), ()))
                found.bias.append(i)
            elif node.op == "matmul":
                self._add_product(found, *node.inputs)
            else:
                weight = self._beside(i, C)
                _must(weight >= 0 and self.nodes[weight].shared)
                _must(self.nodes[weight].dims in ((self.hidden,), (1,), ()))
                found.C.append(weight)
        return found

    def _beside(self, i: int, value: int) -> int:
        """What this value is multiplied by."""
        return next((other for one, other in self.both(i, "mul") if one == value >= 0), -1)

    def _add_product(self, gate: Gate, value: int, matrix: int) -> None:
        _must(value >= 0 and value in (self.x, self.old[0]) and self.nodes[matrix].shared)
        _must(self.nodes[matrix].dims == (self.nodes[value].dims[0], self.hidden))
        (gate.x if value == self.x else gate.h).append(matrix)

    def found(self, op: str, gates: tuple[Gate | None, ...], projection: int | None = None, **attributes: Any) -> Found:
        return Found(op, attributes, gates, self.states, self.hidden, projection)


def _must(value: Any, test: Any = bool) -> Any:
    if not test(value):
        raise Differs
    return value


def rnn(r: _Reader) -> Found:
    """h_t = f(W · x_t + R · h_{t-1} + b), with tanh or a rectifier as f."""
    end = r.nodes[r.new[0]]
    if end.op == "tanh":
        return r.found("RNN", (r.sum(r.summands(end.inputs[0])),), activations=["Tanh"])
    return r.found("RNN", (r.sum(r.summands(_rectified(r, r.new[0]))),), activations=["Relu"])


def _rectified(r: _Reader, i: int) -> int:
    """The value a of max(a, 0), which may be written as a condition."""

    def is_zero(j: int) -> bool:
        return r.nodes[j].op == "const" and r.nodes[j].attrs[0] == 0

    node = r.nodes[i]
    if node.op == "maximum":
        return next((a for a, zero in r.both(i, "maximum") if is_zero(zero)), -1)
    condition, zero, a = r.inputs(i, "where")
    _must(is_zero(zero) and r.nodes[condition].op in ("le", "lt") and r.nodes[condition].inputs == (a, zero))
    return a


def lstm(r: _Reader) -> Found:
    """With peepholes, of which the output gate's reads the new C, perhaps with one gate 1 - the other, or projected."""
    h, C = r.new
    projection = None
    if r.nodes[h].op == "matmul":
        h, projection = r.nodes[h].inputs
        _must(r.nodes[projection].shared)
    _must(r.nodes[h].dims == (r.hidden,))
    for o, end in r.both(h, "mul"):
        if r.nodes[end].op != "tanh" or r.nodes[end].inputs != (C,) or r.nodes[o].op not in ("sigmoid", "sub"):
            continue
        output = r.gate(r.coefficient(o), C)
        for (forget, kept), (take, new) in r.terms(C):
            if kept == r.old[1] and r.nodes[new].op == "tanh":
                candidate = r.sum(r.summands(r.nodes[new].inputs[0]))
                taken = r.gate(take, r.old[1])
                if forget == (take[0], not take[1]):
                    return r.found("LSTM", (taken, output, None, candidate), projection, input_forget=1)
                return r.found("LSTM", (taken, output, r.gate(forget, r.old[1]), candidate), projection)
    raise Differs


def gru(r: _Reader) -> Found:
    """With the reset gate before or behind the product."""
    for (keep, kept), (take, new) in r.terms(r.new[0]):
        if kept == r.old[0] and keep == (take[0], not take[1]) and r.nodes[new].op == "tanh":
            update, summands = r.gate(keep), [*r.summands(r.nodes[new].inputs[0])]
            for i in summands:
                rest = [j for j in summands if j != i]
                for read in (_reset_behind, _reset_before):
                    try:
                        reset, candidate, behind = read(r, i, rest)
                        return r.found("GRU", (update, reset, candidate), linear_before_reset=int(behind))
                    except Differs:
                        continue
    raise Differs


def _reset_behind(r: _Reader, i: int, rest: list[int]) -> tuple[Gate, Gate, bool]:
    """r * (R · h + b) beside W · x + b."""
    candidate = r.sum(rest)
    _must(not candidate.h)
    for gate, value in r.both(i, "mul"):
        if r.nodes[gate].op in ("sigmoid", "sub"):
            reset, recalled = r.gate(r.coefficient(gate)), r.sum(r.summands(value))
            _must(not recalled.x)
            return reset, replace(candidate, h=recalled.h, recalled=recalled.bias), True
    raise Differs


def _reset_before(r: _Reader, i: int, rest: list[int]) -> tuple[Gate, Gate, bool]:
    """R · (r * h) beside W · x + b."""
    candidate = r.sum(rest)
    value, matrix = r.inputs(i, "matmul")
    _must(not candidate.h and r.nodes[matrix].shared and r.nodes[matrix].dims == (r.hidden, r.hidden))
    for gate, h in product(*[r.inputs(value, "mul")] * 2):
        if h == r.old[0] and gate != h:
            return r.gate(r.coefficient(gate)), replace(candidate, h=[matrix]), False
    raise Differs
