"""Operations on whole arrays: inputs, views, moves, reductions and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conveyor.compiler.ops.declare import Dims, Op, broadcast, no_derivative

if TYPE_CHECKING:
    from conveyor.compiler.graph import Builder, Node


# --- shapes ---


def _as_asked(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    return asked


def _number(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    return ()


def _own(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    return dims[0]


def _permuted(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    assert sorted(attrs[0]) == list(range(len(dims[0]))), f"{dims[0]} is permuted by {attrs[0]}"
    return tuple(dims[0][k] for k in attrs[0])


def _expanded(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    assert broadcast((dims[0], asked)) == asked, f"{dims[0]} is expanded to {asked}"
    return asked


def _reshaped(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    assert math.prod(dims[0]) == math.prod(asked), f"{dims[0]} is reshaped to {asked}"
    return asked


def _resized(dims: Dims, dim: int, size: int) -> Dims:
    return (*dims[:dim], size, *dims[dim + 1 :])


def _within(start: int, step: int, count: int, size: int) -> bool:
    return not count or 0 <= start <= start + step * (count - 1) < size


def _sliced(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    dim, start, step = attrs
    assert _within(start, step, asked[dim], dims[0][dim]), f"{asked[dim]} of {dims[0][dim]}, from {start} by {step}"
    return _resized(dims[0], dim, asked[dim])


def _padded(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    dim, start, step = attrs
    assert _within(start, step, dims[0][dim], asked[dim]), f"{dims[0][dim]} in {asked[dim]}, from {start} by {step}"
    return _resized(dims[0], dim, asked[dim])


def _joined(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    (dim,) = attrs
    return _resized(dims[0], dim, sum(each[dim] for each in dims))


def _reduced(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    return tuple(d for k, d in enumerate(dims[0]) if k not in attrs[0])


def _multiplied(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    """The shape of value @ matrix, which must be the same for all pairs."""
    shapes = {(*value[:-1], matrix[1]) for value, matrix in zip(dims[::2], dims[1::2], strict=True)}
    inner = all(value[-1] == matrix[0] for value, matrix in zip(dims[::2], dims[1::2], strict=True))
    assert len(shapes) == 1 and inner, f"a product of {', '.join(map(str, dims))}"  # noqa: PT018
    return shapes.pop()


def _by_columns(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    return dims[0][-1], dims[1][-1]


def _contracted(dims: Sequence[Dims], attrs: tuple[Any, ...], asked: Dims) -> Dims:
    first, second, out = attrs
    sizes = dict(zip(first + second, dims[0] + dims[1], strict=True))
    return tuple(sizes[letter] for letter in out)


# --- values ---


def _behind(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(d + 1 for d in dims)


def _value_of_expand(node: Node, values: Sequence[Tensor]) -> Tensor:
    (value,) = values
    aligned = value.reshape(len(value), *[1] * (len(node.dims) + 1 - value.dim()), *value.shape[1:])
    return aligned.expand(len(value), *node.dims)


def _value_of_slice(node: Node, values: Sequence[Tensor]) -> Tensor:
    dim, start, step = node.attrs
    return values[0].index_select(dim + 1, torch.arange(node.dims[dim]) * step + start)


def _value_of_pad(node: Node, values: Sequence[Tensor]) -> Tensor:
    (value,), (dim, start, step) = values, node.attrs
    indices = torch.arange(value.shape[dim + 1]) * step + start
    return value.new_zeros(len(value), *node.dims).index_copy(dim + 1, indices, value)


def _value_of_cat(node: Node, values: Sequence[Tensor]) -> Tensor:
    rows = max(map(len, values))
    return torch.cat([v.expand(rows, *v.shape[1:]) for v in values], node.attrs[0] + 1)


def _value_of_contract(node: Node, values: Sequence[Tensor]) -> Tensor:
    rows = max(map(len, values))
    first, second, out = node.attrs
    return torch.einsum(f"Z{first},Z{second}->Z{out}", *(v.expand(rows, *v.shape[1:]) for v in values))


def _value_of_products(node: Node, values: Sequence[Tensor]) -> Tensor:
    return sum((v @ w[0] for v, w in zip(values[2::2], values[3::2], strict=True)), values[0] @ values[1][0])


# --- derivatives ---


def _pass(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    return (g,)


def _back(b: Builder, value: int, reduced: Node, like: Node) -> int:
    """A reduced value, broadcast to the shape before the reduction."""
    ones = tuple(1 if k in reduced.attrs[0] else d for k, d in enumerate(like.dims))
    return b.expand(b.reshape(value, ones), like.dims)


def _max(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    """The gradient is shared equally by all elements that equal the maximum."""
    x = node.inputs[0]
    chosen = b.pointwise("eq", x, _back(b, i, node, b.nodes[x]))
    count = b.reduce("sum", chosen, node.attrs[0])
    return (b.mul(chosen, _back(b, b.div(g, count), node, b.nodes[x])),)


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
    return b.matmul(g, b.permute(matrix, (1, 0))), b.weight_gradient(value, g, b.nodes[matrix])


def _contract(b: Builder, node: Node, i: int, g: int) -> Sequence[int]:
    x, y = node.inputs
    first, second, out = node.attrs
    return b.contract(g, y, (out, second, first)), b.contract(g, x, (out, first, second))


def _same(magnitude: float) -> float:
    return magnitude


def _largest_of(*magnitudes: float) -> float:
    return max(magnitudes)


STILL: dict[str, Any] = {"largest": _same, "is_finite": True, "keeps_zero": True}  # operations that only move elements

ARRAYS: dict[str, Op] = {
    # Inputs and constants.
    "input": Op("input", 0, _as_asked, None, no_derivative, 0),
    "const": Op(
        "input", 0, _number, lambda node, _: torch.tensor([node.attrs[0]], dtype=torch.float64), no_derivative, 0
    ),
    # Views of the same elements: no work, except to reshape a value that is not contiguous.
    "permute": Op(
        "view", 1, _permuted, lambda node, values: values[0].permute(0, *_behind(node.attrs[0])), _permute, 0, **STILL
    ),
    "slice": Op("view", 1, _sliced, _value_of_slice, _slice, 0, **STILL),
    "expand": Op("view", 1, _expanded, _value_of_expand, _pass, 0, **STILL),
    "reshape": Op(
        "view",
        1,
        _reshaped,
        lambda node, values: values[0].reshape(len(values[0]), *node.dims),
        lambda b, node, i, g: (b.reshape(g, b.nodes[node.inputs[0]].dims),),
        0,
        **STILL,
    ),
    # Copies of elements to other positions.
    "cat": Op("move", None, _joined, _value_of_cat, _cat, largest=_largest_of, is_finite=True),
    "pad": Op("move", 1, _padded, _value_of_pad, _pad, **STILL),
    # Reductions.
    "sum": Op(
        "reduce",
        1,
        _reduced,
        lambda node, values: values[0].sum(_behind(node.attrs[0])),
        lambda b, node, i, g: (_back(b, g, node, b.nodes[node.inputs[0]]),),
        2,
        is_finite=True,
        keeps_zero=True,
    ),
    "max": Op(
        "reduce", 1, _reduced, lambda node, values: values[0].amax(_behind(node.attrs[0])), _max, 2, largest=_largest_of
    ),
    # The sum over rows, steps or both, whichever the result does not have.
    "sum_to_shape": Op("reduce", 1, _own, None, _pass, 2),
    # Products.
    "matmul": Op("product", 2, _multiplied, _value_of_products, _matmul, 1000),  # value, shared matrix
    "gemm": Op("product", None, _multiplied, _value_of_products, no_derivative, 1000),  # the sum of several matmuls
    # The gradient with respect to a matrix, summed over all rows and steps.
    "weight_gradient": Op("product", 2, _by_columns, None, no_derivative, 1000),
    "contract": Op("product", 2, _contracted, _value_of_contract, _contract, 100),  # two values of the same row
}
