"""Lowers PyTorch functions to the operations in ops/. To support a function, add it to the table of its kind."""

from conveyor.compiler.lower.activations import ACTIVATIONS
from conveyor.compiler.lower.cells import CELLS
from conveyor.compiler.lower.lowering import Lowering, NoRule, Rule, Value
from conveyor.compiler.lower.pointwise import POINTWISE
from conveyor.compiler.lower.products import PRODUCTS
from conveyor.compiler.lower.shapes import SAME, SHAPES, TOLD_SHAPES
from conveyor.compiler.lower.sums import SUMS

# The name of a PyTorch function or method -> its lowering rule, which takes the same arguments.
LOWER: dict[str, Rule] = {**POINTWISE, **ACTIVATIONS, **SHAPES, **SUMS, **PRODUCTS, **CELLS}

__all__ = ["LOWER", "SAME", "TOLD_SHAPES", "Lowering", "NoRule", "Value"]
