"""What to measure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from conveyor.errors import BadInput, suggest

MODES = ("training", "inference")


@dataclass(frozen=True)
class Shape:
    """The sizes of one measurement: steps T, rows B of the batch, input size I, hidden size H."""

    steps: int
    batch: int
    inputs: int
    hidden: int

    @classmethod
    def of(cls, text: str) -> Shape:
        """Parses "100,16,64,64". Raises BadInput unless it is four positive integers that fit into memory."""
        words = text.split(",")
        try:
            sizes = [int(word) for word in words]
        except ValueError:
            sizes = []
        if len(sizes) != 4 or min(sizes) < 1:
            raise BadInput(
                f"--shape {text!r} is not T,B,I,H: steps, rows of the batch, input and hidden size, four positive "
                "integers such as 100,16,64,64"
            )
        shape = cls(*sizes)
        if shape.memory > _memory():
            raise BadInput(f"--shape {text} takes more memory than this machine has: use smaller sizes")
        return shape

    @property
    def memory(self) -> int:
        """The least memory of any layer in bytes: input, output and two matrices."""
        widths = self.inputs + self.hidden
        return 4 * (self.steps * self.batch * widths + self.hidden * widths)

    def __str__(self) -> str:
        return f"{self.steps}, {self.batch}, {self.inputs}, {self.hidden}"


SHAPES = (
    Shape(100, 1, 128, 128),
    Shape(100, 1, 512, 512),
    Shape(100, 16, 64, 64),
    Shape(100, 16, 256, 256),
    Shape(100, 64, 128, 128),
    Shape(100, 64, 256, 256),
    Shape(35, 20, 650, 650),
    Shape(64, 32, 1024, 1024),
)
MIDDLE = Shape(100, 16, 128, 128)  # the plots vary one size of this shape at a time


@dataclass(frozen=True)
class Task:
    """One measurement: all contenders on one cell, mode and shape. `sweep` names the size that a plot varies."""

    cell: str
    mode: str
    shape: Shape
    sweep: str = ""

    def __str__(self) -> str:
        return f"{self.cell}, {self.mode}, {self.shape}"


@dataclass(frozen=True)
class Plan:
    """Everything that one run of `conveyor bench` measures.

        Plan(("lstm", "gru"), (Shape(100, 16, 64, 64),), threads=(1, 2), modes=("training",), against=("torch.nn",))

    `seconds` is the time for each task without warm-up. With `sweeps` the shapes of the plots are measured, too.
    """

    cells: tuple[str, ...] = ("lstm",)
    shapes: tuple[Shape, ...] = SHAPES
    threads: tuple[int, ...] = (1,)
    modes: tuple[str, ...] = MODES
    against: tuple[str, ...] = ()
    seconds: float = 10.0
    sweeps: bool = False

    def tasks(self) -> Iterator[Task]:
        """The measurements, in order."""
        for cell in self.cells:
            for mode in self.modes:
                yield from (Task(cell, mode, shape) for shape in self.shapes)
                if self.sweeps:
                    middle = self.shapes[0] if len(self.shapes) == 1 else MIDDLE
                    yield from (Task(cell, mode, shape, size) for size, shape in sweep(middle))


def sweep(middle: Shape) -> Iterator[tuple[str, Shape]]:
    """Shapes that differ from the middle one in a single size, with its name: "T", "B" or "H" (which also varies I)."""
    for factor in (1 / 4, 1 / 2, 1, 2, 4):
        yield "T", replace(middle, steps=max(1, int(middle.steps * factor)))
    for factor in (1 / 16, 1 / 4, 1, 4):
        yield "B", replace(middle, batch=max(1, int(middle.batch * factor)))
    for factor in (1 / 2, 1, 2, 4):
        inputs, hidden = (max(1, int(size * factor)) for size in (middle.inputs, middle.hidden))
        yield "H", replace(middle, inputs=inputs, hidden=hidden)


def check_mode(mode: str) -> tuple[str, ...]:
    """The modes that `--mode` selects. Raises BadInput."""
    if mode == "both":
        return MODES
    if mode not in MODES:
        raise BadInput(f"--mode cannot be {mode!r}; {suggest(mode, [*MODES, 'both'])}")
    return (mode,)


def check_threads(threads: list[int]) -> tuple[int, ...]:
    """The numbers of threads without duplicates; by default one, and PyTorch's own number. Raises BadInput."""
    available = len(processors())
    if too_many := [number for number in threads if number > available]:
        raise BadInput(f"--threads {too_many[0]} is more than the {available} processors there are")
    return tuple(dict.fromkeys(threads)) or tuple(sorted({1, min(torch.get_num_threads(), available)}))


def processors() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # unknown: assume that everything fits
        return 2**63
