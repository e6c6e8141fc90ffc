"""Reshaping, slicing, joining, and constants of a given shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.compiler.lower.lowering import Lowering, NoRule, Rule, Value


def _reshape(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return s.to_result(x)


def _same(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return x


def _expand(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    dims, rows = s.shapes[0]
    if rows and not s.rows(x) and x.rank == len(dims) + 1:
        x = s.beside(x, x.rank)
    missing = len(dims) - len(s.dims(x))
    return s.value(s.b.expand(s.b.reshape(x.i, (1,) * missing + s.dims(x)), dims))


def _permute(s: Lowering, x: Value, *order: Any, dims: Any = None) -> Value:
    order = tuple(dims or (order[0] if isinstance(order[0], tuple | list) else order))
    order = tuple(d % x.rank for d in order)
    if s.rows(x) and order[0] != 0:
        raise NoRule("it moves the batch to another dimension", NoRule.BATCH)
    return s.value(s.b.permute(x.i, tuple(s.axis(x, d) for d in order[s.rows(x) :])))


def _transpose(s: Lowering, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(x.rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(s, x, tuple(order))


def _t(s: Lowering, x: Value) -> Value:
    return x if x.rank < 2 else _permute(s, x, tuple(reversed(range(x.rank))))


def _chunk(s: Lowering, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    """Cut as PyTorch cut it when the step was traced."""
    axis, at, found = s.axis(x, dim), 0, []
    for dims, _ in s.shapes:
        found.append(Value(s.b.slice(x.i, axis, at, 1, dims[axis]), x.rank))
        at += dims[axis]
    return found


def _unbind(s: Lowering, x: Value, dim: int = 0) -> list[Value]:
    return [_select(s, x, dim, k) for k in range(len(s.shapes))]


def _select(s: Lowering, x: Value, dim: int, index: int) -> Value:
    axis, dims = s.axis(x, dim), s.dims(x)
    cut = s.b.slice(x.i, axis, index % dims[axis], 1, 1)
    return s.value(s.b.reshape(cut, (*dims[:axis], *dims[axis + 1 :])))


def _narrow(s: Lowering, x: Value, dim: int, start: int, length: int) -> Value:
    axis = s.axis(x, dim)
    return s.value(s.b.slice(x.i, axis, start % s.dims(x)[axis] if start else 0, 1, length))


def _getitem(s: Lowering, x: Value, index: Any) -> Value:
    if s.shapes[0][1] and not s.rows(x):
        raise NoRule("it takes as many parts as the batch has rows", NoRule.BATCH)
    dim = 0  # the dimension of the current x that the next item indexes
    for item in _without_ellipsis(index if isinstance(index, tuple) else (index,), x.rank):
        if isinstance(item, bool):
            raise NoRule("it indexes by a truth value", "write None for a new dimension")
        if isinstance(item, int):
            x = _select(s, x, dim, item)
            continue
        if item is None:
            x = _new_axis(s, x, dim)
        elif isinstance(item, slice):
            x = _cut(s, x, dim, item)
        else:
            raise NoRule("it indexes by a tensor or a list", "take slices, or torch.where")
        dim += 1
    return x


def _without_ellipsis(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """The index with `:` for each dimension that `...` stands for."""
    at = next((k for k, item in enumerate(index) if item is Ellipsis), None)
    if at is None:
        return index
    used = sum(1 for item in index if item is not None and item is not Ellipsis)
    return (*index[:at], *[slice(None)] * (rank - used), *index[at + 1 :])


def _new_axis(s: Lowering, x: Value, dim: int) -> Value:
    if dim == 0 and s.rows(x):
        raise NoRule("it puts a dimension before the batch", NoRule.BATCH)
    axis, dims = dim - s.rows(x), s.dims(x)
    return s.value(s.b.reshape(x.i, (*dims[:axis], 1, *dims[axis:])))


def _cut(s: Lowering, x: Value, dim: int, item: slice) -> Value:
    if dim == 0 and s.rows(x):
        # The result has rows if its first dimension grew with the batch: x[:len(x)] keeps all rows, x[:2] does not.
        whole = s.shapes[0][1] and item.start in (None, 0) and item.step in (None, 1)
        if whole and (item.stop is None or item.stop == 2):
            return x
        raise NoRule("it takes some rows of the batch", NoRule.BATCH)
    axis = s.axis(x, dim)
    start, stop, step = item.indices(s.dims(x)[axis])
    return s.value(s.b.slice(x.i, axis, start, step, len(range(start, stop, step))))


def _cat(s: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = s.result_axis(dim, "it joins along the batch dimension")
    rank = len(s.shapes[0][0])
    # PyTorch allows an empty one-dimensional tensor among tensors of any rank.
    tensors = [v for v in tensors if s.b.nodes[v.i].size or len(s.dims(v)) == rank]
    if any(len(s.dims(v)) != rank for v in tensors):
        raise NoRule("it joins values with a batch and values without", "expand the latter to the batch first")
    return s.value(s.b.cat([v.i for v in tensors], axis))


def _stack(s: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = s.result_axis(dim, "it stacks before the batch dimension")
    dims, _ = s.shapes[0]
    one = (*dims[:axis], 1, *dims[axis + 1 :])
    return s.value(s.b.cat([s.b.reshape(v.i, one) for v in tensors], axis))


def _roll(s: Lowering, x: Value, shifts: int, dims: Any = None) -> Value:
    axis = s.axes(x, dims)[0]
    size = s.dims(x)[axis]
    cut = -shifts % size
    parts = [(cut, size - cut), (0, cut)]
    return s.value(s.b.cat([s.b.slice(x.i, axis, start, 1, n) for start, n in parts if n], axis))


def _full(value: float) -> Rule:
    def rule(s: Lowering, *_: Any, **__: Any) -> Value:
        dims, _rows = s.shapes[0]
        return s.value(s.b.expand(s.b.const(value), dims))

    return rule


def _full_like(s: Lowering, x: Value, fill_value: Any, *_: Any, **__: Any) -> Value:
    return _full(fill_value)(s)


# Values have no memory of their own and all have one dtype here; trace.py refuses conversions that would round.
SAME = ("contiguous", "clone", "to", "float", "double", "type_as", "type", "identity", "alias", "requires_grad_")
# The result has the shape that it had when the step was traced, whatever the arguments.
RESHAPE = (
    "reshape",
    "view",
    "flatten",
    "unflatten",
    "unsqueeze",
    "squeeze",
    "view_as",
    "reshape_as",
    "ravel",
    "_unsafe_view",
)
EXPAND = ("expand", "expand_as", "broadcast_to")
ZEROS, ONES = ("zeros", "new_zeros", "zeros_like"), ("ones", "new_ones", "ones_like")
TOLD_SHAPES = {*RESHAPE, *EXPAND, *ZEROS, *ONES}  # functions whose numeric arguments are all shapes

SHAPES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(RESHAPE, _reshape),
    **dict.fromkeys(EXPAND, _expand),
    "permute": _permute,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "t": _t,
    "T": _t,
    "mT": lambda s, x: _transpose(s, x, -2, -1),
    "chunk": _chunk,
    "split": _chunk,
    "tensor_split": _chunk,
    "split_with_sizes": _chunk,
    "unbind": _unbind,
    "select": _select,
    "narrow": _narrow,
    "__getitem__": _getitem,
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "hstack": lambda s, tensors: _cat(s, tensors, -1),
    "stack": _stack,
    "roll": _roll,
    **dict.fromkeys(ZEROS, _full(0)),
    **dict.fromkeys(ONES, _full(1)),
    "full_like": _full_like,
}
