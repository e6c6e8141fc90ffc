"""Elementwise arithmetic, comparisons and choices."""

from __future__ import annotations

import math
from typing import Any

from conveyor.compiler.lower.lowering import Lowering, NoRule, Operand, Rule, Value


def unary(op: str) -> Rule:
    """The rule of a function of one value that has an operation of its own."""
    return lambda s, x: s.apply(op, x)


def _binary(op: str) -> Rule:
    return lambda s, x, y: s.apply(op, x, y)


def _swapped(op: str) -> Rule:
    return lambda s, x, y: s.apply(op, y, x)


def _scaled(s: Lowering, op: str, x: Operand, y: Operand, alpha: Operand) -> Value:
    """x + alpha * y, or x - alpha * y."""
    return s.apply(op, x, y if alpha == 1 else s.apply("mul", alpha, y))


def where(s: Lowering, condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition is not 0, else y."""
    return s.apply("where", condition, x, y)


def within(s: Lowering, x: Value, inside: Value, clamped: Value) -> Value:
    """x where `inside` is not 0, else `clamped` without a gradient. NaN is not inside, and stays NaN."""
    return where(s, inside, x, s.apply("stop_gradient", clamped))


def clamped(s: Lowering, x: Value, low: Any, high: Any) -> Value:
    """x limited to the bounds, which are numbers, values or None."""
    found = x if low is None else where(s, s.apply("lt", x, low), low, x)
    return found if high is None else where(s, s.apply("lt", high, found), high, found)


def clamp(s: Lowering, x: Value, min: Any = None, max: Any = None) -> Value:
    """torch.clamp: the gradient passes at the bounds themselves."""
    if isinstance(min, Value) or isinstance(max, Value):
        return clamped(s, x, min, max)
    inside = [s.apply("le", min, x)] if min is not None else []
    inside += [s.apply("le", x, max)] if max is not None else []
    return within(s, x, s.apply("mul", *inside) if len(inside) > 1 else inside[0], clamped(s, x, min, max))


def _div(s: Lowering, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return s.apply("div", x, y)
    if rounding_mode == "floor":
        return _floor_divide(s, x, y)
    raise NoRule(f"division with rounding_mode={rounding_mode!r} has no rule")


def _floor_divide(s: Lowering, x: Operand, y: Operand) -> Value:
    """Through the remainder, since the floor of a quotient that was rounded up, such as 1 / 0.1, is one too large."""
    quotient = s.apply("div", x, y)
    whole = s.apply("floor", s.apply("add", s.apply("div", s.apply("sub", x, s.apply("mod", x, y)), y), 0.5))
    return s.apply("stop_gradient", where(s, s.apply("eq", y, 0), quotient, whole))


# Powers that are cheaper than `pow`, and exact.
POWERS: dict[Any, Rule] = {
    -1: lambda s, x: s.apply("div", 1, x),
    0.5: lambda s, x: s.apply("sqrt", x),
    1: lambda s, x: s.lift(x),
    2: lambda s, x: s.apply("mul", x, x),
    3: lambda s, x: s.apply("mul", s.apply("mul", x, x), x),
}


def _pow(s: Lowering, x: Operand, y: Operand) -> Value:
    if not isinstance(y, Value) and y in POWERS:
        return POWERS[y](s, x)
    return s.apply("pow", x, y)


def _not(s: Lowering, x: Value) -> Value:
    return s.apply("eq", x, 0)


def _and(s: Lowering, x: Value, y: Value) -> Value:
    return s.apply("mul", s.apply("ne", x, 0), s.apply("ne", y, 0))


def _or(s: Lowering, x: Value, y: Value) -> Value:
    return s.apply("maximum", s.apply("ne", x, 0), s.apply("ne", y, 0))


def _lerp(s: Lowering, x: Value, end: Value, weight: Operand) -> Value:
    return s.apply("add", x, s.apply("mul", weight, s.apply("sub", end, x)))


def _addcmul(s: Lowering, x: Value, y: Value, z: Value, value: float = 1) -> Value:
    return s.apply("add", x, s.apply("mul", s.apply("mul", y, z), value))


def _of_two(reduced: str, binary: str) -> Rule:
    """torch.max and torch.min of two tensors."""

    def rule(s: Lowering, x: Value, other: Any = None, *more: Any, **named: Any) -> Value:
        if not isinstance(other, Value) or more or named:
            raise NoRule(f"{reduced} over a dimension also returns indices", f"write torch.a{reduced}(x, dim)")
        return s.apply(binary, x, other)

    return rule


SAME = ("abs", "sign", "floor", "exp", "log", "log1p", "sin", "cos", "erf", "sqrt", "expm1", "neg")  # as in ops/

POINTWISE: dict[str, Rule] = {
    **{name: unary(name) for name in SAME},
    "negative": unary("neg"),
    "__neg__": unary("neg"),
    "absolute": unary("abs"),
    "__abs__": unary("abs"),
    "detach": unary("stop_gradient"),
    "ceil": lambda s, x: s.apply("neg", s.apply("floor", s.apply("neg", x))),
    "reciprocal": lambda s, x: s.apply("div", 1, x),
    "rsqrt": lambda s, x: s.apply("div", 1, s.apply("sqrt", x)),
    "square": lambda s, x: s.apply("mul", x, x),
    "log2": lambda s, x: s.apply("div", s.apply("log", x), math.log(2)),
    "log10": lambda s, x: s.apply("div", s.apply("log", x), math.log(10)),
    "add": lambda s, x, y, alpha=1: _scaled(s, "add", x, y, alpha),
    "__add__": _binary("add"),
    "__radd__": _swapped("add"),
    "sub": lambda s, x, y, alpha=1: _scaled(s, "sub", x, y, alpha),
    "subtract": lambda s, x, y, alpha=1: _scaled(s, "sub", x, y, alpha),
    "__sub__": _binary("sub"),
    "rsub": lambda s, x, y, alpha=1: _scaled(s, "sub", y, x, alpha),
    "__rsub__": _swapped("sub"),
    "mul": _binary("mul"),
    "multiply": _binary("mul"),
    "__mul__": _binary("mul"),
    "__rmul__": _swapped("mul"),
    "div": _div,
    "divide": _div,
    "true_divide": _binary("div"),
    "__truediv__": _binary("div"),
    "__rdiv__": _swapped("div"),
    "__rtruediv__": _swapped("div"),
    "floor_divide": _floor_divide,
    "__floordiv__": _floor_divide,
    "remainder": _binary("mod"),
    "__mod__": _binary("mod"),
    "pow": _pow,
    "__pow__": _pow,
    "__rpow__": lambda s, x, y: s.apply("exp", s.apply("mul", x, math.log(y))) if y > 0 else s.apply("pow", y, x),
    "maximum": _binary("maximum"),
    "minimum": _binary("minimum"),
    "max": _of_two("max", "maximum"),
    "min": _of_two("min", "minimum"),
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": lambda s, x, min: clamp(s, x, min=min),
    "clamp_max": lambda s, x, max: clamp(s, x, max=max),
    "lt": _binary("lt"),
    "less": _binary("lt"),
    "__lt__": _binary("lt"),
    "le": _binary("le"),
    "less_equal": _binary("le"),
    "__le__": _binary("le"),
    "gt": _swapped("lt"),
    "greater": _swapped("lt"),
    "__gt__": _swapped("lt"),
    "ge": _swapped("le"),
    "greater_equal": _swapped("le"),
    "__ge__": _swapped("le"),
    "eq": _binary("eq"),
    "__eq__": _binary("eq"),
    "ne": _binary("ne"),
    "not_equal": _binary("ne"),
    "__ne__": _binary("ne"),
    "logical_not": _not,
    "bitwise_not": _not,
    "__invert__": _not,
    "logical_and": _and,
    "bitwise_and": _and,
    "__and__": _and,
    "logical_or": _or,
    "bitwise_or": _or,
    "__or__": _or,
    "where": where,
    "masked_fill": lambda s, x, mask, value: where(s, mask, value, x),
    "lerp": _lerp,
    "addcmul": _addcmul,
}
