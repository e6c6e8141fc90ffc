"""Reverse-mode differentiation: from the graph of a step to the graph of one backward step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from conveyor.compiler.graph import Builder, Graph, Key, Node, Output, needed
from conveyor.compiler.ops import OPS


@dataclass(frozen=True)
class Costs:
    """What is cheap on a target, in multiplications for each element.

    `recompute`: what backward may spend to spare the saving of an element. `ops`: the costs of operations that differ
    from the declared ones.
    """

    recompute: int
    ops: Mapping[str, int] = field(default_factory=dict)

    def of(self, op: str) -> int:
        """The cost of an operation."""
        return self.ops.get(op, OPS[op].cost)


@dataclass(frozen=True)
class Derivative:
    """`forward`: the step, with further outputs that `backward` reads; `backward`: one step back in time."""

    forward: Graph
    backward: Graph


def differentiate(graph: Graph, wanted: Iterable[Key], given: Iterable[Key], costs: Costs) -> Derivative:
    """The forward and backward graphs of a step.

    The backward graph computes the gradients with respect to the inputs `wanted` from those with respect to the
    outputs `given` at each step; it always takes and returns the gradients of the states. It
    reads the "saved" outputs of the forward graph, the forward inputs, and the states "before" and "after" the step.
    """
    builder = Builder(graph.nodes)
    border = len(builder.nodes)
    gradients = _backward(builder, graph, set(wanted), set(given))
    outputs = []
    read = graph.inputs("state")
    for output in graph.outputs:
        if output.kind == "state":  # the step need not read it
            found = _or_zero(builder, gradients.get(read.get(output.name, -1)), graph.nodes[output.node])
            outputs.append(Output("state", output.name, found, "grad"))
    for key in sorted(key for key in wanted if key.kind != "state"):
        i = graph.inputs(key.kind)[key.name]
        if i not in gradients:
            continue  # nothing depends on it
        found = _or_zero(builder, gradients[i], graph.nodes[i])
        outputs.append(Output("stream" if graph.nodes[i].time else "once", key.name, found, "grad"))
    return _split(builder, border, graph, outputs, costs)


def _or_zero(b: Builder, gradient: int | None, like: Node) -> int:
    return b.expand(b.const(0.0), like.dims, like) if gradient is None else b.expand(gradient, like.dims, like)


def _backward(b: Builder, graph: Graph, wanted: set[Key], given: set[Key]) -> dict[int, int]:
    """The gradients with respect to all nodes that have one."""
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
            give(output.node, b.input("state", output.name, node.dims, True, True, "grad"))
        if output.key in given:
            give(output.node, b.input("stream", output.name, node.dims, True, True, f"grad {output.kind}"))
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if i in gradients and node.kind != "input":
            b.origin = node.origin and node.origin.rewritten
            for j, gradient in zip(node.inputs, OPS[node.op].derivative(b, node, i, gradients[i]), strict=True):
                if gradient is not None and j in active:
                    give(j, gradient)
    b.origin = None
    return gradients


def _active(graph: Graph, wanted: set[Key]) -> set[int]:
    """The nodes on a path from a wanted input or a state; states pass gradients on to the previous step."""
    active: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if node.op == "input":
            if node.key in wanted or node.key.kind == "state":
                active.add(i)
        elif any(j in active for j in node.inputs):
            active.add(i)
    return active


def _shrink(b: Builder, gradient: int, like: Node) -> int:
    """The gradient summed over everything along which `like` was broadcast: dimensions, rows, steps."""
    dims = b.nodes[gradient].dims
    extra = len(dims) - len(like.dims)
    summed = tuple(k for k in range(len(dims)) if k < extra or (like.dims[k - extra] == 1 and dims[k] != 1))
    gradient = b.reshape(b.reduce("sum", gradient, summed), like.dims) if summed else gradient
    node = b.nodes[gradient]
    # A value that varies only with the step is not summed over rows here; the values that it comes from are.
    fewer = Node("", rows=node.rows and (like.rows or like.time), time=node.time and like.time)
    return b.sum_to_shape(gradient, fewer)


def _split(b: Builder, border: int, graph: Graph, outputs: list[Output], costs: Costs) -> Derivative:
    """Splits the joint graph into the backward graph and the forward graph with the values that it must save."""
    after = {output.node: output.name for output in reversed(graph.outputs) if output.kind == "state"}
    backward = _Backward(b, border, after, costs)
    # In the order of the nodes: a value saved early may make later ones cheap to recompute.
    for i in _read_across(b, border, outputs):
        backward.bring(i)
    ends = [replace(o, node=backward.bring(o.node)) for o in outputs]
    saved = [Output("stream" if b.nodes[i].time else "once", name, i, "saved") for i, name in backward.saved.items()]
    return Derivative(Builder(graph.nodes).graph([*graph.outputs, *saved]), backward.new.graph(ends))


def _read_across(b: Builder, border: int, outputs: list[Output]) -> list[int]:
    """The forward nodes that backward nodes read."""
    read = needed(b.nodes, (output.node for output in outputs))
    return sorted({j for i in read if i >= border for j in b.nodes[i].inputs if j < border})


class _Backward:
    """Extracts the backward graph, `new`, from a builder with the forward nodes up to `border`, then the backward ones.

    `after`: the forward nodes that are states after the step. `saved`: the nodes that forward must save, with the names
    of their outputs.
    """

    def __init__(self, b: Builder, border: int, after: dict[int, str], costs: Costs):
        self.b, self.border, self.after, self.costs = b, border, after, costs
        self.new, self.saved = Builder(), dict[int, str]()
        self._known: dict[int, int] = {}

    def bring(self, i: int) -> int:
        """The index of a node in the new graph, to which it is added if necessary."""
        todo = [i]  # iterative, since a step can have more nodes than Python allows nested calls
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
        """The inputs that a node needs in the new graph; none if it is read as an input there."""
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
        self.saved[i] = f"{node.name or 'value'} {i}"
        return self.new.input("saved", self.saved[i], node.dims, node.rows, node.time)

    def _is_free(self, i: int) -> bool:
        """Whether backward can use a forward value that is not saved: it is available, or cheap to recompute.

        A reduction is saved rather than its larger operand. Values that all rows share count as cheap.
        """
        least: dict[int, int] = {}  # the smallest budget with which each node was visited
        todo = [(i, self.costs.recompute)]
        while todo:
            i, budget = todo.pop()
            node = self.b.nodes[i]
            if i in self._known or i in self.after or node.kind == "input" or not node.rows:
                continue
            if least.get(i, self.costs.recompute + 1) <= budget:
                continue
            least[i] = budget
            cost = self.costs.of(node.op)
            smaller = node.size < max(self.b.nodes[j].size for j in node.inputs)
            if cost > budget or (smaller and cost):
                return False
            todo += ((j, budget - cost) for j in node.inputs)
        return True
