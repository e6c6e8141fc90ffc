"""Activation functions, and dropout where it does nothing."""

from __future__ import annotations

import math

from conveyor.compiler.lower.lowering import Lowering, NoRule, Rule, Value
from conveyor.compiler.lower.pointwise import clamped, unary, where, within


def _not_in_place(inplace: bool) -> None:
    if inplace:
        raise NoRule("it works in place", "leave inplace=True out")


def relu(s: Lowering, x: Value, inplace: bool = False) -> Value:
    """0 where x is below."""
    _not_in_place(inplace)
    return where(s, s.apply("le", x, 0), 0, x)  # NaN stays NaN


def _leaky_relu(s: Lowering, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    return where(s, s.apply("lt", 0, x), x, s.apply("mul", x, negative_slope))


def _elu(s: Lowering, x: Value, alpha: float = 1.0, inplace: bool = False) -> Value:
    _not_in_place(inplace)
    high = s.apply("lt", 0, x)
    return where(s, high, x, s.apply("mul", s.apply("expm1", where(s, high, 0, x)), alpha))


def _softplus(s: Lowering, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    scaled = s.apply("mul", x, beta)
    high = s.apply("lt", threshold, scaled)
    # The branch not taken must not overflow, or its gradient would be 0 * inf.
    soft = s.apply("div", s.apply("log1p", s.apply("exp", where(s, high, 0, scaled))), beta)
    return where(s, high, x, soft)


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


def _hardtanh(s: Lowering, x: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    """Like clamp, but with derivative 0 at the bounds."""
    _not_in_place(inplace)
    low, high = s.apply("lt", min_val, x), s.apply("lt", x, max_val)
    return within(s, x, s.apply("mul", low, high), clamped(s, x, min_val, max_val))


def _hardsigmoid(s: Lowering, x: Value, inplace: bool = False) -> Value:
    return s.apply("div", _hardtanh(s, s.apply("add", x, 3), 0, 6, inplace), 6)


def _hardswish(s: Lowering, x: Value, inplace: bool = False) -> Value:
    return s.apply("mul", x, _hardsigmoid(s, x, inplace))


def _logsigmoid(s: Lowering, x: Value) -> Value:
    low = s.apply("minimum", x, 0)
    return s.apply("sub", low, s.apply("log1p", s.apply("exp", s.apply("neg", s.apply("abs", x)))))


def _softsign(s: Lowering, x: Value) -> Value:
    return s.apply("div", x, s.apply("add", s.apply("abs", x), 1))


def _dropout(s: Lowering, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if p and training:
        raise NoRule("it draws random numbers", "give them to the step as a stream")
    return x


ACTIVATIONS: dict[str, Rule] = {
    "tanh": unary("tanh"),
    "sigmoid": unary("sigmoid"),
    "special_expit": unary("sigmoid"),
    "expit": unary("sigmoid"),
    "relu": relu,
    "relu6": lambda s, x, inplace=False: _hardtanh(s, x, 0, 6, inplace),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "log_sigmoid": _logsigmoid,
    "softsign": _softsign,
    "tanhshrink": lambda s, x: s.apply("sub", x, s.apply("tanh", x)),
    "dropout": _dropout,
}
