"""The work of a graph: what must be computed or moved, and which values lie within others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from conveyor.compiler.conditions import conditions_of
from conveyor.compiler.graph import Graph, Node, Output


@dataclass(frozen=True)
class Layout:
    """A value as part of another: element (i, j, ...) is at offset + i * strides[0] + j * strides[1] ... of `root`."""

    root: int
    offset: int
    strides: tuple[int, ...]

    def is_whole(self, node: Node) -> bool:
        """Whether it is all of its root, element by element."""
        return self.offset == 0 and self.strides == packed(node.dims)


def packed(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an array without gaps."""
    return tuple(math.prod(dims[k + 1 :]) for k in range(len(dims)))


@dataclass(frozen=True)
class Item:
    """A piece of work. `op` is a node's, or "copy", "fill" (with zeros), "store" (to an output), or a part of
    "sum_to_shape": "accumulate" (onto what is there, row by row) and "colsum" (over all rows).

    `dims` is what it runs over; `args` are the nodes that it reads. What it makes belongs to `target`.
    """

    op: str
    args: tuple[int, ...]
    target: Layout
    dims: tuple[int, ...]
    rows: bool
    time: bool
    output: Output | None = None  # of a "store": which
    after: tuple[int, ...] = ()  # items that must have run before, besides those that make the arguments
    condition: int | None = None  # of a product: the node that it is under, as conditions_of finds it

    @property
    def domain(self) -> str:
        """What it runs over besides its dimensions."""
        return "time" if self.time else "rows" if self.rows else "shared"

    @property
    def fuses(self) -> bool:
        """Whether it can be a line in a loop over the elements of a value."""
        return self.op not in ("sum", "max", "contract", "gemm") and not self.sums_rows

    @property
    def moves(self) -> bool:
        """Whether it only writes to memory, and gives no value to the lines after it."""
        return self.op in ("copy", "fill", "store", "accumulate")

    @property
    def sums_rows(self) -> bool:
        """Whether it sums over all rows and steps in one go."""
        return self.op in ("weight_gradient", "colsum")


@dataclass
class Work:
    """All items of a graph, and the layout of every node."""

    graph: Graph
    nodes: list[Node]  # the graph's, and after these the copies that products needed
    items: list[Item] = field(default_factory=list)
    layouts: dict[int, Layout] = field(default_factory=dict)
    makers: dict[int, list[int]] = field(default_factory=dict)  # root -> the items that fill it
    stored: dict[int, Output] = field(default_factory=dict)  # root -> the output that it is
    conditions: dict[int, int] = field(default_factory=dict)  # as conditions_of finds them

    def needs(self, i: int) -> set[int]:
        """The items that must run before item i."""
        item = self.items[i]
        found = {m for j in item.args for m in self.makers.get(self.layouts[j].root, ())}
        return (found | set(item.after)) - {i}

    def whole(self, j: int) -> bool:
        """Whether a value is all of what it is a part of, element by element."""
        return self.layouts[j].is_whole(self.nodes[j])

    def lies_alone(self, root: int) -> bool:
        """Whether a value must have a place by itself, because somebody is given it."""
        return root in self.stored and not self.stored[root].is_saved

    def constant(self, j: int) -> float | None:
        """The number that all of a value is, if it is one."""
        root = self.nodes[self.layouts[j].root]
        return root.attrs[0] if root.op == "const" else None


def work(graph: Graph) -> Work:
    """The items of a graph, in an order in which each comes after what it needs."""
    w = Work(graph, list(graph.nodes), conditions=conditions_of(graph))
    for i, node in enumerate(graph.nodes):
        _add(w, i, node)
    for output in graph.outputs:
        node = graph.nodes[output.node]
        layout = w.layouts[output.node]
        if layout.root == output.node and layout.root in w.makers and layout.root not in w.stored:
            w.stored[layout.root] = output  # it lies where the output does from the start
        else:
            target = Layout(-1, 0, packed(node.dims))
            rows = node.rows or node.time
            w.items.append(Item("store", (output.node,), target, node.dims, rows, node.time, output))
    return w


def _put(w: Work, item: Item) -> int:
    """Adds an item, and gives its number."""
    # What varies with the step alone is computed for each row too: that costs little, and is one case less.
    w.items.append(replace(item, rows=item.rows or item.time))
    w.makers.setdefault(item.target.root, []).append(len(w.items) - 1)
    return len(w.items) - 1


def _own(w: Work, i: int) -> Layout:
    """A value that is part of no other."""
    w.layouts[i] = Layout(i, 0, packed(w.nodes[i].dims))
    return w.layouts[i]


def _add(w: Work, i: int, node: Node) -> None:
    if node.kind == "input":
        _own(w, i)
    elif node.kind == "view":
        _view(w, i, node)
    elif node.op == "cat":
        _cat(w, i, node)
    elif node.op == "pad":
        _pad(w, i, node)
    elif node.op == "sum_to_shape":
        _sum_to_shape(w, i, node)
    else:
        args = tuple(_readable(w, j, k, node.op) for k, j in enumerate(node.inputs))
        dims = w.nodes[args[0]].dims if node.op in ("sum", "max") else node.dims
        _put(w, Item(node.op, args, _own(w, i), dims, node.rows, node.time, condition=w.conditions.get(i)))


def _sum_to_shape(w: Work, i: int, node: Node) -> None:
    """Added up where it is made, row by row; or in one go, if it is stored for a weight's gradient anyway."""
    (j,) = node.inputs
    source = w.nodes[j]
    assert source.rows, "a gradient has rows"
    stored = any(n.op == "weight_gradient" and j in n.inputs for n in w.graph.nodes)
    if source.time and (node.rows or not stored):
        by_row = i if node.rows else _new_node(w, Node("copy", (j,), (), node.dims, rows=True))
        _put(w, Item("accumulate", (j,), _own(w, by_row), node.dims, source.rows, True))
        j = by_row
    if not node.rows:
        j = _readable(w, j, 0, "weight_gradient")
        _put(w, Item("colsum", (j,), _own(w, i), node.dims, w.nodes[j].rows, w.nodes[j].time))


def _new_node(w: Work, node: Node) -> int:
    w.nodes.append(node)
    return len(w.nodes) - 1


def _readable(w: Work, j: int, place: int, op: str) -> int:
    """The value that `op` reads in this place; a copy of it, if it does not lie as a matrix product reads it."""
    if op not in ("gemm", "weight_gradient") or (
        w.constant(j) is None and (_is_matrix(op, place) or _lies_even(w, j, op))
    ):
        return j
    node = w.nodes[j]
    new = _new_node(w, Node("copy", (j,), (), node.dims, node.rows, node.time))
    _put(w, Item("copy", (j,), _own(w, new), node.dims, node.rows, node.time))
    return new


def _is_matrix(op: str, place: int) -> bool:
    """Whether it is read to be packed, which any layout will do for."""
    return op == "gemm" and place % 2 == 1


def _lies_even(w: Work, j: int, op: str) -> bool:
    """Whether its last dimension is without gaps, and what is before that is one even run.

    And it must still be there: a sum over all steps comes too late to read a state that each step overwrites.
    """
    node, layout, root = w.nodes[j], w.layouts[j], w.nodes[w.layouts[j].root]
    overwritten = op == "weight_gradient" and root.op == "input" and root.attrs[0] == "state"
    dense = not node.dims or node.dims[-1] == 1 or layout.strides[-1] == 1
    return not overwritten and dense and len(_runs(node.dims[:-1], layout.strides[:-1])) <= 1


def _view(w: Work, i: int, node: Node) -> None:
    (j,) = node.inputs
    source = w.nodes[j]
    layout = _seen(w.layouts[j], source.dims, node)
    if layout is not None:
        w.layouts[i] = layout
        return
    _own(w, i)  # it does not lie in order: a copy does; shaped as the source while it is made
    _put(w, Item("copy", (j,), Layout(i, 0, packed(source.dims)), source.dims, source.rows, source.time))


def _seen(base: Layout, dims: tuple[int, ...], view: Node) -> Layout | None:
    """The layout of a view of a value [dims]; none if the same elements cannot be seen that way."""
    if view.op == "permute":
        return replace(base, strides=tuple(base.strides[k] for k in view.attrs[0]))
    if view.op == "slice":
        dim, start, step = view.attrs
        strides = tuple(s * step if k == dim else s for k, s in enumerate(base.strides))
        return Layout(base.root, base.offset + start * base.strides[dim], strides)
    if view.op == "expand":
        return replace(base, strides=spread(dims, base.strides, view.dims))
    reshaped = _reshaped(dims, base.strides, view.dims)
    return None if reshaped is None else replace(base, strides=reshaped)


def spread(dims: tuple[int, ...], strides: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a value broadcast to another shape."""
    missing = len(to) - len(dims)
    return (0,) * missing + tuple(0 if d == 1 else s for d, s in zip(dims, strides, strict=True))


def _reshaped(dims: tuple[int, ...], strides: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides under which the same elements have another shape, if there are such."""
    if math.prod(dims) == 0:
        return packed(to)
    found: list[int] = []  # from the last dimension to the first
    todo = _runs(dims, strides)
    for k in reversed(range(len(to))):
        if to[k] == 1:
            found.append(0)
            continue
        if not todo:
            return None
        size, stride = todo.pop()
        if size % to[k]:
            return None
        found.append(stride)
        if size > to[k]:
            todo.append((size // to[k], stride * to[k]))
    return tuple(reversed(found))


def _runs(dims: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """The longest pieces that lie in order: the size of each, and the stride of its last dimension."""
    runs: list[tuple[int, int]] = []
    for d, s in zip(dims, strides, strict=True):
        if d == 1:
            continue
        if runs and runs[-1][1] == s * d:
            runs[-1] = (runs[-1][0] * d, s)
        else:
            runs.append((d, s))
    return runs


def _cat(w: Work, i: int, node: Node) -> None:
    target, at = _own(w, i), 0
    dim = node.attrs[0]
    for j in node.inputs:
        dims = w.nodes[j].dims
        place = Layout(i, at * target.strides[dim], target.strides)
        _put(w, Item("copy", (j,), place, dims, node.rows, node.time))
        at += dims[dim]


def _pad(w: Work, i: int, node: Node) -> None:
    dim, start, step = node.attrs
    target = _own(w, i)
    fill = _put(w, Item("fill", (), target, node.dims, node.rows, node.time))
    strides = tuple(s * step if k == dim else s for k, s in enumerate(target.strides))
    place = Layout(i, start * target.strides[dim], strides)
    dims = w.nodes[node.inputs[0]].dims
    _put(w, Item("copy", node.inputs, place, dims, node.rows, node.time, after=(fill,)))
