"""Emits a step as JavaScript, with the memory and order that memory_map.py decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from conveyor.compiler.graph import Node
from conveyor.targets.js.loops import contiguous, index, literal, loops, spread
from conveyor.targets.js.memory_map import SPACES, MemoryMap, order

# How pointwise operations are written. Functions that JavaScript's Math lacks are in arithmetic.js.
SPELLING: dict[str, str] = {
    "neg": "-{0}",
    "abs": "Math.abs({0})",
    "sign": "sign({0})",
    "floor": "Math.floor({0})",
    "exp": "Math.exp({0})",
    "log": "Math.log({0})",
    "log1p": "Math.log1p({0})",
    "sin": "Math.sin({0})",
    "cos": "Math.cos({0})",
    "erf": "erf({0})",
    "tanh": "Math.tanh({0})",
    "sigmoid": "1 / (1 + Math.exp(-{0}))",
    "sqrt": "Math.sqrt({0})",
    "root": "Math.sqrt({0})",
    "expm1": "Math.expm1({0})",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "pow": "power({0}, {1})",
    "mod": "mod({0}, {1})",
    "maximum": "Math.max({0}, {1})",
    "minimum": "Math.min({0}, {1})",
    "lt": "{0} < {1} ? 1 : 0",
    "le": "{0} <= {1} ? 1 : 0",
    "eq": "{0} === {1} ? 1 : 0",
    "ne": "{0} !== {1} ? 1 : 0",
    "where": "{0} !== 0 ? {1} : {2}",
    "stop_gradient": "{0}",
}
FUNCTIONS = "rows, columns, erf, mod, power, sign"  # from arithmetic.js


class Directions(Protocol):
    """The two steps of a gradient."""

    @property
    def forward(self) -> MemoryMap:
        """The one that computes what `backward` reads."""

    @property
    def backward(self) -> MemoryMap:
        """The one from the last step to the first."""


def emit(steps: Sequence[MemoryMap], gradients: Sequence[Directions] = ()) -> str:
    """The source of a module that exports `steps`, a list of factory functions.

    Each factory takes the functions of arithmetic.js and the weights of the step, and returns an object. Its `kept` is
    the memory of the values, `edits` that of the edits (all 0: nothing is edited), `held[part]` the value of a
    parameter. `prepare()` must be called after the weights have changed. `step()` computes the step from the inputs in
    `kept` and `edits`.
    With `gradients`, one for each step, a factory has two more factories as properties, `forward` and `backward`.
    """
    made = [_Emitter(step).factory() for step in steps]
    for k, both in enumerate(gradients):
        pair = (f"{name}: {_Emitter(getattr(both, name)).factory()}" for name in ("forward", "backward"))
        made[k] = f"Object.assign({made[k]}, {{ {', '.join(pair)} }})"
    text = ",\n".join(made)
    return f"export const steps = [\n{text},\n];\n"


class _Emitter:
    def __init__(self, memory: MemoryMap):
        self.memory, self.graph, self.circuit = memory, memory.graph, memory.circuit

    def factory(self) -> str:
        memory, nodes = self.memory, self.graph.nodes
        each = order(memory, [i for i in memory.used if i not in memory.once])
        once = order(memory, [i for i in memory.used if i in memory.once])
        views = "".join(
            f"  const v{i} = {p.space}.subarray({p.at}, {p.at + nodes[i].size});\n"
            for i, p in memory.at.items()
            if p.space in SPACES and i not in memory.alias
        )
        held = ", ".join(f"{part}: v{i}" for i, part in memory.parameters.items() if i in memory.at)
        return (
            f"function (arithmetic, w) {{\n  const {{ {FUNCTIONS} }} = arithmetic;\n"
            + "".join(f"  const {space} = new Float32Array({memory.size(space)});\n" for space in SPACES)
            + f"{views}  function prepare() {{\n{''.join(map(self.node, once))}  }}\n"
            + f"  function step() {{\n{''.join(map(self.node, each))}  }}\n"
            + f"  return {{ kept, edits, held: {{ {held} }}, prepare, step }};\n}}"
        )

    def node(self, i: int) -> str:
        """The lines that compute a node."""
        node = self.graph.nodes[i]
        note = f"    // {' '.join(node.name.split())}\n" if node.name else ""
        return note + "".join(f"    {line}\n" for line in self.lines(i, node))

    def lines(self, i: int, node: Node) -> list[str]:
        if node.op == "input":
            return [f"v{i}.set(w[{self.memory.weights.index(node.attrs[1])}]);"] if node.attrs[0] == "weight" else []
        body = WRITTEN.get(node.op, _Emitter.pointwise)
        return body(self, i, node, [self.name(j) for j in self.memory.reads(i)])

    def name(self, j: int) -> str:
        j = self.memory.alias.get(j, j)
        slot = self.memory.at[j]
        if slot.space == "literal":
            return literal(self.graph.nodes[j].attrs[0])
        return f"w[{slot.at}]" if slot.space == "weight" else f"v{j}"

    # --- one method per operation, given its node and the names of its operands ---

    def const(self, i: int, node: Node, names: list[str]) -> list[str]:
        return [f"v{i}[0] = {literal(node.attrs[0])};"]

    def expand(self, i: int, node: Node, names: list[str]) -> list[str]:
        return self.each(i, node, names, "{0}")

    def pointwise(self, i: int, node: Node, names: list[str]) -> list[str]:
        return self.each(i, node, names, SPELLING[node.op])

    def each(self, i: int, node: Node, names: list[str], spelling: str) -> list[str]:
        shapes = [self.graph.nodes[j].dims for j in node.inputs]
        strides = [spread(dims, node.dims) for dims in shapes]

        def one(letters: Sequence[str]) -> str:
            args = [self.element(j, n, s, letters) for j, n, s in zip(node.inputs, names, strides, strict=True)]
            return f"v{i}[{index(contiguous(node.dims), letters)}] = {spelling.format(*args)};"

        return loops(node.dims, one)

    def element(self, j: int, name: str, strides: Sequence[int], letters: Sequence[str], at: int = 0) -> str:
        """An element of a value; a negative literal is in parentheses, since a sign may stand before it."""
        if self.memory.at[j].space == "literal":
            return f"({name})" if name.startswith("-") else name
        return f"{name}[{index(strides, letters, at)}]"

    def matmul(self, i: int, node: Node, names: list[str]) -> list[str]:
        value, (_, by_rows) = self.graph.nodes[node.inputs[0]], self.memory.matrix(i)
        width = value.dims[-1]
        many = value.size // width if width else 0
        call = "rows" if by_rows else "columns"
        return [f"{call}(v{i}, {names[1]}, {names[0]}, {many}, {node.dims[-1]}, {width});"]

    def contract(self, i: int, node: Node, names: list[str]) -> list[str]:
        first, second, out = node.attrs
        sizes = dict(zip(first + second, [d for j in node.inputs for d in self.graph.nodes[j].dims], strict=True))
        summed = [c for c in dict.fromkeys(first + second) if c not in out]
        strides = [dict(zip(c, contiguous([sizes[d] for d in c]), strict=True)) for c in (first, second)]

        def one(letters: Sequence[str]) -> str:
            at = dict(zip([*out, *summed], letters, strict=True))
            args = [
                self.element(j, n, list(s.values()), [at[c] for c in s])
                for j, n, s in zip(node.inputs, names, strides, strict=True)
            ]
            return f"s += {args[0]} * {args[1]};"

        return self.summed(i, [sizes[c] for c in out], [sizes[c] for c in summed], "0", one)

    def reduce(self, i: int, node: Node, names: list[str]) -> list[str]:
        dims = self.graph.nodes[node.inputs[0]].dims
        gone = node.attrs[0]
        kept = [k for k in range(len(dims)) if k not in gone]
        strides = contiguous(dims)

        def one(letters: Sequence[str]) -> str:
            value = self.element(node.inputs[0], names[0], [strides[k] for k in (*kept, *gone)], letters)
            return f"s += {value};" if node.op == "sum" else f"s = Math.max(s, {value});"

        start = "0" if node.op == "sum" else "-Infinity"
        return self.summed(i, [dims[k] for k in kept], [dims[k] for k in gone], start, one)

    def summed(
        self, i: int, outer: Sequence[int], inner: Sequence[int], start: str, one: Callable[[Sequence[str]], str]
    ) -> list[str]:
        """Loops over the result, with an inner loop that accumulates into `s`."""

        def each(letters: Sequence[str]) -> list[str]:
            lines = loops(inner, lambda more: one([*letters, *more]), len(outer))
            return [f"let s = {start};", *lines, f"v{i}[{index(contiguous(outer), letters)}] = s;"]

        return loops(outer, each)

    def cat(self, i: int, node: Node, names: list[str]) -> list[str]:
        (dim,) = node.attrs
        strides, at = contiguous(node.dims), 0
        lines = []
        for j, name in zip(node.inputs, names, strict=True):
            dims = self.graph.nodes[j].dims
            lines += self.copy(i, strides, at * strides[dim], j, name, contiguous(dims), 0, dims)
            at += dims[dim]
        return lines

    def pad(self, i: int, node: Node, names: list[str]) -> list[str]:
        dim, start, step = node.attrs
        (j,), strides = node.inputs, contiguous(node.dims)
        dims = self.graph.nodes[j].dims
        to = [s * step if k == dim else s for k, s in enumerate(strides)]
        return [f"v{i}.fill(0);", *self.copy(i, to, start * strides[dim], j, names[0], contiguous(dims), 0, dims)]

    def slice(self, i: int, node: Node, names: list[str]) -> list[str]:
        dim, start, step = node.attrs
        (j,) = node.inputs
        strides = contiguous(self.graph.nodes[j].dims)
        read = [s * step if k == dim else s for k, s in enumerate(strides)]
        return self.copy(i, contiguous(node.dims), 0, j, names[0], read, start * strides[dim], node.dims)

    def permute(self, i: int, node: Node, names: list[str]) -> list[str]:
        (j,) = node.inputs
        strides = contiguous(self.graph.nodes[j].dims)
        read = [strides[k] for k in node.attrs[0]]
        return self.copy(i, contiguous(node.dims), 0, j, names[0], read, 0, node.dims)

    def reshape(self, i: int, node: Node, names: list[str]) -> list[str]:
        return self.copy(i, [1], 0, node.inputs[0], names[0], [1], 0, [node.size])

    def copy(
        self, i: int, to: Sequence[int], at: int, j: int, name: str, of: Sequence[int], start: int, dims: Sequence[int]
    ) -> list[str]:
        def one(letters: Sequence[str]) -> str:
            return f"v{i}[{index(to, letters, at)}] = {self.element(j, name, of, letters, start)};"

        return loops(dims, one)


# How all other operations are written.
WRITTEN: dict[str, Callable[[_Emitter, int, Node, list[str]], list[str]]] = {
    "const": _Emitter.const,
    "matmul": _Emitter.matmul,
    "contract": _Emitter.contract,
    "sum": _Emitter.reduce,
    "max": _Emitter.reduce,
    "cat": _Emitter.cat,
    "pad": _Emitter.pad,
    "slice": _Emitter.slice,
    "permute": _Emitter.permute,
    "reshape": _Emitter.reshape,
    "expand": _Emitter.expand,
}
