"""The interface of a target: a machine, or a library, that can run the programs of a step.

A target is a folder beside this file. It imports the compiler and never another target. Whoever adds one changes
nothing else but the list in registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from conveyor.compiler.differentiate import Costs
from conveyor.compiler.graph import Key
from conveyor.compiler.program import Program, Space
from conveyor.targets.batch_layout import BatchLayout


class CannotBuild(Exception):
    """A target has a plan that it cannot build here: the reason, and the cure."""


class Plan(Protocol):
    """A target's decisions about a program, complete: nothing is decided again when it is spelled, built or run."""

    @property
    def program(self) -> Program:
        """What it computes."""

    def __str__(self) -> str: ...


class Kernel(Protocol):
    """A plan that has been built."""

    @property
    def program(self) -> Program:
        """What it computes."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of its elements."""

    def __call__(
        self, inputs: Mapping[Key, Tensor], states: Sequence[Tensor], layout: BatchLayout, start: int = 0
    ) -> Result:
        """Runs it. `inputs`: all but the states, contiguous, a row for each row of its buffer;
        `states`: the initial ones, [B, width] each, in the order of `program.states`; `start`: the first step's number.
        """
        ...


P = TypeVar("P")


class Target(Protocol[P]):
    """A machine, or a library, that runs steps."""

    @property
    def name(self) -> str:
        """Its name, which no other target has."""

    @property
    def device(self) -> str:
        """The type of the devices whose tensors it takes, as PyTorch calls it."""

    @property
    def tried(self) -> bool:
        """Whether such a machine has run it. One that none has run is only taken where the backend is "compiled"."""

    @property
    def costs(self) -> Costs:
        """What is cheap on it: the compiler saves or recomputes by these."""

    def __hash__(self) -> int: ...

    def refuses(self, request: Request) -> str | None:
        """What it does not run, as in "no kernel is for tensors on cuda", or None."""
        ...

    def plan(self, program: Program) -> P:
        """How it computes a program."""
        ...

    def source(self, plan: P) -> str:
        """The text that it builds, to be read."""
        ...

    def build(self, plans: Sequence[P], dtype: torch.dtype) -> Sequence[Kernel]:
        """The kernels of some plans, to be used together. Raises CannotBuild, of no plans where it can build none."""
        ...


@dataclass(frozen=True)
class Request:
    """What a layer asks a target to run: all tensors that a step is given, the number of steps, whether gradients may
    be wanted, and whether a kernel is insisted on (`conveyor.backend("compiled")`)."""

    tensors: tuple[Tensor, ...]
    steps: int
    gradients: bool
    insists: bool


@dataclass(frozen=True)
class Result:
    """What a run has made: the buffers in `program.kept`, each [rows, width]."""

    program: Program
    buffers: Mapping[int, Tensor]
    layout: BatchLayout

    def output(self, key: Key) -> Tensor:
        """An output, with a row for each row of its buffer, but for one that all steps share."""
        ref, dims = self.program.shapes[key]
        buffer, space = self.buffers[ref.buffer], self.program.buffers[ref.buffer].space
        if space == Space.SHARED:
            return buffer.as_strided(dims, ref.strides, ref.offset)
        skipped = self.layout.batch if space == Space.HISTORY else 0
        count, width = buffer.shape
        return buffer.as_strided((count - skipped, *dims), (width, *ref.strides), skipped * width + ref.offset)

    def last(self, name: str) -> Tensor:
        """A state after each sequence's last step, [B, width]."""
        place = self.program.states[name]
        buffer, layout = self.buffers[place], self.layout
        if self.program.buffers[place].space == Space.HISTORY:
            if layout.lengths is None:
                return buffer[layout.rows :]
            last = (layout.lengths - 1).clamp(min=0)
            found = torch.where(layout.lengths > 0, layout.batch + (layout.at[last] if layout.steps else last), 0)
            return buffer.index_select(0, found + torch.arange(layout.batch, device=found.device))
        if self.program.reverse:
            return buffer[: layout.batch]
        if layout.lengths is None:
            return buffer.narrow(0, layout.steps % 2 * layout.batch, layout.batch)
        found = layout.lengths % 2 * layout.batch
        return buffer.index_select(0, found + torch.arange(layout.batch, device=found.device))
