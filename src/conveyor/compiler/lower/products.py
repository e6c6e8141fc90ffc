"""Products of matrices and vectors, and einsum. All go through `product`, with einsum labels."""

from __future__ import annotations

import math
import string
from typing import Any

from conveyor.compiler.lower.lowering import Lowering, NoRule, Operand, Rule, Value

LETTERS = "".join(c for c in string.ascii_letters if c not in "kmn")  # labels for leading dimensions


def product(s: Lowering, a: Value, la: str, b: Value, lb: str, out: str) -> Value:
    """einsum of two values: summed over the labels that `out` lacks; each dimension but the batch has a label."""
    a, la = _summed(s, a, la, lb + out)
    b, lb = _summed(s, b, lb, la + out)
    if s.b.nodes[a.i].shared and not s.b.nodes[b.i].shared:
        a, la, b, lb = b, lb, a, la
    both = [c for c in la if c in lb]
    sums = [c for c in both if c not in out]
    if not sums or not s.b.nodes[b.i].shared:
        return s.value(s.b.contract(a.i, b.i, (la, lb, out)))
    kept = [c for c in both if c in out]
    if kept:
        return _product_each(s, a, la, b, lb, out, kept[0])
    return _matrix_product(s, a, la, b, lb, out, sums)


def _matrix_product(s: Lowering, a: Value, la: str, b: Value, lb: str, out: str, sums: list[str]) -> Value:
    """A product with a value that all rows share, as a matrix product."""
    free_a, free_b = [c for c in la if c not in sums], [c for c in lb if c not in sums]
    sizes = dict(zip(la + lb, s.dims(a) + s.dims(b), strict=True))
    inner = math.prod(sizes[c] for c in sums)
    value = s.b.reshape(_ordered(s, a, la, free_a + sums), (*(sizes[c] for c in free_a), inner))
    matrix = s.b.reshape(_ordered(s, b, lb, sums + free_b), (inner, math.prod(sizes[c] for c in free_b)))
    found = s.b.reshape(s.b.matmul(value, matrix), tuple(sizes[c] for c in free_a + free_b))
    return s.value(s.b.permute(found, tuple((free_a + free_b).index(c) for c in out)))


def _product_each(s: Lowering, a: Value, la: str, b: Value, lb: str, out: str, letter: str) -> Value:
    """One product for each index of a dimension that both operands and the result have, such as an attention head."""
    at = out.index(letter)
    without = [labels.replace(letter, "") for labels in (la, lb, out)]
    found = []
    for k in range(s.dims(a)[la.index(letter)]):
        one = product(s, _at(s, a, la, letter, k), without[0], _at(s, b, lb, letter, k), without[1], without[2])
        dims = s.dims(one)
        found.append(s.b.reshape(one.i, (*dims[:at], 1, *dims[at:])))
    return s.value(s.b.cat(found, at))


def _at(s: Lowering, v: Value, labels: str, letter: str, k: int) -> Value:
    dim = labels.index(letter)
    dims = s.dims(v)
    return s.value(s.b.reshape(s.b.slice(v.i, dim, k, 1, 1), (*dims[:dim], *dims[dim + 1 :])))


def _ordered(s: Lowering, v: Value, labels: str, order: list[str]) -> int:
    return s.b.permute(v.i, tuple(labels.index(c) for c in order))


def _summed(s: Lowering, v: Value, labels: str, needed: str) -> tuple[Value, str]:
    """The value summed over the labels that are not in `needed`, and its remaining labels."""
    alone = tuple(k for k, c in enumerate(labels) if c not in needed)
    return s.value(s.b.reduce("sum", v.i, alone)), "".join(c for c in labels if c in needed)


def _letters(count: int) -> str:
    if count > len(LETTERS):
        raise NoRule(f"it multiplies values of more than {len(LETTERS)} dimensions", "reshape them to fewer")
    return LETTERS[:count]


def _matmul(s: Lowering, x: Value, y: Value, **_: Any) -> Value:
    """[..., m, k] times [..., k, n], or a vector on either side."""
    if x.rank == 1:
        found = _vector_matmul(s, x, y)
    elif y.rank == 1:
        _check_no_rows(s, y)
        letters = _letters(len(s.dims(x)) - 1)
        found = product(s, x, letters + "k", y, "k", letters)
    elif s.rows(x) and x.rank == 2 and not s.rows(y) and y.rank == 2:
        found = product(s, x, "k", y, "kn", "n")
    else:
        found = _matrix_matmul(s, x, y)
    return s.value(s.b.reshape(found.i, s.shapes[0][0]))  # with the dimensions of 1 that a product has no letter for


def _check_no_rows(s: Lowering, *values: Value) -> None:
    if any(map(s.rows, values)):
        raise NoRule("it multiplies over the batch dimension", NoRule.BATCH)


def _vector_matmul(s: Lowering, x: Value, y: Value) -> Value:
    """[k] times [..., k, n] or [k]."""
    _check_no_rows(s, x)
    if len(s.dims(y)) < 2:
        _check_no_rows(s, y)
        return product(s, x, "k", y, "k", "")
    letters = _letters(len(s.dims(y)) - 2)
    return product(s, x, "k", y, letters + "kn", letters + "n")


def _matrix_matmul(s: Lowering, x: Value, y: Value) -> Value:
    """Matrices on both sides, with what stands before them broadcast."""
    for v in (x, y):
        if v.rank < 3:
            _check_no_rows(s, v)
    x, y = (_unbatched(s, v, s.rows(x) or s.rows(y)) for v in (x, y))
    leads = [len(s.dims(v)) - 2 for v in (x, y)]
    letters = _letters(max(leads))
    x, lx = _squeezed(s, x, letters[max(leads) - leads[0] :])
    y, ly = _squeezed(s, y, letters[max(leads) - leads[1] :])
    out = "".join(c for c in letters if c in lx + ly)
    return product(s, x, lx + "mk", y, ly + "kn", out + "mn")


def _unbatched(s: Lowering, v: Value, rows: bool) -> Value:
    """A value without rows beside one with: a leading dimension of 1 stands for the batch."""
    dims = s.dims(v)
    if rows and not s.rows(v) and len(dims) > 2 and dims[0] == 1 and len(s.shapes[0][0]) < len(dims):
        return s.value(s.b.reshape(v.i, dims[1:]))
    return v


def _squeezed(s: Lowering, v: Value, letters: str) -> tuple[Value, str]:
    """The value without leading dimensions of size 1, which only broadcast, and its remaining labels."""
    dims = s.dims(v)
    kept = [k for k in range(len(letters)) if dims[k] != 1]
    found = s.b.reshape(v.i, (*(dims[k] for k in kept), *dims[len(letters) :]))
    return s.value(found), "".join(letters[k] for k in kept)


def linear(s: Lowering, x: Value, weight: Value, bias: Any = None) -> Value:
    """[..., in] times the transpose of [out, in], plus a bias [out]."""
    letters = _letters(len(s.dims(x)) - 1)
    found = product(s, x, letters + "k", weight, "nk", letters + "n")
    return found if bias is None else s.apply("add", found, bias)


def _addmm(s: Lowering, x: Operand, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> Value:
    found = _matmul(s, a, b)
    found = found if alpha == 1 else s.apply("mul", found, alpha)
    return s.apply("add", x if beta == 1 else s.apply("mul", x, beta), found)


def _einsum(s: Lowering, equation: str, *operands: Any) -> Value:
    values = list(operands[0] if isinstance(operands[0], tuple | list) else operands)
    labels, out = _labels(s, equation, values)
    found, names = values[0], labels[0]
    for k in range(1, len(values)):
        later = "".join(labels[k + 1 :]) + out
        both = "".join(dict.fromkeys(c for c in names + labels[k] if c in later))
        to = both if k < len(values) - 1 else out
        found, names = product(s, found, names, values[k], labels[k], to), to
    if len(values) == 1:
        found, names = _summed(s, found, names, out)
        found = s.value(_ordered(s, found, names, list(out)))
    return found


def _labels(s: Lowering, equation: str, values: list[Value]) -> tuple[list[str], str]:
    """The labels of each operand and of the result, without that of the batch."""
    if "." in equation:
        raise NoRule("einsum with an ellipsis has no rule", "name all dimensions")
    left, arrow, out = equation.replace(" ", "").partition("->")
    labels = left.split(",")
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    batch = {names[0] for v, names in zip(values, labels, strict=True) if s.rows(v)}
    labels = [names[s.rows(v) :] for v, names in zip(values, labels, strict=True)]
    if len(batch) > 1 or any(c in names for c in batch for names in labels) or (batch and out[:1] not in batch):
        raise NoRule("einsum does not keep the batch apart", NoRule.BATCH)
    if any(len(set(names)) != len(names) for names in labels):
        raise NoRule("einsum with a label twice in one operand has no rule")
    return labels, out[bool(batch) :]


PRODUCTS: dict[str, Rule] = {
    "matmul": _matmul,
    "__matmul__": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "linear": linear,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "einsum": _einsum,
}
