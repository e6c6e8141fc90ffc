"""One form for what can be written in several: how gates that share a matrix lie apart, and a logistic function."""

from __future__ import annotations

from conveyor.compiler.graph import Builder, Graph, Output


def distributed(graph: Graph) -> Graph:
    """The same step, with W · [h, x] as W_h · h + W_x · x, a part of W · x + b as the product of a part of W, and
    1 / (1 + exp(-a)) as σ(a)."""
    b = Builder()
    new: list[int] = []
    for node in graph.nodes:
        inputs = [new[j] for j in node.inputs]
        if node.op == "matmul":
            made = _product(b, *inputs)
        elif node.op == "slice":
            dim, start, step = node.attrs
            made = _part(b, inputs[0], dim - len(node.dims), start, step, node.dims[dim])
        elif node.op == "div" and (logit := _logit(b, *inputs)) is not None:
            made = b.pointwise("sigmoid", logit)
        elif node.op == "reshape":
            made = b.reshape(inputs[0], node.dims)
        else:
            made = b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=node)
        new.append(made)
    return b.graph([Output(o.kind, o.name, new[o.node], o.role) for o in graph.outputs])


def _logit(b: Builder, one: int, sum_: int) -> int | None:
    """The value a of 1 / (1 + exp(-a))."""
    if not b.is_const(one, 1.0) or b.nodes[sum_].op != "add":
        return None
    for first, second in (b.nodes[sum_].inputs, b.nodes[sum_].inputs[::-1]):
        if b.is_const(first, 1.0) and b.nodes[second].op == "exp":
            inner = b.nodes[second].inputs[0]
            return b.nodes[inner].inputs[0] if b.nodes[inner].op == "neg" else b.pointwise("neg", inner)
    return None


def _product(b: Builder, value: int, matrix: int) -> int:
    node = b.nodes[value]
    if node.op != "cat" or node.attrs[0] != len(node.dims) - 1:
        return b.matmul(value, matrix)
    at, products = 0, []
    for piece in node.inputs:
        width = b.nodes[piece].dims[-1]
        products.append(_product(b, piece, b.slice(matrix, 0, at, 1, width)))
        at += width
    total = products[0]
    for product in products[1:]:
        total = b.add(total, product)
    return total


def _part(b: Builder, i: int, dim: int, start: int, step: int, size: int) -> int:
    """A slice along `dim`, counted from the end; what has no such dimension, or one of size 1, is the same for all."""
    node = b.nodes[i]
    rank = len(node.dims)
    if node.op == "add" and all(b.nodes[j].dims[dim:] for j in node.inputs):
        return b.add(*(_operand(b, j, dim, start, step, size) for j in node.inputs))
    if node.op in ("sigmoid", "tanh"):
        return b.pointwise(node.op, _part(b, node.inputs[0], dim, start, step, size))
    if node.op == "reshape" and rank == 2 and size == 1 and len(b.nodes[node.inputs[0]].dims) == 1:
        outer, inner = node.dims  # a row, or a column, of a vector laid out as a matrix
        first, every, count = (start * inner, 1, inner) if dim == -2 else (start, inner, outer)
        return b.reshape(_part(b, node.inputs[0], -1, first, every, count), (1, count) if dim == -2 else (count, 1))
    if node.op == "matmul" and dim == -1:
        return b.matmul(node.inputs[0], b.slice(node.inputs[1], 1, start, step, size))
    return b.slice(i, rank + dim, start, step, size)


def _operand(b: Builder, i: int, dim: int, start: int, step: int, size: int) -> int:
    dims = b.nodes[i].dims
    if len(dims) < -dim or dims[dim] == 1:
        return i
    return _part(b, i, dim, start, step, size)
