"""The operations of a step.

An operation is a name with one declaration here, which holds all that the compiler must know about it. Each target and
each kind of diagram has a table of how it writes an operation; tests/test_ops.py asserts that no table has a gap.
"""

from conveyor.compiler.ops.arrays import ARRAYS
from conveyor.compiler.ops.declare import Op, broadcast
from conveyor.compiler.ops.pointwise import POINTWISE

OPS: dict[str, Op] = {**ARRAYS, **POINTWISE}

__all__ = ["OPS", "Op", "broadcast"]
