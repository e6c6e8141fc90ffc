"""What the compiler must know of an operation: `Op`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

if TYPE_CHECKING:
    from conveyor.compiler.graph import Builder, Node

Kind = Literal["input", "pointwise", "view", "move", "reduce", "product"]
Dims = tuple[int, ...]
# (the inputs' dims, the attributes, the dims asked for) -> the result's. What is asked for counts where the others
# leave it open, as for a reshape; what cannot be is an AssertionError.
Shape = Callable[[Sequence[Dims], tuple[Any, ...], Dims], Dims]
Value = Callable[["Node", Sequence[Tensor]], Tensor]  # (node, values [B or 1, ...]) -> its value [B or 1, ...]
# (builder, node, its index, the gradient by it) -> the gradient by each input, none where there is none. The shapes
# need not be the inputs' own: what was broadcast is summed by the caller.
Derivative = Callable[["Builder", "Node", int, int], Sequence[int | None]]


@dataclass(frozen=True)
class Op:
    """An operation: all that the compiler knows of it, but for its spelling, of which each target has a table.

    `kind` says how it is planned, `arity` how many inputs it has (None: any number), `shape` gives the dims of its
    result. `value` computes it in PyTorch; none where it sums over steps, of which one step knows nothing. `cost` is in
    units of one multiplication, for recomputing in backward. `largest` gives the magnitude of a whole number that it
    makes of others; none where the result is a real number. `is_finite`: of finite values it makes finite ones, with
    finite derivatives. `keeps_zero`: of zero it makes zero.
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
    """The derivative of what is constant, or of what only passes after differentiation make."""
    return (None,) * len(node.inputs)


def broadcast(shapes: Sequence[Dims]) -> Dims:
    """The shape of values of these shapes together, lined up at the last dimension, as PyTorch does it."""
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(next((d for d in column if d != 1), 1) for column in columns)
