"""Products of joined values and parts of products, as sums of products: how gates that share a matrix lie apart."""

from __future__ import annotations

from conveyor.compiler.graph import Builder, Graph, Output


def distributed(graph: Graph) -> Graph:
    """The same step, with W · [h, x] as W_h · h + W_x · x, and a part of W · x + b as the product of a part of W."""
    b = Builder()
    new: list[int] = []
    for node in graph.nodes:
        inputs = [new[j] for j in node.inputs]
        if node.op == "matmul":
            made = _product(b, *inputs)
        elif node.op == "slice":
            dim, start, step = node.attrs
            made = _part(b, inputs[0], dim - len(node.dims), start, step, node.dims[dim])
        else:
            made = b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=node)
        new.append(made)
    return b.graph([Output(o.kind, o.name, new[o.node], o.role) for o in graph.outputs])


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
    if node.op == "matmul" and dim == -1:
        return b.matmul(node.inputs[0], b.slice(node.inputs[1], 1, start, step, size))
    return b.slice(i, rank + dim, start, step, size)


def _operand(b: Builder, i: int, dim: int, start: int, step: int, size: int) -> int:
    dims = b.nodes[i].dims
    if len(dims) < -dim or dims[dim] == 1:
        return i
    return _part(b, i, dim, start, step, size)
