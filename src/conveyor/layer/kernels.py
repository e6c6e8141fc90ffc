"""The kernels of a traced cell, for each target: made when they are first wanted, and found again."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from conveyor.compiler import Graph
from conveyor.layer.tracing import TracedCell
from conveyor.targets import Target
from conveyor.targets.autograd import CompiledStep

_found: WeakKeyDictionary[TracedCell, dict[str, CompiledStep]] = WeakKeyDictionary()


def kernels_of(cell: TracedCell, target: Target[Any]) -> CompiledStep:
    """The kernels of a cell on a target."""
    known = _found.setdefault(cell, {})
    if target.name not in known:
        known[target.name] = shared_kernels(cell.graph, cell.dtype, target)
    return known[target.name]


@lru_cache(maxsize=256)
def shared_kernels(graph: Graph, dtype: torch.dtype, target: Target[Any]) -> CompiledStep:
    """Equal graphs, such as those of the layers of a stack, have the same kernels."""
    return CompiledStep(graph, dtype, target)
