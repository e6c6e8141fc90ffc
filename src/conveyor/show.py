"""What the compiler makes of a cell, at every stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from conveyor.cell import Cell
from conveyor.compiler import Graph, inference, training
from conveyor.compiler.pipeline import Stage
from conveyor.kernels import kernel_of


@dataclass(frozen=True)
class Compilation:
    """A cell's step on its way to a kernel. Each stage is text; `print` shows all of them."""

    traced: Graph
    for_training: bool = True

    @property
    def graph(self) -> str:
        """The operations of the step."""
        return str(self.traced)

    @property
    def backward(self) -> str:
        """The operations of one step back in time."""
        return str(self._pair[1].graph)

    @property
    def plan(self) -> str:
        """The buffers, and what is done before, in and after the loop over time."""
        return "\n\n".join(str(stage.plan) for stage in self._stages)

    @property
    def source(self) -> str:
        """The kernels in C."""
        return "\n\n".join(stage.source.text for stage in self._stages)

    @cached_property
    def _pair(self) -> tuple[Stage, Stage]:
        """Forward and backward, with the gradients by all inputs of each step and all weights."""
        wanted = [(kind, name) for kind in ("stream", "weight") for name in self.traced.inputs(kind)]
        return training(self.traced, wanted)

    @property
    def _stages(self) -> tuple[Stage, ...]:
        return self._pair if self.for_training else (inference(self.traced),)

    def __str__(self) -> str:
        stages = {"graph": self.graph, "backward": self.backward, "plan": self.plan, "source": self.source}
        return "\n\n".join(f"--- {name} ---\n{text}" for name, text in stages.items())


def compile(
    cell: Cell,
    *,
    training: bool = True,
    dtype: torch.dtype = torch.float32,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Compilation:
    """What the compiler makes of a cell.

        print(conveyor.compile(conveyor.zoo.LSTM(32, 128)).plan)

    Nobody has to call this: a layer compiles its cells when it first runs. `shapes` are the shapes, without steps and
    rows, of streams and constants whose width the cell does not know: {"keys": (49, 128)}.
    Raises CannotCompile, which names the line, the operation and what to write instead.
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"a cell is wanted, such as conveyor.zoo.LSTM(32, 128), or layer.cell, not {cell!r}")
    given = shapes or {}
    names = [name for name in cell.arguments if name != "t"]
    missing = [name for name in names if name not in cell.widths and name not in given]
    if missing:
        raise ValueError(f"the shape of {', '.join(missing)} is not known: give shapes={{{missing[0]!r}: (width,)}}")
    dims = tuple((name, tuple(given[name]) if name in given else (cell.widths[name],), None) for name in names)
    with torch.no_grad():
        graph = kernel_of(cell, dims, cell.constant, dtype, record=False).graph
    return Compilation(graph, training)
