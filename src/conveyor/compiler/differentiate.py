"""From the graph of a step to the graph of one backward step: reverse mode, one rule an op."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from conveyor.compiler.graph import Builder, Graph, Node, Output, needed
from conveyor.compiler.ops import OPS

# (builder, node, its index, the gradient by it) -> the gradient by each input, none where there is none. The shapes
# need not be the inputs' own: what was broadcast is summed by the caller.
Rule = Callable[[Builder, Node, int, int], Sequence[int | None]]


@dataclass(frozen=True)
class Derivative:
    """`forward`: the step, which also puts out what backward reads; `backward`: one step back in time."""

    forward: Graph
    backward: Graph


def differentiate(graph: Graph, wanted: Iterable[tuple[str, str]], given: Iterable[tuple[str, str]]) -> Derivative:
    """Backward gives the gradients by the inputs `wanted`, from those by the outputs `given` of each step.

    Inputs and outputs are named by kind and name. Gradients by the states come in and go out always. The forward graph
    puts out "saved" values; the backward graph reads these, the forward inputs, and the states before and after the
    step ("before", "after").
    """
    builder = Builder(graph.nodes)
    border = len(builder.nodes)
    gradients = _backward(builder, graph, set(wanted), set(given))
    outputs = []
    read = graph.inputs("state")
    for output in graph.outputs:
        if output.kind == "state":  # which the step may not read at all
            found = _or_zero(builder, gradients.get(read.get(output.name, -1)), graph.nodes[output.node])
            outputs.append(Output("state", f"grad {output.name}", found))
    for kind, name in sorted(source for source in wanted if source[0] != "state"):
        i = graph.inputs(kind)[name]
        if i not in gradients:
            continue  # nothing depends on it
        found = _or_zero(builder, gradients[i], graph.nodes[i])
        outputs.append(Output("stream" if graph.nodes[i].time else "once", f"grad {name}", found))
    return _split(builder, border, graph, outputs)


def _or_zero(b: Builder, gradient: int | None, like: Node) -> int:
    return b.expand(b.const(0.0), like.dims, like) if gradient is None else b.expand(gradient, like.dims, like)


def _backward(b: Builder, graph: Graph, wanted: set[tuple[str, str]], given: set[tuple[str, str]]) -> dict[int, int]:
    """The gradient by every node that has one."""
    active = _active(graph, wanted)
    gradients: dict[int, int] = {}

    def give(i: int, gradient: int) -> None:
        gradient = _shrink(b, gradient, graph.nodes[i])
        gradients[i] = b.add(gradients[i], gradient) if i in gradients else gradient

    for output in graph.outputs:
        node = graph.nodes[output.node]
        if output.node not in active:
            continue
        if output.kind == "state":
            give(output.node, b.input("state", f"grad {output.name}", node.dims, True, True))
        if (output.kind, output.name) in given:
            every = f"grad {output.kind} {output.name}"
            give(output.node, b.input("stream", every, node.dims, True, True))
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if i in gradients and node.kind != "input":
            b.origin = node.origin and node.origin.rewritten
            for j, gradient in zip(node.inputs, RULES[node.op](b, node, i, gradients[i]), strict=True):
                if gradient is not None and j in active:
                    give(j, gradient)
    b.origin = None
    return gradients


def _active(graph: Graph, wanted: set[tuple[str, str]]) -> set[int]:
    """The nodes through which a wanted gradient goes; a state hands it on to the step before."""
    active: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if node.op == "input":
            source = (node.attrs[0], node.attrs[1])
            if source in wanted or source[0] == "state":
                active.add(i)
        elif any(j in active for j in node.inputs):
            active.add(i)
    return active


def _shrink(b: Builder, gradient: int, like: Node) -> int:
    """Summed over whatever was broadcast from `like`: dimensions, rows, steps."""
    dims = b.nodes[gradient].dims
    extra = len(dims) - len(like.dims)
    summed = tuple(k for k in range(len(dims)) if k < extra or (like.dims[k - extra] == 1 and dims[k] != 1))
    gradient = b.reshape(b.reduce("sum", gradient, summed), like.dims) if summed else gradient
    node = b.nodes[gradient]
    # What varies with the step only is not summed over the rows at each step: what it is made of will be.
    fewer = Node("", rows=node.rows and (like.rows or like.time), time=node.time and like.time)
    return b.total(gradient, fewer)


def _split(b: Builder, border: int, graph: Graph, outputs: list[Output]) -> Derivative:
    """The backward graph by itself, and the forward one with what it must save for that."""
    after = {output.node: output.name for output in reversed(graph.outputs) if output.kind == "state"}
    backward = _Backward(b, border, after)
    # In the order of the nodes, so that what is saved early makes later values free.
    for i in _read_across(b, border, outputs):
        backward.bring(i)
    ends = [Output(o.kind, o.name, backward.bring(o.node)) for o in outputs]
    saved = [Output("stream" if b.nodes[i].time else "once", name, i) for i, name in backward.saved.items()]
    return Derivative(Builder(graph.nodes).graph([*graph.outputs, *saved]), backward.new.graph(ends))


def _read_across(b: Builder, border: int, outputs: list[Output]) -> list[int]:
    """The forward nodes that backward ones read."""
    read = needed(b.nodes, (output.node for output in outputs))
    return sorted({j for i in read if i >= border for j in b.nodes[i].inputs if j < border})


# What backward may spend, in multiplications for each number, to spare the saving of it: one tanh, not two.
RECOMPUTE = 24


class _Backward:
    """The backward graph, `new`, in the making.

    It is made from a builder with the forward nodes up to `border` and then the backward ones.
    `after`: the forward nodes that are states after the step. `saved`: those that forward must save, and as what.
    """

    def __init__(self, b: Builder, border: int, after: dict[int, str]):
        self.b, self.border, self.after = b, border, after
        self.new, self.saved = Builder(), dict[int, str]()
        self._known: dict[int, int] = {}

    def bring(self, i: int) -> int:
        """Where a node is in the new graph."""
        todo = [i]  # no recursion: a step can be longer than Python's stack is deep
        while todo:
            i = todo[-1]
            missing = [j for j in self._inputs(i) if j not in self._known]
            if missing:
                todo += reversed(missing)
                continue
            if i not in self._known:
                self._known[i] = self._make(i)
            todo.pop()
        return self._known[i]

    def _inputs(self, i: int) -> tuple[int, ...]:
        """What a node that is still to be computed in the new graph is computed from."""
        read = i in self._known or i in self.after or (i < self.border and not self._is_free(i))
        return () if read else self.b.nodes[i].inputs

    def _make(self, i: int) -> int:
        node = self.b.nodes[i]
        if i in self.after:
            return self.new.input("after", self.after[i], node.dims, True, True)
        if i < self.border and node.op == "input" and node.attrs[0] == "state":
            return self.new.input("before", node.attrs[1], node.dims, True, True)
        if i >= self.border or self._is_free(i):
            inputs = (self._known[j] for j in node.inputs)
            self.new.origin = node.origin and node.origin.rewritten
            return self.new.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=node)
        self.saved[i] = f"saved {node.name or 'value'} {i}"
        return self.new.input("saved", self.saved[i], node.dims, node.rows, node.time)

    def _is_free(self, i: int) -> bool:
        """Whether backward can have this forward value without its being saved: it is there, or little work.

        A sum is saved rather than what it is the sum of. What is the same for all rows costs little.
        """
        least: dict[int, int] = {}  # with which a value has been found free: it need not be looked at with more
        todo = [(i, RECOMPUTE)]
        while todo:
            i, budget = todo.pop()
            node = self.b.nodes[i]
            if i in self._known or i in self.after or node.kind == "input" or not node.rows:
                continue
            if least.get(i, RECOMPUTE + 1) <= budget:
                continue
            least[i] = budget
            cost = OPS[node.op].cost
            smaller = node.size < max(self.b.nodes[j].size for j in node.inputs)
            if cost > budget or (smaller and cost):
                return False
            todo += ((j, budget - cost) for j in node.inputs)
        return True


def _unary(rule: Callable[[Builder, int, int, int], int]) -> Rule:
    """A rule from (builder, input, output, gradient)."""
    return lambda b, node, i, g: (rule(b, node.inputs[0], i, g),)


def _binary(rule: Callable[[Builder, int, int, int, int], tuple[int, int]]) -> Rule:
    """A rule from (builder, first, second, output, gradient)."""
    return lambda b, node, i, g: rule(b, node.inputs[0], node.inputs[1], i, g)


def _extreme(b: Builder, x: int, y: int, g: int, chosen: str) -> int:
    """Half of it where both are equal, as PyTorch has it; nothing where the other is chosen."""
    half = b.mul(g, b.const(0.5))
    lost = b.pointwise("lt", *((x, y) if chosen == "larger" else (y, x)))
    return b.pointwise("where", lost, b.const(0), b.pointwise("where", b.pointwise("eq", x, y), half, g))


def _pow(b: Builder, x: int, y: int, out: int, g: int) -> tuple[int, int]:
    zero = b.const(0)
    slope = b.mul(y, b.pointwise("pow", x, b.sub(y, b.const(1))))
    by_x = b.mul(g, b.pointwise("where", b.pointwise("eq", y, zero), zero, slope))
    if b.is_const(y):
        return by_x, zero
    flat = b.mul(b.pointwise("eq", x, zero), b.pointwise("le", zero, y))
    by_y = b.pointwise("where", flat, zero, b.mul(g, b.mul(out, b.pointwise("log", x))))
    return by_x, by_y


def _where(b: Builder, node: Node, i: int, g: int) -> Sequence[int | None]:
    condition, zero = node.inputs[0], b.const(0)
    return None, b.pointwise("where", condition, g, zero), b.pointwise("where", condition, zero, g)


def _max(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    """Shared evenly by those that are equal to it."""
    x = node.inputs[0]
    chosen = b.pointwise("eq", x, _back(b, i, node, b.nodes[x]))
    count = b.reduce("sum", chosen, node.attrs[0])
    return (b.mul(chosen, _back(b, b.div(g, count), node, b.nodes[x])),)


def _back(b: Builder, value: int, reduced: Node, like: Node) -> int:
    """A reduced value in the shape that it was reduced from."""
    ones = tuple(1 if k in reduced.attrs[0] else d for k, d in enumerate(like.dims))
    return b.expand(b.reshape(value, ones), like.dims)


def _cat(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    dim, at, found = node.attrs[0], 0, []
    for j in node.inputs:
        size = b.nodes[j].dims[dim]
        found.append(b.slice(g, dim, at, 1, size))
        at += size
    return found


def _slice(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    dim, start, step = node.attrs
    return (b.pad(g, dim, start, step, b.nodes[node.inputs[0]].dims[dim]),)


def _pad(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    dim, start, step = node.attrs
    return (b.slice(g, dim, start, step, b.nodes[node.inputs[0]].dims[dim]),)


def _permute(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    order = node.attrs[0]
    return (b.permute(g, tuple(order.index(k) for k in range(len(order)))),)


def _matmul(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    value, matrix = node.inputs
    return b.matmul(g, b.permute(matrix, (1, 0))), b.outer(value, g, b.nodes[matrix])


def _contract(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    x, y = node.inputs
    first, second, out = node.attrs
    return b.contract(g, y, (out, second, first)), b.contract(g, x, (out, first, second))


def _none(b: Builder, node: Node, i: int, g: int) -> Sequence[None]:
    return (None,) * len(node.inputs)


def _pass(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    return (g,)


def _half_of(b: Builder, out: int, g: int) -> int:
    return b.div(g, b.mul(b.const(2), out))


RULES: dict[str, Rule] = {
    "input": _none,
    "const": _none,
    "neg": _unary(lambda b, x, out, g: b.pointwise("neg", g)),
    "abs": _unary(lambda b, x, out, g: b.mul(g, b.pointwise("sign", x))),
    "sign": _none,
    "floor": _none,
    "exp": _unary(lambda b, x, out, g: b.mul(g, out)),
    "log": _unary(lambda b, x, out, g: b.div(g, x)),
    "log1p": _unary(lambda b, x, out, g: b.div(g, b.add(x, b.const(1)))),
    "sin": _unary(lambda b, x, out, g: b.mul(g, b.pointwise("cos", x))),
    "cos": _unary(lambda b, x, out, g: b.pointwise("neg", b.mul(g, b.pointwise("sin", x)))),
    "erf": _unary(
        lambda b, x, out, g: b.mul(
            b.mul(b.const(2 / math.sqrt(math.pi)), b.pointwise("exp", b.pointwise("neg", b.mul(x, x)))), g
        )
    ),
    "tanh": _unary(lambda b, x, out, g: b.mul(g, b.sub(b.const(1), b.mul(out, out)))),
    "sigmoid": _unary(lambda b, x, out, g: b.mul(g, b.mul(b.sub(b.const(1), out), out))),
    "sqrt": _unary(lambda b, x, out, g: _half_of(b, out, g)),
    "root": _unary(
        lambda b, x, out, g: b.pointwise("where", b.pointwise("eq", out, b.const(0)), b.const(0), _half_of(b, out, g))
    ),
    "expm1": _unary(lambda b, x, out, g: b.mul(g, b.add(out, b.const(1)))),
    "add": _binary(lambda b, x, y, out, g: (g, g)),
    "sub": _binary(lambda b, x, y, out, g: (g, b.pointwise("neg", g))),
    "mul": _binary(lambda b, x, y, out, g: (b.mul(g, y), b.mul(g, x))),
    "div": _binary(lambda b, x, y, out, g: (b.div(g, y), b.pointwise("neg", b.mul(g, b.div(b.div(x, y), y))))),
    "pow": _binary(_pow),
    "mod": _binary(lambda b, x, y, out, g: (g, b.pointwise("neg", b.mul(g, b.pointwise("floor", b.div(x, y)))))),
    "maximum": _binary(lambda b, x, y, out, g: (_extreme(b, x, y, g, "larger"), _extreme(b, y, x, g, "larger"))),
    "minimum": _binary(lambda b, x, y, out, g: (_extreme(b, x, y, g, "smaller"), _extreme(b, y, x, g, "smaller"))),
    "lt": _none,
    "le": _none,
    "eq": _none,
    "ne": _none,
    "where": _where,
    "stop": _none,
    "permute": _permute,
    "slice": _slice,
    "expand": _pass,
    "reshape": lambda b, node, i, g: (b.reshape(g, b.nodes[node.inputs[0]].dims),),
    "cat": _cat,
    "pad": _pad,
    "sum": lambda b, node, i, g: (_back(b, g, node, b.nodes[node.inputs[0]]),),
    "max": _max,
    "total": _pass,
    "matmul": _matmul,
    "gemm": _none,  # made after differentiation
    "outer": _none,  # made by differentiation
    "contract": _contract,
}
