"""The kernels of a traced cell, for each target: made when they are first wanted, and found again."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from conveyor.compiler import Graph
from conveyor.layer.tracing import TracedCell
from conveyor.targets import Target
from conveyor.targets.autograd import CompiledStep


def kernels_of(cell: TracedCell, target: Target[Any]) -> CompiledStep:
    """The kernels of a cell on a target. Cells whose graphs are equal, such as the layers of a stack, share them."""
    if target not in cell.kernels:
        order = () if cell.packing is None else tuple(cell.packing.blocks)
        cell.kernels[target] = kernels_of_graph(cell.graph, cell.dtype, target, order)
    return cell.kernels[target]


def kernels_of_graph(
    graph: Graph, dtype: torch.dtype, target: Target[Any], order: tuple[str, ...] = ()
) -> CompiledStep:
    """The kernels of a graph on a target; `order`: weights whose gradients are to lie one after the other."""
    # Two graphs are equal if they differ in the sign of a zero only, and have other results.
    signs = tuple(i for i, n in enumerate(graph.nodes) if n.op == "const" and math.copysign(1, n.attrs[0]) < 0)
    return shared_kernels(graph, signs, dtype, target, order)


@lru_cache(maxsize=256)
def shared_kernels(
    graph: Graph, _signs: tuple[int, ...], dtype: torch.dtype, target: Target[Any], order: tuple[str, ...] = ()
) -> CompiledStep:
    """Those that are made once."""
    return CompiledStep(graph, dtype, target, order)
