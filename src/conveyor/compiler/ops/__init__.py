"""The operations that a step is made of.

An op is a name. All that the compiler must know of it stands in one declaration here. Each target has a table of how it
is spelled, and so has each picture; tests/test_ops.py asserts that no table has a gap.
"""

from conveyor.compiler.ops.arrays import ARRAYS
from conveyor.compiler.ops.declare import Op, broadcast
from conveyor.compiler.ops.pointwise import POINTWISE

OPS: dict[str, Op] = {**ARRAYS, **POINTWISE}

__all__ = ["OPS", "Op", "broadcast"]
