"""Reductions over features: sums, means, norms, softmax, normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch

from conveyor.compiler.lower.lowering import Lowering, NoRule, Rule, Value
from conveyor.compiler.lower.pointwise import clamp, where


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
    if isinstance(dim, bool):  # x.var(unbiased)
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


def _vector_norm(s: Lowering, x: Value, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Value:
    return _norm(s, x, ord, dim, keepdim)


def _normalize(s: Lowering, x: Value, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Value:
    return s.apply("div", x, clamp(s, _norm(s, x, p, dim, True), min=eps))


def _exps(s: Lowering, x: Value, dim: Any) -> tuple[Value, Value]:
    """x minus its maximum, so that exp cannot overflow, and the exponential of that."""
    top = s.apply("stop_gradient", s.reduce("max", x, dim, True))
    away = s.apply("sub", x, top)
    return away, s.apply("exp", away)


def _softmax(s: Lowering, x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    e = _exps(s, x, dim)[1]
    return s.apply("div", e, s.reduce("sum", e, dim, True))


def _log_softmax(s: Lowering, x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    away, e = _exps(s, x, dim)
    return s.apply("sub", away, s.apply("log", s.reduce("sum", e, dim, True)))


def _logsumexp(s: Lowering, x: Value, dim: Any, keepdim: bool = False) -> Value:
    top, shift = (_finite(s, s.apply("stop_gradient", s.reduce("max", x, dim, kept))) for kept in (True, keepdim))
    e = s.apply("exp", s.apply("sub", x, top))
    return s.apply("add", s.apply("log", s.reduce("sum", e, dim, keepdim)), shift)


def _finite(s: Lowering, x: Value) -> Value:
    """x with 0 for infinities, so that inf - inf does not occur."""
    return where(s, s.apply("eq", s.apply("abs", x), math.inf), 0, x)


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


SUMS: dict[str, Rule] = {
    "sum": _sum,
    "mean": _mean,
    "amax": _amax,
    "amin": _amin,
    "var": _var,
    "std": lambda s, *args, **named: s.apply("sqrt", _var(s, *args, **named)),
    "norm": _norm,
    "vector_norm": _vector_norm,
    "linalg_vector_norm": _vector_norm,
    "normalize": _normalize,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
}
