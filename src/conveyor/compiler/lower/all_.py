"""What each PyTorch function is, in the operations of ops.py. A new function joins in one of the tables here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from conveyor.compiler.graph import Builder


@dataclass(frozen=True)
class Value:
    """A tensor of the step: its node, and its rank in PyTorch (with the batch, if it has rows)."""

    i: int
    rank: int


class NoRule(Exception):
    """Something that a kernel cannot be made of."""

    CURE = "write it with other operations (arithmetic, activations, torch.where, sums over features, matrix products)"
    BATCH = "keep the batch as the first dimension of every value"

    def __init__(self, reason: str, cure: str = CURE):
        super().__init__(reason)
        self.cure = cure


Number = float | int | bool
Any_ = Value | Number


class Lowering:
    """The builder, and what PyTorch's rules of shapes are in it."""

    def __init__(self, builder: Builder, dtype: torch.dtype = torch.float32):
        self.b, self.dtype = builder, dtype
        self.shapes: list[tuple[tuple[int, ...], bool]] = []  # the results' feature shapes, and if they have rows

    def rows(self, v: Value) -> bool:
        return self.b.nodes[v.i].rows

    def dims(self, v: Value) -> tuple[int, ...]:
        return self.b.nodes[v.i].dims

    def value(self, i: int) -> Value:
        node = self.b.nodes[i]
        return Value(i, len(node.dims) + node.rows)

    def lift(self, v: Any_) -> Value:
        if isinstance(v, Value):
            return v
        if isinstance(v, bool | int | float):
            return Value(self.b.const(v), 0)
        raise NoRule(f"a number is wanted, not {v!r}")

    def apply(self, op: str, *values: Any_) -> Value:
        """A pointwise op, its values lined up as PyTorch does it: at the last dimension."""
        lifted = [self.lift(v) for v in values]
        rank = max(v.rank for v in lifted)
        if any(map(self.rows, lifted)):
            lifted = [self._beside(v, rank) for v in lifted]
        return Value(self.b.pointwise(op, *(v.i for v in lifted)), rank)

    def _beside(self, v: Value, rank: int) -> Value:
        """A value beside others that have rows."""
        if self.rows(v):
            if v.rank != rank:
                raise NoRule("the batch meets another dimension in broadcasting", NoRule.BATCH)
            return v
        if v.rank < rank:
            return v
        if self.dims(v)[0] != 1:
            raise NoRule("a value without a batch meets the batch dimension in broadcasting", NoRule.BATCH)
        return Value(self.b.reshape(v.i, self.dims(v)[1:]), rank - 1)

    def axis(self, v: Value, dim: int) -> int:
        """PyTorch's dimension as one of the features."""
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise NoRule(f"a dimension is a whole number, not {dim!r}")
        found = (dim + v.rank if dim < 0 else dim) - self.rows(v)
        if found < 0:
            raise NoRule("it works over the batch dimension, but rows are independent of each other", NoRule.BATCH)
        return found

    def axes(self, v: Value, dim: Any) -> tuple[int, ...]:
        if dim is None or dim == () or dim == []:
            if self.rows(v):
                raise NoRule("it works over all dimensions, the batch too", "give dim=-1, for the features")
            return tuple(range(v.rank))
        return tuple(sorted(self.axis(v, d) for d in (dim if isinstance(dim, tuple | list) else (dim,))))

    def reduce(self, op: str, v: Value, dim: Any, keepdim: bool = False) -> Value:
        axes = self.axes(v, dim)
        found = self.b.reduce(op, v.i, axes)
        if keepdim:
            kept = tuple(1 if k in axes else d for k, d in enumerate(self.dims(v)))
            return Value(self.b.reshape(found, kept), v.rank)
        return Value(found, v.rank - len(axes))

    def count(self, v: Value, dim: Any) -> int:
        return math.prod(self.dims(v)[k] for k in self.axes(v, dim))

    def to_result(self, v: Value) -> Value:
        """Reshaped to the shape of the result."""
        dims, rows = self.shapes[0]
        if rows != self.rows(v):
            raise NoRule("it joins the batch with another dimension", NoRule.BATCH)
        return Value(self.b.reshape(v.i, dims), len(dims) + rows)

    def product(self, a: Value, la: str, b: Value, lb: str, out: str) -> Value:
        """The sum of products over the feature labels that `out` lacks."""
        a, la = self._summed(a, la, lb + out)
        b, lb = self._summed(b, lb, la + out)
        shared = [self.b.nodes[v.i].shared for v in (a, b)]
        if shared[0] and not shared[1]:
            a, la, b, lb = b, lb, a, la
        both = [c for c in la if c in lb]
        sums = [c for c in both if c not in out]
        if not sums or not self.b.nodes[b.i].shared:
            return self.value(self.b.contract(a.i, b.i, (la, lb, out)))
        batch = [c for c in both if c in out]
        if batch:
            return self._each(a, la, b, lb, out, batch[0])
        free_a, free_b = [c for c in la if c not in sums], [c for c in lb if c not in sums]
        sizes = dict(zip(la + lb, self.dims(a) + self.dims(b), strict=True))
        inner = math.prod(sizes[c] for c in sums)
        value = self.b.reshape(self._ordered(a, la, free_a + sums), (*(sizes[c] for c in free_a), inner))
        matrix = self.b.reshape(self._ordered(b, lb, sums + free_b), (inner, math.prod(sizes[c] for c in free_b)))
        found = self.b.reshape(self.b.matmul(value, matrix), tuple(sizes[c] for c in free_a + free_b))
        return self.value(self.b.permute(found, tuple((free_a + free_b).index(c) for c in out)))

    def _ordered(self, v: Value, labels: str, order: list[str]) -> int:
        return self.b.permute(v.i, tuple(labels.index(c) for c in order))

    def _summed(self, v: Value, labels: str, needed: str) -> tuple[Value, str]:
        alone = tuple(k for k, c in enumerate(labels) if c not in needed)
        return self.value(self.b.reduce("sum", v.i, alone)), "".join(c for c in labels if c in needed)

    def _each(self, a: Value, la: str, b: Value, lb: str, out: str, label: str) -> Value:
        """One product for each index of a label that both have, such as a head."""
        count = self.dims(a)[la.index(label)]
        found = []
        for k in range(count):
            parts = [self._at(v, labels, label, k) for v, labels in ((a, la), (b, lb))]
            rest = out.replace(label, "")
            one = self.product(parts[0], la.replace(label, ""), parts[1], lb.replace(label, ""), rest)
            at = out.index(label)
            dims = self.dims(one)
            found.append(self.b.reshape(one.i, (*dims[:at], 1, *dims[at:])))
        return self.value(self.b.cat(found, out.index(label)))

    def _at(self, v: Value, labels: str, label: str, k: int) -> Value:
        dim = labels.index(label)
        dims = self.dims(v)
        return self.value(self.b.reshape(self.b.slice(v.i, dim, k, 1, 1), (*dims[:dim], *dims[dim + 1 :])))


def _unary(op: str) -> Callable[..., Value]:
    return lambda s, x: s.apply(op, x)


def _binary(op: str) -> Callable[..., Value]:
    return lambda s, x, y: s.apply(op, x, y)


def _swapped(op: str) -> Callable[..., Value]:
    return lambda s, x, y: s.apply(op, y, x)


def _sum_of(s: Lowering, op: str, x: Any_, y: Any_, alpha: Any_) -> Value:
    return s.apply(op, x, y if alpha == 1 else s.apply("mul", alpha, y))


def _where(s: Lowering, condition: Value, x: Any_, y: Any_) -> Value:
    return s.apply("where", condition, x, y)


def _relu(s: Lowering, x: Value, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    return _where(s, s.apply("le", x, 0), 0, x)  # a NaN stays one


def _not_in_place(inplace: bool) -> None:
    if inplace:
        raise NoRule("it works in place", "leave inplace=True out")


def _leaky_relu(s: Lowering, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    return _where(s, s.apply("lt", 0, x), x, s.apply("mul", x, negative_slope))


def _elu(s: Lowering, x: Value, alpha: float = 1.0, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    high = s.apply("lt", 0, x)
    return _where(s, high, x, s.apply("mul", s.apply("expm1", _where(s, high, 0, x)), alpha))


def _softplus(s: Lowering, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    scaled = s.apply("mul", x, beta)
    high = s.apply("lt", threshold, scaled)
    # The branch that is not taken must not overflow: its gradient would be 0 * inf.
    soft = s.apply("div", s.apply("log1p", s.apply("exp", _where(s, high, 0, scaled))), beta)
    return _where(s, high, x, soft)


def _gelu(s: Lowering, x: Value, approximate: str = "none") -> Value:
    half = s.apply("mul", x, 0.5)
    if approximate == "tanh":
        cube = s.apply("mul", s.apply("mul", x, x), x)
        inner = s.apply("mul", s.apply("add", x, s.apply("mul", cube, 0.044715)), math.sqrt(2 / math.pi))
        return s.apply("mul", half, s.apply("add", s.apply("tanh", inner), 1))
    return s.apply("mul", half, s.apply("add", s.apply("erf", s.apply("mul", x, math.sqrt(0.5))), 1))


def _silu(s: Lowering, x: Value, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    return s.apply("mul", x, s.apply("sigmoid", x))


def _within(s: Lowering, x: Value, inside: Value, clamped: Value) -> Value:
    """x where it is inside, else `clamped` without a gradient; a NaN is not inside, and stays one."""
    return _where(s, inside, x, s.apply("stop", clamped))


def _hardtanh(s: Lowering, x: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    """Like clamp, but flat at its bounds themselves."""
    _not_in_place(inplace)
    low, high = s.apply("lt", min_val, x), s.apply("lt", x, max_val)
    return _within(s, x, s.apply("mul", low, high), _clamped(s, x, min_val, max_val))


def _hardsigmoid(s: Lowering, x: Value, inplace: bool = False) -> Value:
    return s.apply("div", _hardtanh(s, s.apply("add", x, 3), 0, 6, inplace), 6)


def _hardswish(s: Lowering, x: Value, inplace: bool = False) -> Value:
    return s.apply("mul", x, _hardsigmoid(s, x, inplace))


def _logsigmoid(s: Lowering, x: Value) -> Value:
    low = s.apply("minimum", x, 0)
    return s.apply("sub", low, s.apply("log1p", s.apply("exp", s.apply("neg", s.apply("abs", x)))))


def _softsign(s: Lowering, x: Value) -> Value:
    return s.apply("div", x, s.apply("add", s.apply("abs", x), 1))


def _clamped(s: Lowering, x: Value, low: Any, high: Any) -> Value:
    found = x if low is None else _where(s, s.apply("lt", x, low), low, x)
    return found if high is None else _where(s, s.apply("lt", high, found), high, found)


def _clamp(s: Lowering, x: Value, min: Any = None, max: Any = None) -> Value:
    """At its bounds the gradient passes."""
    if isinstance(min, Value) or isinstance(max, Value):
        return _clamped(s, x, min, max)
    inside = [s.apply("le", min, x)] if min is not None else []
    inside += [s.apply("le", x, max)] if max is not None else []
    return _within(s, x, s.apply("mul", *inside) if len(inside) > 1 else inside[0], _clamped(s, x, min, max))


def _div(s: Lowering, x: Any_, y: Any_, rounding_mode: str | None = None) -> Value:
    quotient = s.apply("div", x, y)
    if rounding_mode is None:
        return quotient
    if rounding_mode == "floor":
        return s.apply("floor", quotient)
    raise NoRule(f"division with rounding_mode={rounding_mode!r} has no rule")


def _pow(s: Lowering, x: Any_, y: Any_) -> Value:
    whole = {1: lambda: s.lift(x), 2: lambda: s.apply("mul", x, x), 0.5: lambda: s.apply("sqrt", x)}
    whole[3] = lambda: s.apply("mul", s.apply("mul", x, x), x)
    whole[-1] = lambda: s.apply("div", 1, x)
    return whole[y]() if not isinstance(y, Value) and y in whole else s.apply("pow", x, y)


def _not(s: Lowering, x: Value) -> Value:
    return s.apply("eq", x, 0)


def _and(s: Lowering, x: Value, y: Value) -> Value:
    return s.apply("mul", s.apply("ne", x, 0), s.apply("ne", y, 0))


def _or(s: Lowering, x: Value, y: Value) -> Value:
    return s.apply("maximum", s.apply("ne", x, 0), s.apply("ne", y, 0))


def _lerp(s: Lowering, x: Value, end: Value, weight: Any_) -> Value:
    return s.apply("add", x, s.apply("mul", weight, s.apply("sub", end, x)))


def _addcmul(s: Lowering, x: Value, y: Value, z: Value, value: float = 1) -> Value:
    return s.apply("add", x, s.apply("mul", s.apply("mul", y, z), value))


def _two_of(reduced: str, binary: str) -> Callable[..., Value]:
    """torch.max and torch.min of two tensors."""

    def rule(s: Lowering, x: Value, other: Any = None, *more: Any, **named: Any) -> Value:
        if not isinstance(other, Value) or more or named:
            raise NoRule(f"{reduced} over a dimension also gives where it is", f"write torch.a{reduced}(x, dim)")
        return s.apply(binary, x, other)

    return rule


def _sum(s: Lowering, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return s.reduce("sum", x, dim, keepdim)


def _mean(s: Lowering, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return s.apply("div", s.reduce("sum", x, dim, keepdim), s.count(x, dim))


def _amax(s: Lowering, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return s.reduce("max", x, dim, keepdim)


def _amin(s: Lowering, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return s.apply("neg", s.reduce("max", s.apply("neg", x), dim, keepdim))


def _var(
    s: Lowering, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: Any = None
) -> Value:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    lost = int(unbiased) if correction is None else correction
    away = s.apply("sub", x, _mean(s, x, dim, keepdim=True))
    squares = s.reduce("sum", s.apply("mul", away, away), dim, keepdim)
    return s.apply("div", squares, s.count(x, dim) - lost)


def _norm(s: Lowering, x: Value, p: Any = 2, dim: Any = None, keepdim: bool = False, **more: Any) -> Value:
    p = more.get("ord", p)
    if p in (2, "fro", None):
        return s.apply("root", s.reduce("sum", s.apply("mul", x, x), dim, keepdim))
    if p == 1:
        return s.reduce("sum", s.apply("abs", x), dim, keepdim)
    raise NoRule(f"the norm of order {p!r} has no rule", "take order 2 or 1, or write it as a sum")


def _normalize(s: Lowering, x: Value, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Value:
    return s.apply("div", x, _clamp(s, _norm(s, x, p, dim, True), min=eps))


def _exps(s: Lowering, x: Value, dim: Any) -> tuple[Value, Value]:
    """x less its largest (finite, so that no inf - inf comes), and the exponentials of that."""
    top = s.apply("stop", s.reduce("max", x, dim, True))
    away = s.apply("sub", x, top)
    return away, s.apply("exp", away)


def _softmax(s: Lowering, x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    _, e = _exps(s, x, dim)
    return s.apply("div", e, s.reduce("sum", e, dim, True))


def _log_softmax(s: Lowering, x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    away, e = _exps(s, x, dim)
    return s.apply("sub", away, s.apply("log", s.reduce("sum", e, dim, True)))


def _logsumexp(s: Lowering, x: Value, dim: Any, keepdim: bool = False) -> Value:
    top, shift = (_finite(s, s.apply("stop", s.reduce("max", x, dim, kept))) for kept in (True, keepdim))
    e = s.apply("exp", s.apply("sub", x, top))
    return s.apply("add", s.apply("log", s.reduce("sum", e, dim, keepdim)), shift)


def _finite(s: Lowering, x: Value) -> Value:
    """0 in the place of an infinity."""
    return _where(s, s.apply("eq", s.apply("abs", x), math.inf), 0, x)


def _layer_norm(
    s: Lowering, x: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Value:
    dim = tuple(range(-len(normalized_shape), 0))
    away = s.apply("sub", x, _mean(s, x, dim, True))
    spread = s.apply("sqrt", s.apply("add", _mean(s, s.apply("mul", away, away), dim, True), eps))
    found = s.apply("div", away, spread)
    found = found if weight is None else s.apply("mul", found, weight)
    return found if bias is None else s.apply("add", found, bias)


def _rms_norm(s: Lowering, x: Value, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Value:
    dim = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(s.dtype).eps if eps is None else eps
    size = s.apply("sqrt", s.apply("add", _mean(s, s.apply("mul", x, x), dim, True), eps))
    found = s.apply("div", x, size)
    return found if weight is None else s.apply("mul", found, weight)


def _reshape(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return s.to_result(x)


def _same(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return x


def _expand(s: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    dims, rows = s.shapes[0]
    if rows and not s.rows(x) and x.rank == len(dims) + 1:
        x = s._beside(x, x.rank)
    rank = len(dims)
    if len(s.dims(x)) < rank:
        x = Value(s.b.reshape(x.i, (1,) * (rank - len(s.dims(x))) + s.dims(x)), 0)
    return s.value(s.b.expand(x.i, dims))


def _permute(s: Lowering, x: Value, *order: Any, dims: Any = None) -> Value:
    order = tuple(dims or (order[0] if isinstance(order[0], tuple | list) else order))
    order = tuple(d % x.rank for d in order)
    if s.rows(x) and order[0] != 0:
        raise NoRule("it moves the batch to another dimension", NoRule.BATCH)
    return s.value(s.b.permute(x.i, tuple(s.axis(x, d) for d in order if not (s.rows(x) and d == 0))))


def _transpose(s: Lowering, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(x.rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(s, x, tuple(order))


def _t(s: Lowering, x: Value) -> Value:
    return x if x.rank < 2 else _permute(s, x, tuple(reversed(range(x.rank))))


def _pieces(s: Lowering, x: Value, dim: int) -> list[Value]:
    """Cut as the result is."""
    axis, at, found = s.axis(x, dim), 0, []
    for dims, _ in s.shapes:
        found.append(Value(s.b.slice(x.i, axis, at, 1, dims[axis]), x.rank))
        at += dims[axis]
    return found


def _chunk(s: Lowering, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    return _pieces(s, x, dim)


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
    index = index if isinstance(index, tuple) else (index,)
    used = sum(1 for item in index if item is not None and item is not Ellipsis)
    if Ellipsis in [item for item in index if not isinstance(item, Value)]:
        at = next(k for k, item in enumerate(index) if item is Ellipsis)
        index = (*index[:at], *[slice(None)] * (x.rank - used), *index[at + 1 :])
    dim = 0
    for item in index:
        if item is None:
            if dim == 0 and s.rows(x):
                raise NoRule("it puts a dimension before the batch", NoRule.BATCH)
            axis, dims = dim - s.rows(x), s.dims(x)
            x = s.value(s.b.reshape(x.i, (*dims[:axis], 1, *dims[axis:])))
            dim += 1
        elif isinstance(item, slice):
            x = _cut(s, x, dim, item)
            dim += 1
        elif isinstance(item, int):
            x = _select(s, x, dim, item)
        else:
            raise NoRule("it indexes by a tensor or a list", "take slices, or torch.where")
    return x


def _cut(s: Lowering, x: Value, dim: int, item: slice) -> Value:
    if dim == 0 and s.rows(x):
        if item.start in (None, 0) and item.step in (None, 1) and (item.stop is None or item.stop == 2):
            return x
        raise NoRule("it takes some rows of the batch", NoRule.BATCH)
    axis = s.axis(x, dim)
    start, stop, step = item.indices(s.dims(x)[axis])
    return s.value(s.b.slice(x.i, axis, start, step, len(range(start, stop, step))))


def _cat(s: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    dims, rows = s.shapes[0]
    axis = (dim + len(dims) + rows if dim < 0 else dim) - rows
    if axis < 0:
        raise NoRule("it joins along the batch dimension", NoRule.BATCH)
    tensors = [_lose_empty(s, v) for v in tensors if s.b.nodes[v.i].size or len(s.dims(v)) == len(dims)]
    if any(len(s.dims(v)) != len(dims) for v in tensors):
        raise NoRule("it joins values with a batch and values without", "expand the latter to the batch first")
    return s.value(s.b.cat([v.i for v in tensors], axis))


def _lose_empty(s: Lowering, v: Value) -> Value:
    return v


def _stack(s: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    dims, rows = s.shapes[0]
    axis = (dim + len(dims) + rows if dim < 0 else dim) - rows
    if axis < 0:
        raise NoRule("it stacks before the batch dimension", NoRule.BATCH)
    one = (*dims[:axis], 1, *dims[axis + 1 :])
    return s.value(s.b.cat([s.b.reshape(v.i, one) for v in tensors], axis))


def _roll(s: Lowering, x: Value, shifts: int, dims: Any = None) -> Value:
    axis = s.axes(x, dims)[0]
    size = s.dims(x)[axis]
    cut = -shifts % size
    parts = [(cut, size - cut), (0, cut)]
    return s.value(s.b.cat([s.b.slice(x.i, axis, start, 1, n) for start, n in parts if n], axis))


def _full(value: float) -> Callable[..., Value]:
    def rule(s: Lowering, *_: Any, **__: Any) -> Value:
        dims, _rows = s.shapes[0]
        return s.value(s.b.expand(s.b.const(value), dims))

    return rule


def _full_like(s: Lowering, x: Any, fill_value: Any, *_: Any, **__: Any) -> Value:
    return _full(fill_value)(s)


def _matmul(s: Lowering, x: Value, y: Value) -> Value:
    """[..., m, k] times [..., k, n], a vector on either side as PyTorch has it."""
    if x.rank == 1 or (y.rank == 1 and not s.rows(y)):
        letters = "abcdefgh"[: x.rank - s.rows(x)]
        if x.rank == 1:
            second = "abcdefgh"[: y.rank - s.rows(y)]
            if s.rows(x) or y.rank - s.rows(y) < 2:
                if y.rank != 1 or s.rows(x) or s.rows(y):
                    raise NoRule("it multiplies over the batch dimension", NoRule.BATCH)
                return s.product(x, "k", y, "k", "")
            second = second[:-2] + "k" + "n"
            return s.product(x, "k", y, second, second.replace("k", ""))
        return s.product(x, letters[:-1] + "k", y, "k", letters[:-1])
    if (s.rows(x) and x.rank == 2) and not s.rows(y) and y.rank == 2:
        return s.product(x, "k", y, "kn", "n")
    for v in (x, y):
        if s.rows(v) and v.rank < 3:
            raise NoRule("it multiplies over the batch dimension", NoRule.BATCH)
    x, y = (_unbatched(s, v, s.rows(x) or s.rows(y)) for v in (x, y))
    batch = max(len(s.dims(x)), len(s.dims(y))) - 2
    letters = "abcdefgh"[:batch]
    first, second = s.dims(x)[:-2], s.dims(y)[:-2]
    x, lx = _squeezed(s, x, letters[batch - len(first) :], s.dims(y))
    y, ly = _squeezed(s, y, letters[batch - len(second) :], (*first, 0, 0))
    out = "".join(c for c in letters if c in lx + ly)
    found = s.product(x, lx + "mk", y, ly + "kn", out + "mn")
    return found


def _unbatched(s: Lowering, v: Value, rows: bool) -> Value:
    """A value without rows beside one with: a leading dimension of 1 stands for the batch."""
    if rows and not s.rows(v) and len(s.dims(v)) > 2 and s.dims(v)[0] == 1 and len(s.shapes[0][0]) < len(s.dims(v)):
        return s.value(s.b.reshape(v.i, s.dims(v)[1:]))
    return v


def _squeezed(s: Lowering, v: Value, labels: str, other: tuple[int, ...]) -> tuple[Value, str]:
    """Without the leading dimensions that are 1, which only broadcast."""
    dims = s.dims(v)
    lost = [k for k in range(len(labels)) if dims[k] == 1]
    kept = tuple(d for k, d in enumerate(dims) if k not in lost)
    return s.value(s.b.reshape(v.i, kept)), "".join(c for k, c in enumerate(labels) if k not in lost)


def _matmul_shaped(s: Lowering, x: Value, y: Value, **_: Any) -> Value:
    found = _matmul(s, x, y)
    dims, rows = s.shapes[0]
    return Value(s.b.reshape(found.i, dims), len(dims) + rows)


def _linear(s: Lowering, x: Value, weight: Value, bias: Any = None) -> Value:
    letters = "abcdefgh"[: len(s.dims(x)) - 1]
    found = s.product(x, letters + "k", weight, "nk", letters + "n")
    return found if bias is None else s.apply("add", found, bias)


def _addmm(s: Lowering, x: Any_, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> Value:
    found = _matmul_shaped(s, a, b)
    found = found if alpha == 1 else s.apply("mul", found, alpha)
    return s.apply("add", x if beta == 1 else s.apply("mul", x, beta), found)


def _einsum(s: Lowering, equation: str, *operands: Any) -> Value:
    values = list(operands[0] if isinstance(operands[0], tuple | list) else operands)
    left, arrow, out = equation.replace(" ", "").partition("->")
    labels = left.split(",")
    if "." in equation:
        raise NoRule("einsum with an ellipsis has no rule", "name all dimensions")
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    batch = {names[0] for v, names in zip(values, labels, strict=True) if s.rows(v)}
    rest = [names[1:] if s.rows(v) else names for v, names in zip(values, labels, strict=True)]
    if len(batch) > 1 or any(c in names for c in batch for names in rest) or (batch and out[:1] not in batch):
        raise NoRule("einsum does not keep the batch apart", NoRule.BATCH)
    out = out[1:] if batch else out
    if any(len(set(names)) != len(names) for names in rest):
        raise NoRule("einsum with a label twice in one operand has no rule")
    found, names = values[0], rest[0]
    for k in range(1, len(values)):
        later = set("".join(rest[k + 1 :]) + out)
        both = "".join(dict.fromkeys(c for c in names + rest[k] if c in later))
        found, names = s.product(found, names, values[k], rest[k], both if k < len(values) - 1 else out), both
    if len(values) == 1:
        found, names = s._summed(found, names, out)
        found = s.value(s._ordered(found, names, list(out)))
    return found


def _dropout(s: Lowering, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if p and training:
        raise NoRule("it draws random numbers", "give them to the step as a stream")
    return x


UNARY = ("abs", "sign", "floor", "exp", "log", "log1p", "sin", "cos", "erf", "tanh", "sigmoid", "sqrt", "expm1")
SAME = ("contiguous", "clone", "to", "float", "double", "type_as", "type", "identity", "alias", "requires_grad_")
RESHAPE = (
    "reshape",
    "view",
    "flatten",
    "unflatten",
    "unsqueeze",
    "squeeze",
    "view_as",
    "reshape_as",
    "_unsafe_view",
    "ravel",
)

# The name of a function or method of PyTorch -> its rule, which takes the same arguments.
LOWER: dict[str, Callable[..., Any]] = {
    **{name: _unary(name) for name in UNARY},
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(RESHAPE, _reshape),
    "neg": _unary("neg"),
    "negative": _unary("neg"),
    "absolute": _unary("abs"),
    "special_expit": _unary("sigmoid"),
    "expit": _unary("sigmoid"),
    "detach": _unary("stop"),
    "ceil": lambda s, x: s.apply("neg", s.apply("floor", s.apply("neg", x))),
    "reciprocal": lambda s, x: s.apply("div", 1, x),
    "rsqrt": lambda s, x: s.apply("div", 1, s.apply("sqrt", x)),
    "square": lambda s, x: s.apply("mul", x, x),
    "log2": lambda s, x: s.apply("div", s.apply("log", x), math.log(2)),
    "log10": lambda s, x: s.apply("div", s.apply("log", x), math.log(10)),
    "relu": _relu,
    "relu6": lambda s, x, inplace=False: _hardtanh(s, x, 0, 6, inplace),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "logsigmoid": _logsigmoid,
    "softsign": _softsign,
    "tanhshrink": lambda s, x: s.apply("sub", x, s.apply("tanh", x)),
    "add": lambda s, x, y, alpha=1: _sum_of(s, "add", x, y, alpha),
    "__radd__": lambda s, x, y: s.apply("add", y, x),
    "sub": lambda s, x, y, alpha=1: _sum_of(s, "sub", x, y, alpha),
    "subtract": lambda s, x, y, alpha=1: _sum_of(s, "sub", x, y, alpha),
    "rsub": lambda s, x, y, alpha=1: _sum_of(s, "sub", y, x, alpha),
    "__rsub__": _swapped("sub"),
    "mul": _binary("mul"),
    "multiply": _binary("mul"),
    "__rmul__": _swapped("mul"),
    "div": _div,
    "divide": _div,
    "true_divide": _binary("div"),
    "__truediv__": _binary("div"),
    "__rdiv__": _swapped("div"),
    "__rtruediv__": _swapped("div"),
    "floor_divide": lambda s, x, y: s.apply("floor", s.apply("div", x, y)),
    "__floordiv__": lambda s, x, y: s.apply("floor", s.apply("div", x, y)),
    "remainder": _binary("mod"),
    "__mod__": _binary("mod"),
    "pow": _pow,
    "__pow__": _pow,
    "__rpow__": lambda s, x, y: s.apply("exp", s.apply("mul", x, math.log(y))),
    "maximum": _binary("maximum"),
    "minimum": _binary("minimum"),
    "max": _two_of("max", "maximum"),
    "min": _two_of("min", "minimum"),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda s, x, min: _clamp(s, x, min=min),
    "clamp_max": lambda s, x, max: _clamp(s, x, max=max),
    "lt": _binary("lt"),
    "less": _binary("lt"),
    "le": _binary("le"),
    "less_equal": _binary("le"),
    "gt": _swapped("lt"),
    "greater": _swapped("lt"),
    "ge": _swapped("le"),
    "greater_equal": _swapped("le"),
    "eq": _binary("eq"),
    "__eq__": _binary("eq"),
    "__ne__": _binary("ne"),
    "__lt__": _binary("lt"),
    "__le__": _binary("le"),
    "__gt__": _swapped("lt"),
    "__ge__": _swapped("le"),
    "__invert__": _not,
    "__neg__": _unary("neg"),
    "__abs__": _unary("abs"),
    "__add__": _binary("add"),
    "__sub__": _binary("sub"),
    "__mul__": _binary("mul"),
    "ne": _binary("ne"),
    "not_equal": _binary("ne"),
    "logical_not": _not,
    "bitwise_not": _not,
    "logical_and": _and,
    "bitwise_and": _and,
    "__and__": _and,
    "logical_or": _or,
    "bitwise_or": _or,
    "__or__": _or,
    "where": _where,
    "masked_fill": lambda s, x, mask, value: _where(s, mask, value, x),
    "lerp": _lerp,
    "addcmul": _addcmul,
    "sum": _sum,
    "mean": _mean,
    "amax": _amax,
    "amin": _amin,
    "var": _var,
    "std": lambda s, *args, **named: s.apply("sqrt", _var(s, *args, **named)),
    "norm": _norm,
    "vector_norm": lambda s, x, ord=2, dim=None, keepdim=False: _norm(s, x, ord, dim, keepdim),
    "linalg_vector_norm": lambda s, x, ord=2, dim=None, keepdim=False: _norm(s, x, ord, dim, keepdim),
    "normalize": _normalize,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "expand": _expand,
    "expand_as": _expand,
    "broadcast_to": _expand,
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
    "zeros": _full(0),
    "new_zeros": _full(0),
    "zeros_like": _full(0),
    "ones": _full(1),
    "new_ones": _full(1),
    "ones_like": _full(1),
    "full_like": _full_like,
    "matmul": _matmul_shaped,
    "__matmul__": _matmul_shaped,
    "mm": _matmul_shaped,
    "bmm": _matmul_shaped,
    "mv": _matmul_shaped,
    "linear": _linear,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "einsum": _einsum,
    "dropout": _dropout,
}
