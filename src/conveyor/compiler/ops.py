"""The operations that a step is made of: what each is called, what kind it is, and what it costs.

An op is a name. Each interpretation of it has one table over all names: its derivative (differentiate.RULES), and
its spelling in C if it is pointwise (emit_c.SPELLING). A test asserts that none has a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["input", "pointwise", "view", "move", "reduce", "product"]


@dataclass(frozen=True)
class Op:
    """`kind` says how it is planned; `cost` is in units of one multiplication, for recomputing in backward."""

    kind: Kind
    arity: int | None  # None: any number
    cost: int = 1


OPS: dict[str, Op] = {
    # What comes from outside, and numbers.
    "input": Op("input", 0, 0),
    "const": Op("input", 0, 0),
    # One number for each number: these fuse.
    "neg": Op("pointwise", 1),
    "abs": Op("pointwise", 1),
    "sign": Op("pointwise", 1),
    "floor": Op("pointwise", 1),
    "exp": Op("pointwise", 1, 8),
    "log": Op("pointwise", 1, 20),
    "log1p": Op("pointwise", 1, 20),
    "sin": Op("pointwise", 1, 20),
    "cos": Op("pointwise", 1, 20),
    "erf": Op("pointwise", 1, 20),
    "tanh": Op("pointwise", 1, 12),
    "sigmoid": Op("pointwise", 1, 10),
    "sqrt": Op("pointwise", 1, 4),
    "root": Op("pointwise", 1, 4),  # a square root whose derivative at zero is zero, as that of a norm is
    "expm1": Op("pointwise", 1, 20),
    "add": Op("pointwise", 2),
    "sub": Op("pointwise", 2),
    "mul": Op("pointwise", 2),
    "div": Op("pointwise", 2, 4),
    "pow": Op("pointwise", 2, 40),
    "mod": Op("pointwise", 2, 20),
    "maximum": Op("pointwise", 2),
    "minimum": Op("pointwise", 2),
    "lt": Op("pointwise", 2),
    "le": Op("pointwise", 2),
    "eq": Op("pointwise", 2),
    "ne": Op("pointwise", 2),
    "where": Op("pointwise", 3),
    "stop": Op("pointwise", 1),  # the value itself, without a derivative
    # The same numbers seen otherwise: no work, but for a reshape of what does not lie in order.
    "permute": Op("view", 1, 0),
    "slice": Op("view", 1, 0),
    "expand": Op("view", 1, 0),
    "reshape": Op("view", 1, 0),
    # Numbers brought to other places.
    "cat": Op("move", None),
    "pad": Op("move", 1),
    # Fewer numbers.
    "sum": Op("reduce", 1, 2),
    "max": Op("reduce", 1, 2),
    "total": Op("reduce", 1, 2),  # over what the result does not vary with: the rows, the steps, or both
    # Sums of products.
    "matmul": Op("product", 2, 1000),  # a value and a matrix that all rows share
    "gemm": Op("product", None, 1000),  # several of these, added up
    "outer": Op("product", 2, 1000),  # the gradient of such a matrix: over all rows and steps
    "contract": Op("product", 2, 100),  # two values of the same row
}
