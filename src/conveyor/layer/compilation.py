"""`conveyor.compile`: the stages of compiling a cell, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from conveyor.cell import Cell
from conveyor.compiler import Graph, inference, training
from conveyor.compiler.pipeline import Lowered
from conveyor.layer.tracing import Signature, traced
from conveyor.targets import Plan, Target, registry


@dataclass(frozen=True)
class Compilation:
    """The stages of compiling a cell's step to a kernel. Each is text; `print` shows all of them."""

    traced: Graph
    for_training: bool = True
    target: Target[Any] = field(default_factory=lambda: registry.TARGETS[0])

    @property
    def graph(self) -> str:
        """The graph of the step: its operations."""
        return str(self.traced)

    @property
    def backward(self) -> str:
        """The graph of the backward pass of one step."""
        return str(self._pair[1].graph)

    @property
    def plan(self) -> str:
        """The plan: the buffers, and the work before, in and after the loop over time."""
        return "\n\n".join(map(str, self._plans))

    @property
    def source(self) -> str:
        """The source of the kernels."""
        return "\n\n".join(self.sources)

    @property
    def sources(self) -> list[str]:
        """The source of each direction, forward and backward."""
        return list(map(self.target.source, self._plans))

    @cached_property
    def _pair(self) -> tuple[Lowered, Lowered]:
        """Forward and backward, with gradients with respect to all streams and all weights."""
        wanted = [(kind, name) for kind in ("stream", "weight") for name in self.traced.inputs(kind)]
        return training(self.traced, wanted, self.target.costs)

    @property
    def _plans(self) -> list[Plan]:
        directions = self._pair if self.for_training else (inference(self.traced),)
        return [self.target.plan(one.program) for one in directions]

    def __str__(self) -> str:
        stages = {"graph": self.graph, "backward": self.backward, "plan": self.plan, "source": self.source}
        return "\n\n".join(f"--- {name} ---\n{text}" for name, text in stages.items())


def compile(
    cell: Cell,
    *,
    training: bool = True,
    dtype: torch.dtype = torch.float32,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: str | None = None,
) -> Compilation:
    """Compiles a cell and returns the stages for inspection.

        print(conveyor.compile(conveyor.zoo.LSTM(32, 128)).plan)

    A layer compiles its cells by itself when it first runs, so this is needed only to look at the stages. `training`
    includes the backward pass. `shapes` gives the shapes, without the dimensions of time and batch, of streams and
    constants whose width the cell does not know: {"keys": (49, 128)}. `target` is "cpu", the default, or "cuda".

    Raises TypeError if `cell` is not a cell, ValueError if a shape is missing or there is no such target, and
    CannotCompile, which names the line, the operation and what to write instead.
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"expected a cell such as conveyor.zoo.LSTM(32, 128), or layer.cell, not {cell!r}")
    given = shapes or {}
    names = [name for name in cell.arguments if name != "t"]
    missing = [name for name in names if name not in cell.widths and name not in given]
    if missing:
        raise ValueError(f"the shape of {', '.join(missing)} is not known: pass shapes={{{missing[0]!r}: (width,)}}")
    dims = tuple((name, tuple(given[name]) if name in given else (cell.widths[name],), None) for name in names)
    with torch.no_grad():
        graph = traced(cell, Signature(dims, cell.constant, dtype)).graph
    return Compilation(graph, training, *([] if target is None else [registry.target(target)]))
