"""The graph of one step (immutable, hashable, verified on creation), and the builder that creates it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from conveyor.compiler.ops import OPS


@dataclass(frozen=True)
class Origin:
    """The call in a step that a node was lowered from.

    `module` is the path of the module whose code made the call, "" for the cell itself; `op` is the PyTorch function,
    such as "relu" or "addmm". `call` numbers the calls of a step; all nodes of a composite operation have the same
    number. `inputs` are the nodes of the function's arguments. `line` says where the call stands, for messages. A node
    that a compiler pass creates from another keeps its module, function and line, but belongs to no call (-1).
    """

    module: str
    op: str
    call: int = -1
    inputs: tuple[int, ...] = ()
    line: str = field(default="", compare=False)

    @property
    def rewritten(self) -> Origin:
        """The origin of a node that a compiler pass creates from a node with this origin."""
        return Origin(self.module, self.op, line=self.line)


class Key(NamedTuple):
    """What an input or an output of a graph is.

    `kind` says where it is from or how often there is one: "state", "stream" (one a step), "constant", "weight",
    "step" (the step's number), "once" (one for the whole sequence), and for a backward graph "before" and "after" (the
    states) and "saved". `role` says what it is of the thing named: the thing itself (""), "saved" for backward, "grad"
    (the gradient by it), "grad state" or "grad stream" (the gradient by each step's output of this kind).
    """

    kind: str
    name: str
    role: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.role, self.name)))


@dataclass(frozen=True)
class Node:
    """A value: the operation `op` applied to the nodes `inputs`. For each row it is an array of the shape `dims`.

    `rows`: it differs between the rows of the batch; `time`: it differs between steps. A weight does neither.
    `name` is its variable name in the step. `origin` does not count in comparisons: nodes and graphs that compute the
    same are equal and share a kernel, whatever they were lowered from.
    """

    op: str
    inputs: tuple[int, ...] = ()
    attrs: tuple[Any, ...] = ()
    dims: tuple[int, ...] = ()
    rows: bool = False
    time: bool = False
    name: str = ""
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """The number of elements per row."""
        return math.prod(self.dims)

    @property
    def kind(self) -> str:
        """The kind of its operation, see `Op`."""
        return OPS[self.op].kind

    @property
    def key(self) -> Key:
        """What an input is."""
        return Key(*self.attrs)

    @property
    def shared(self) -> bool:
        """Whether it is the same for all rows and steps, as a weight is."""
        return not self.rows and not self.time


@dataclass(frozen=True)
class Output:
    """An output. `kind`: "state" (passed to the next step), "stream" (one per step), "once" (one per sequence)."""

    kind: str
    name: str
    node: int
    role: str = ""

    @property
    def key(self) -> Key:
        """What it is."""
        return Key(self.kind, self.name, self.role)

    @property
    def is_saved(self) -> bool:
        """Whether only backward reads it, of each step."""
        return self.kind == "stream" and self.role == "saved"


@dataclass(frozen=True)
class Graph:
    """One step. `nodes` are in topological order: each comes after its inputs."""

    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]

    def __post_init__(self) -> None:
        for i, node in enumerate(self.nodes):
            arity = OPS[node.op].arity
            assert arity is None or arity == len(node.inputs), f"%{i}: {node.op} of {len(node.inputs)} values"
            assert all(0 <= j < i for j in node.inputs), f"%{i} comes before one of its inputs"
            assert all(isinstance(d, int) and d >= 0 for d in node.dims), f"%{i} has the shape {node.dims}"
            found = OPS[node.op].shape([self.nodes[j].dims for j in node.inputs], node.attrs, node.dims)
            assert found == node.dims, f"%{i} has the shape {node.dims}, but {node.op} gives {found}"
            if node.op in ("sum_to_shape", "weight_gradient"):
                continue
            assert node.rows >= any(self.nodes[j].rows for j in node.inputs), f"%{i} loses its rows"
            assert node.time >= any(self.nodes[j].time for j in node.inputs), f"%{i} loses its steps"
        for output in self.outputs:
            node = self.nodes[output.node]
            assert output.kind in ("state", "stream", "once"), output
            assert output.kind != "once" or not node.time, f"{output.name} is one for all steps, but varies"

    def inputs(self, kind: str) -> dict[str, int]:
        """Where the inputs of this kind are, by name."""
        inputs = ((n.key, i) for i, n in enumerate(self.nodes) if n.op == "input")
        return {key.name: i for key, i in inputs if key.kind == kind and not key.role}

    @cached_property
    def input_keys(self) -> frozenset[Key]:
        """All inputs."""
        return frozenset(n.key for n in self.nodes if n.op == "input")

    @cached_property
    def states(self) -> list[str]:
        """The names of the states, in order."""
        return [output.name for output in self.outputs if output.kind == "state"]

    @cached_property
    def streams(self) -> list[str]:
        """The names of the outputs of each step other than the states."""
        return [output.name for output in self.outputs if output.kind == "stream"]

    @cached_property
    def step_values(self) -> frozenset[int]:
        """The nodes computed only from the step number and constants, such as conditions on it."""
        known: set[int] = set()
        for i, node in enumerate(self.nodes):
            given = node.op == "const" or (node.op == "input" and node.attrs[0] == "step")
            if given or (node.inputs and known.issuperset(node.inputs)):
                known.add(i)
        return frozenset(i for i in known if self.nodes[i].time and not self.nodes[i].rows)

    def users(self) -> list[list[int]]:
        """For each node, the nodes that read it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                found[j].append(i)
        return found

    def __str__(self) -> str:
        lines = [f"%{i:<4}{_shape(node):18}{_text(node)}" for i, node in enumerate(self.nodes)]
        ends = [f"{output.kind:6}{f'{output.role} {output.name}'.strip()} = %{output.node}" for output in self.outputs]
        return "\n".join([*lines, *ends])


def _shape(node: Node) -> str:
    letters = [letter for letter, has in (("T", node.time), ("B", node.rows)) if has]
    return f"[{', '.join([*letters, *map(str, node.dims)])}]"


def _text(node: Node) -> str:
    inputs = ", ".join(f"%{j}" for j in node.inputs)
    attrs = str(node.key) if node.op == "input" else " ".join(str(a) for a in node.attrs)
    return f"{node.op}({inputs}){' ' + attrs if attrs else ''}{'   # ' + node.name if node.name else ''}"


def needed(nodes: Sequence[Node], ends: Iterable[int]) -> list[int]:
    """The nodes `ends` and everything that they depend on, in order."""
    found: set[int] = set()
    stack = list(ends)
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            stack.extend(nodes[i].inputs)
    return sorted(found)


def prune(graph: Graph) -> Graph:
    """The graph without the nodes that no output depends on."""
    order = needed(graph.nodes, (output.node for output in graph.outputs))
    new = {old: i for i, old in enumerate(order)}
    nodes = tuple(_renumbered(graph.nodes[i], new) for i in order)
    return Graph(nodes, tuple(replace(output, node=new[output.node]) for output in graph.outputs))


def _renumbered(node: Node, new: dict[int, int]) -> Node:
    origin = node.origin
    if origin is not None and origin.inputs:  # pruning may have removed some of them
        inputs = tuple(new.get(j, -1) for j in origin.inputs)
        origin = origin.rewritten if -1 in inputs else replace(origin, inputs=inputs)
    return replace(node, inputs=tuple(new[j] for j in node.inputs), origin=origin)


class Builder:
    """Creates nodes. Equal nodes are merged, and trivial ones simplified (x * 1, a slice of everything, ...).

    A new node gets the builder's current `origin`; a merged node keeps the origin of the first.
    """

    def __init__(self, nodes: Sequence[Node] = ()) -> None:
        self.nodes: list[Node] = []
        self.origin: Origin | None = None
        self._known: dict[Any, int] = {}
        for node in nodes:
            self.origin = node.origin
            self.node(node.op, *node.inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=node)
        self.origin = None

    def node(
        self,
        op: str,
        *inputs: int,
        attrs: tuple[Any, ...] = (),
        dims: tuple[int, ...] = (),
        name: str = "",
        like: Node | None = None,
    ) -> int:
        """The index of the node, which is created unless an equal one exists.

        It has rows and steps if one of its inputs has, or as the node `like` has. Its shape follows from those of its
        inputs; `dims` gives it for operations such as reshape, for which it does not.
        """
        dims = OPS[op].shape([self.nodes[i].dims for i in inputs], attrs, dims)
        rows = like.rows if like else any(self.nodes[i].rows for i in inputs)
        time = like.time if like else any(self.nodes[i].time for i in inputs)
        key = (op, inputs, attrs if op != "const" else repr(attrs), dims, rows, time)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            origin = None if OPS[op].kind == "input" else self.origin
            self.nodes.append(Node(op, inputs, attrs, dims, rows, time, name, origin))
        return self._known[key]

    def input(self, kind: str, name: str, dims: tuple[int, ...], rows: bool, time: bool, role: str = "") -> int:
        """An input of this kind and name, with an array of the shape `dims` for each row and step that it has."""
        key, label = Key(kind, name, role), f"{role} {name}".strip()
        return self.node("input", attrs=key, dims=dims, name=label, like=Node("input", rows=rows, time=time))

    def name(self, i: int, name: str) -> None:
        """Names a node, unless it already has a name."""
        if not self.nodes[i].name:
            self.nodes[i] = replace(self.nodes[i], name=name)

    def const(self, value: float) -> int:
        """A scalar constant."""
        return self.node("const", attrs=(float(value),))

    def is_const(self, i: int, value: float | None = None) -> bool:
        """Whether the node is a constant, or the constant `value`."""
        node = self.nodes[i]
        return node.op == "const" and (value is None or node.attrs[0] == value)

    def pointwise(self, op: str, *inputs: int) -> int:
        """A pointwise operation; its inputs are broadcast."""
        known = _plain(self, op, inputs)
        if known is not None:
            return known
        return self.node(op, *inputs)

    def add(self, a: int, b: int) -> int:
        """a + b, broadcast."""
        return self.pointwise("add", a, b)

    def sub(self, a: int, b: int) -> int:
        """a - b, broadcast."""
        return self.pointwise("sub", a, b)

    def mul(self, a: int, b: int) -> int:
        """a * b, broadcast."""
        return self.pointwise("mul", a, b)

    def div(self, a: int, b: int) -> int:
        """a / b, broadcast."""
        return self.pointwise("div", a, b)

    def permute(self, i: int, order: tuple[int, ...]) -> int:
        """The dimensions in another order: dimension k of the result is dimension `order[k]` of the value."""
        node = self.nodes[i]
        if order == tuple(range(len(order))):
            return i
        if node.op == "permute":
            return self.permute(node.inputs[0], tuple(node.attrs[0][k] for k in order))
        if node.op == "weight_gradient" and order == (1, 0):
            a, b = node.inputs
            return self.weight_gradient(b, a, like=node)
        return self.node("permute", i, attrs=(order,))

    def slice(self, i: int, dim: int, start: int, step: int, size: int) -> int:
        """`size` elements along `dim`: every `step`-th, from `start` on."""
        dims = self.nodes[i].dims
        if (start, step, size) == (0, 1, dims[dim]):
            return i
        node = self.nodes[i]
        if node.op == "cat" and node.attrs[0] == dim and step == 1:  # if it is exactly one of the pieces
            at = 0
            for piece in node.inputs:
                width = self.nodes[piece].dims[dim]
                if (at, width) == (start, size):
                    return piece
                at += width
        return self.node("slice", i, attrs=(dim, start, step), dims=(*dims[:dim], size, *dims[dim + 1 :]))

    def reshape(self, i: int, dims: tuple[int, ...]) -> int:
        """The same elements in the same order, with the shape `dims`."""
        if self.nodes[i].dims == dims:
            return i
        if self.nodes[i].op == "reshape":
            return self.reshape(self.nodes[i].inputs[0], dims)
        return self.node("reshape", i, dims=dims)

    def expand(self, i: int, dims: tuple[int, ...], like: Node | None = None) -> int:
        """Broadcast to the shape `dims`, and to the rows and steps of `like`."""
        node = self.nodes[i]
        like = like or node
        if node.dims == dims and (node.rows, node.time) == (like.rows, like.time):
            return i
        return self.node("expand", i, dims=dims, like=like)

    def cat(self, pieces: Sequence[int], dim: int) -> int:
        """The pieces concatenated along `dim`."""
        if len(pieces) == 1:
            return pieces[0]
        return self.node("cat", *pieces, attrs=(dim,))

    def pad(self, i: int, dim: int, start: int, step: int, size: int) -> int:
        """The value padded with zeros to `size` along `dim`; its elements go to indices `start`, `start + step`, ..."""
        dims = self.nodes[i].dims
        if (start, step, size) == (0, 1, dims[dim]):
            return i
        return self.node("pad", i, attrs=(dim, start, step), dims=(*dims[:dim], size, *dims[dim + 1 :]))

    def reduce(self, op: str, i: int, dims: tuple[int, ...]) -> int:
        """`sum` or `max` over these dimensions, which are removed."""
        return self.node(op, i, attrs=(dims,)) if dims else i

    def sum_to_shape(self, i: int, like: Node) -> int:
        """The sum over rows and steps, where `like` has none."""
        node = self.nodes[i]
        if (node.rows, node.time) == (like.rows, like.time):
            return i
        return self.node("sum_to_shape", i, like=like)

    def matmul(self, value: int, matrix: int) -> int:
        """The product of a value [..., K] and a matrix [K, N] that all rows share."""
        return self.node("matmul", value, matrix)

    def weight_gradient(self, a: int, b: int, like: Node) -> int:
        """The outer products of a[..., K] and b[..., N], summed over rows, steps and leading dimensions: [K, N]."""
        return self.node("weight_gradient", a, b, like=like)

    def contract(self, a: int, b: int, labels: tuple[str, str, str]) -> int:
        """An einsum of two values within each row, such as ("sd", "d", "s") for `sd,d->s`."""
        sizes = dict(zip(labels[0] + labels[1], self.nodes[a].dims + self.nodes[b].dims, strict=True))
        if set(labels[0]) | set(labels[1]) <= set(labels[2]):  # nothing is summed
            return self.mul(
                *(self._spread(i, names, labels[2], sizes) for i, names in zip((a, b), labels, strict=False))
            )
        return self.node("contract", a, b, attrs=labels)

    def _spread(self, i: int, names: str, to: str, sizes: dict[str, int]) -> int:
        """The value with its dimensions in the order of `to`, and size 1 for those that it lacks."""
        ordered = self.permute(i, tuple(names.index(c) for c in to if c in names))
        return self.reshape(ordered, tuple(sizes[c] if c in names else 1 for c in to))

    def graph(self, outputs: Sequence[Output]) -> Graph:
        """The graph with these outputs, pruned."""
        return prune(Graph(tuple(self.nodes), tuple(outputs)))


def _plain(b: Builder, op: str, inputs: tuple[int, ...]) -> int | None:
    """The node that the operation reduces to, if it is trivial. x * 0 is kept, since NaN and infinity must survive."""
    if op in ("add", "mul"):
        neutral = 0.0 if op == "add" else 1.0
        for one, other in (inputs, inputs[::-1]):
            if b.is_const(one, neutral):
                return other
    if op in ("sub", "div") and b.is_const(inputs[1], 0.0 if op == "sub" else 1.0):
        return inputs[0]
    if op == "neg" and b.nodes[inputs[0]].op == "neg":
        return b.nodes[inputs[0]].inputs[0]
    if all(b.is_const(i) for i in inputs):
        return _folded(b, op, [b.nodes[i].attrs[0] for i in inputs])
    return None


# The operations on constants for which Python gives exactly the result of C.
EXACT: dict[str, Callable[..., float]] = {
    "neg": operator.neg,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
}


def _folded(b: Builder, op: str, values: list[float]) -> int | None:
    return b.const(EXACT[op](*values)) if op in EXACT else None
