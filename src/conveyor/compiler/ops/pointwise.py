"""Pointwise operations, which fuse into one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conveyor.compiler.ops.declare import Derivative, Op, Value, broadcast, no_derivative

if TYPE_CHECKING:
    from conveyor.compiler.graph import Builder, Node


def _value(function: Callable[..., Tensor]) -> Value:
    def value(node: Node, values: Sequence[Tensor]) -> Tensor:
        rank = len(node.dims) + 1
        aligned = [v.reshape(len(v), *[1] * (rank - v.dim()), *v.shape[1:]) for v in values]
        return function(*aligned).to(values[-1].dtype)

    return value


def _op(arity: int, function: Callable[..., Tensor], derivative: Derivative, cost: int = 1, **more: Any) -> Op:
    return Op("pointwise", arity, lambda dims, *_: broadcast(dims), _value(function), derivative, cost, **more)


def _unary(
    function: Callable[..., Tensor], rule: Callable[[Builder, int, int, int], int], cost: int = 1, **more: Any
) -> Op:
    """`rule`: (builder, input, output, gradient of the output) -> gradient of the input."""
    return _op(1, function, lambda b, node, i, g: (rule(b, node.inputs[0], i, g),), cost, **more)


def _binary(
    function: Callable[..., Tensor],
    rule: Callable[[Builder, int, int, int, int], tuple[int, int]],
    cost: int = 1,
    **more: Any,
) -> Op:
    """`rule`: (builder, first, second, output, gradient of the output) -> gradients of both inputs."""
    return _op(2, function, lambda b, node, i, g: rule(b, node.inputs[0], node.inputs[1], i, g), cost, **more)


def _flat(arity: int, function: Callable[..., Tensor], **more: Any) -> Op:
    """An operation whose derivative is zero."""
    return _op(arity, function, no_derivative, **more)


def _extreme(b: Builder, x: int, y: int, g: int, chosen: str) -> int:
    """The gradient of the operand x of max or min: half where both are equal (as PyTorch), 0 where y is chosen."""
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


def _half_of(b: Builder, out: int, g: int) -> int:
    return b.div(g, b.mul(b.const(2), out))


def _same(magnitude: float) -> float:
    return magnitude


def _largest_of(*magnitudes: float) -> float:
    return max(magnitudes)


def _one(*_: float) -> float:
    return 1


POINTWISE: dict[str, Op] = {
    "neg": _unary(
        torch.neg, lambda b, x, out, g: b.pointwise("neg", g), largest=_same, is_finite=True, keeps_zero=True
    ),
    "abs": _unary(torch.abs, lambda b, x, out, g: b.mul(g, b.pointwise("sign", x)), largest=_same, is_finite=True),
    "sign": _flat(1, torch.sign, largest=_one),
    "floor": _flat(1, torch.floor, largest=_same),
    "exp": _unary(torch.exp, lambda b, x, out, g: b.mul(g, out), 8),
    "log": _unary(torch.log, lambda b, x, out, g: b.div(g, x), 20),
    "log1p": _unary(torch.log1p, lambda b, x, out, g: b.div(g, b.add(x, b.const(1))), 20),
    "sin": _unary(torch.sin, lambda b, x, out, g: b.mul(g, b.pointwise("cos", x)), 20, is_finite=True),
    "cos": _unary(
        torch.cos, lambda b, x, out, g: b.pointwise("neg", b.mul(g, b.pointwise("sin", x))), 20, is_finite=True
    ),
    "erf": _unary(
        torch.erf,
        lambda b, x, out, g: b.mul(
            b.mul(b.const(2 / math.sqrt(math.pi)), b.pointwise("exp", b.pointwise("neg", b.mul(x, x)))), g
        ),
        20,
        is_finite=True,
    ),
    "tanh": _unary(torch.tanh, lambda b, x, out, g: b.mul(g, b.sub(b.const(1), b.mul(out, out))), 12, is_finite=True),
    "sigmoid": _unary(
        torch.sigmoid, lambda b, x, out, g: b.mul(g, b.mul(b.sub(b.const(1), out), out)), 10, is_finite=True
    ),
    "sqrt": _unary(torch.sqrt, lambda b, x, out, g: _half_of(b, out, g), 4),
    # A square root whose derivative at zero is zero, like that of a norm.
    "root": _unary(
        torch.sqrt,
        lambda b, x, out, g: b.pointwise("where", b.pointwise("eq", out, b.const(0)), b.const(0), _half_of(b, out, g)),
        4,
    ),
    "expm1": _unary(torch.expm1, lambda b, x, out, g: b.mul(g, b.add(out, b.const(1))), 20),
    "add": _binary(torch.add, lambda b, x, y, out, g: (g, g), largest=lambda x, y: x + y, is_finite=True),
    "sub": _binary(
        torch.sub, lambda b, x, y, out, g: (g, b.pointwise("neg", g)), largest=lambda x, y: x + y, is_finite=True
    ),
    "mul": _binary(
        torch.mul, lambda b, x, y, out, g: (b.mul(g, y), b.mul(g, x)), largest=lambda x, y: x * y, is_finite=True
    ),
    "div": _binary(
        torch.div,
        lambda b, x, y, out, g: (b.div(g, y), b.pointwise("neg", b.mul(g, b.div(b.div(x, y), y)))),
        4,
        largest=lambda x, _: x,
    ),
    "pow": _binary(torch.pow, _pow, 40, largest=lambda x, y: x**y if y < 40 else math.inf),
    "mod": _binary(
        torch.remainder,
        lambda b, x, y, out, g: (g, b.pointwise("neg", b.mul(g, b.pointwise("floor", b.div(x, y))))),
        20,
        largest=lambda _, y: y,
    ),
    "maximum": _binary(
        torch.maximum,
        lambda b, x, y, out, g: (_extreme(b, x, y, g, "larger"), _extreme(b, y, x, g, "larger")),
        largest=_largest_of,
        is_finite=True,
    ),
    "minimum": _binary(
        torch.minimum,
        lambda b, x, y, out, g: (_extreme(b, x, y, g, "smaller"), _extreme(b, y, x, g, "smaller")),
        largest=_largest_of,
        is_finite=True,
    ),
    "lt": _flat(2, torch.lt, largest=_one),
    "le": _flat(2, torch.le, largest=_one),
    "eq": _flat(2, torch.eq, largest=_one),
    "ne": _flat(2, torch.ne, largest=_one),
    "where": _op(
        3, lambda condition, yes, no: torch.where(condition != 0, yes, no), _where, largest=_largest_of, is_finite=True
    ),
    "stop_gradient": _flat(1, torch.detach, largest=_same, is_finite=True),  # the value, without a derivative
}
