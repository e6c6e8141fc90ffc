"""PyTorch's rules for shapes, broadcasting and dimensions, for nodes that keep the batch apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from conveyor.compiler.graph import Builder


@dataclass(frozen=True)
class Value:
    """A tensor of the step: its node `i`, and its `rank` in PyTorch (including the batch, if it has rows)."""

    i: int
    rank: int


class NoRule(Exception):
    """The step does something that has no lowering. `cure`: what to write instead."""

    CURE = "write it with other operations (arithmetic, activations, torch.where, sums over features, matrix products)"
    BATCH = "keep the batch as the first dimension of every value"

    def __init__(self, reason: str, cure: str = CURE):
        super().__init__(reason)
        self.cure = cure


Number = float | int | bool
Operand = Value | Number
Rule = Callable[..., Any]  # (lowering, arguments of the function) -> its value, or a list of values


class Lowering:
    """Applies operations to values by PyTorch's rules; `b` is the builder of the graph."""

    def __init__(self, builder: Builder, dtype: torch.dtype = torch.float32):
        self.b, self.dtype = builder, dtype
        # For each tensor that the traced function returned: its shape without the batch, and whether it has rows.
        self.shapes: list[tuple[tuple[int, ...], bool]] = []

    def rows(self, v: Value) -> bool:
        """Whether a value has rows."""
        return self.b.nodes[v.i].rows

    def dims(self, v: Value) -> tuple[int, ...]:
        """The shape of a value without its rows."""
        return self.b.nodes[v.i].dims

    def value(self, i: int) -> Value:
        """A node as a tensor of the step, with the rank of its shape."""
        node = self.b.nodes[i]
        return Value(i, len(node.dims) + node.rows)

    def lift(self, v: Operand) -> Value:
        """A value, or a number as a constant. Raises NoRule for anything else."""
        if isinstance(v, Value):
            return v
        if isinstance(v, bool | int | float):
            return Value(self.b.const(v), 0)
        raise NoRule(f"a tensor or a number is expected, not {v!r}")

    def apply(self, op: str, *values: Operand) -> Value:
        """A pointwise operation, broadcast as in PyTorch: aligned at the last dimension."""
        lifted = [self.lift(v) for v in values]
        rank = max(v.rank for v in lifted)
        if any(map(self.rows, lifted)):
            lifted = [self.beside(v, rank) for v in lifted]
        return Value(self.b.pointwise(op, *(v.i for v in lifted)), rank)

    def beside(self, v: Value, rank: int) -> Value:
        """A value prepared for broadcasting with others of this rank that have rows.

        If it has none, the 1 in the position of the batch is removed. Raises NoRule if another size stands there.
        """
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
        """The node's dimension for PyTorch's dimension `dim`, which counts the batch. Raises NoRule for the batch."""
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise NoRule(f"a dimension is an integer, not {dim!r}")
        found = (dim + v.rank if dim < 0 else dim) - self.rows(v)
        if found < 0:
            raise NoRule("it works over the batch dimension, but rows are independent of each other", NoRule.BATCH)
        return found

    def axes(self, v: Value, dim: Any) -> tuple[int, ...]:
        """The dimensions of the node for PyTorch's argument `dim`: None for all, one, or several."""
        if dim is None or dim == () or dim == []:
            if self.rows(v):
                raise NoRule("it works over all dimensions, the batch too", "give dim=-1, for the features")
            return tuple(range(v.rank))
        return tuple(sorted(self.axis(v, d) for d in (dim if isinstance(dim, tuple | list) else (dim,))))

    def reduce(self, op: str, v: Value, dim: Any, keepdim: bool = False) -> Value:
        """`sum` or `max` over PyTorch's dimensions `dim`."""
        axes = self.axes(v, dim)
        found = self.b.reduce(op, v.i, axes)
        if keepdim:
            kept = tuple(1 if k in axes else d for k, d in enumerate(self.dims(v)))
            return Value(self.b.reshape(found, kept), v.rank)
        return Value(found, v.rank - len(axes))

    def count(self, v: Value, dim: Any) -> int:
        """The number of elements that a reduction over `dim` combines into one."""
        return math.prod(self.dims(v)[k] for k in self.axes(v, dim))

    def to_result(self, v: Value) -> Value:
        """The value reshaped to the shape of the traced result. Raises NoRule if that mixes rows."""
        dims, rows = self.shapes[0]
        if rows != self.rows(v):
            raise NoRule("it joins the batch with another dimension", NoRule.BATCH)
        return self.value(self.b.reshape(v.i, dims))

    def result_axis(self, dim: int, reason: str) -> int:
        """As `axis`, for a dimension of the traced result."""
        dims, rows = self.shapes[0]
        axis = (dim + len(dims) + rows if dim < 0 else dim) - rows
        if axis < 0:
            raise NoRule(reason, NoRule.BATCH)
        return axis
