"""`Op`: what the compiler must know about an operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

if TYPE_CHECKING:
    from conveyor.compiler.graph import Builder, Node

Kind = Literal["input", "pointwise", "view", "move", "reduce", "product"]
Dims = tuple[int, ...]
# (shapes of the inputs, attributes, requested shape) -> shape of the result. The requested shape matters only where the
# others do not determine the result, as for a reshape. Impossible shapes raise AssertionError.
Shape = Callable[[Sequence[Dims], tuple[Any, ...], Dims], Dims]
# (node, values of its inputs [B or 1, ...]) -> its value [B or 1, ...]
Value = Callable[["Node", Sequence[Tensor]], Tensor]
# (builder, node, its index, gradient of its value) -> the gradient of each input, or None. A gradient may have the
# broadcast shape of its input: the caller sums it.
Derivative = Callable[["Builder", "Node", int, int], Sequence[int | None]]


@dataclass(frozen=True)
class Op:
    """An operation: all that the compiler knows about it, except how each target writes it.

    `kind` says how it is scheduled. `arity` is the number of inputs (None: any number). `shape` gives the shape of the
    result. `value` computes it in PyTorch; None if it sums over steps. `cost` is the work per element in
    multiplications, for deciding what backward recomputes. `largest` bounds the magnitude of an integer result by
    those of the operands; None if the result is not an integer. `is_finite`: finite operands give finite results and
    derivatives. `keeps_zero`: zero operands give zero.
    """

    kind: Kind
    arity: int | None
    shape: Shape
    value: Value | None
    derivative: Derivative
    cost: int = 1
    largest: Callable[..., float] | None = None
    is_finite: bool = False
    keeps_zero: bool = False


def no_derivative(b: Builder, node: Node, i: int, g: int) -> Sequence[None]:
    """For constants, and for operations that only passes after differentiation create."""
    return (None,) * len(node.inputs)


def broadcast(shapes: Sequence[Dims]) -> Dims:
    """The broadcast shape of these shapes, by PyTorch's rules."""
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(next((d for d in column if d != 1), 1) for column in columns)
