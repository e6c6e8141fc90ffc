"""How a processor computes one step of a few rows: where each value lies, and how its matrices are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from conveyor.compiler.fold import Folded, fold
from conveyor.compiler.graph import Graph, Key
from conveyor.compiler.items import packed
from conveyor.compiler.pipeline import single_step
from conveyor.compiler.program import Gemm, Line, Loop, Pack, Program, Ref, Space, Stage

LINE = 64  # bytes: where an array of weights begins
WIDE, NARROW = 256, 64  # bytes of a row of a panel, as products.h has them, if weights are not stored in less
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


@dataclass(frozen=True)
class Matrix:
    """A packed matrix [depth, width] among the weights: the bytes at which it and its scales begin, or -1."""

    at: int
    scales: int
    depth: int
    width: int


@dataclass(frozen=True)
class Plan:
    """The step of a graph for a processor.

    Memory holds `rows` rows of each value: first the states, then constants and what is computed of them once a
    sequence, then the values of a step. `weights` is how matrices are stored: "float32", "bfloat16" or "int8" (with a
    scale for each column of the matrix, which is a row of the layer's weight); float64 is "float32"'s double.
    """

    folded: Folded
    program: Program
    dtype: torch.dtype
    weights: str

    @property
    def begin(self) -> tuple[Stage, ...]:
        """What is done once a sequence."""
        stages = (stage for one in self.program.passes if one.over in ("shared", "rows") for stage in one.stages)
        return tuple(stage for stage in stages if not isinstance(stage, Pack))

    @property
    def step(self) -> tuple[Stage, ...]:
        """What is done at each step, and then the outputs are brought to their places."""
        stages = (stage for one in self.program.passes if one.over == "time" for stage in one.stages)
        return (*stages, *self._stores)

    @cached_property
    def packs(self) -> list[Pack]:
        """What the matrices are put together of."""
        return [s for one in self.program.passes for s in one.stages if isinstance(s, Pack)]

    # --- memory ---

    @cached_property
    def states(self) -> list[str]:
        """The names of the states, in the order of memory."""
        return list(self.program.states)

    @cached_property
    def constants(self) -> list[Key]:
        """What is given once a sequence, in the order in which it is given."""
        return [key for key, _ in self.program.inputs if key.kind == "constant"]

    @cached_property
    def streams(self) -> list[Key]:
        """What is given at each step, in the order in which it is given."""
        return [key for key, _ in self.program.inputs if key.kind == "stream"]

    @cached_property
    def outputs(self) -> list[Key]:
        """What is given back at each step, in order."""
        return [key for key, _, _ in self.program.outputs if key.kind == "stream"]

    def width(self, key: Key) -> int:
        """The elements of a row of what is given or given back."""
        if key in self.outputs:
            return math.prod(self.program.shapes[key][1])
        return self.program.buffers[self.program.input_buffers[key]].width

    @cached_property
    def places(self) -> dict[tuple[int, str], int]:
        """Where in memory the rows of a buffer begin, in elements of one row, by buffer and `when`."""
        found: dict[tuple[int, str], int] = {}
        at = 0

        def place(buffer: int, when: str = "") -> None:
            nonlocal at
            found[buffer, when] = at
            at += self.program.buffers[buffer].width

        states, given = self.program.states.values(), {self.program.input_buffers[key] for key in self.streams}
        for buffer in states:
            place(buffer, "before")
        kept = [i for i, one in enumerate(self.program.buffers) if one.space == Space.ROWS or self._is_made(i)]
        for buffer in kept:
            place(buffer)
        for buffer in states:
            place(buffer, "after")
        for i, one in enumerate(self.program.buffers):
            if one.space in (Space.STREAM, Space.SCRATCH) and i not in given:
                place(i)
        found[-1, "end"] = at
        return found

    def _is_made(self, buffer: int) -> bool:
        """Whether all rows share it and it is no weight: a copy of a constant that a product reads."""
        return self.program.buffers[buffer].space == Space.SHARED and buffer not in self.program.input_buffers.values()

    @property
    def state_size(self) -> int:
        """The elements of a row of all states."""
        return sum(self.program.buffers[buffer].width for buffer in self.program.states.values())

    @property
    def memory(self) -> int:
        """The elements of a row of memory."""
        return self.places[-1, "end"]

    @cached_property
    def _stores(self) -> tuple[Loop, ...]:
        """Outputs, brought where they are wanted: to buffers that are numbered after the program's."""
        found = []
        for k, key in enumerate(self.outputs):
            ref, dims = self.program.shapes[key]
            target = Ref(len(self.program.buffers) + k, 0, packed(dims))
            found.append(Loop(dims, True, (Line("copy", (ref,), -1, target),)))
        return tuple(found)

    # --- weights ---

    @property
    def item(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    @cached_property
    def vectors(self) -> dict[int, int]:
        """The bytes at which the weights begin that are no matrices, by buffer."""
        return {i: at for i, at in self._layout.items() if isinstance(at, int)}

    @cached_property
    def matrices(self) -> dict[int, Matrix]:
        """The matrices, by buffer."""
        return {i: at for i, at in self._layout.items() if isinstance(at, Matrix)}

    @property
    def size(self) -> int:
        """The bytes of all weights."""
        ends = [at + self.program.buffers[i].width * self.item for i, at in self.vectors.items()]
        ends += [m.at + self.packed_size(m) * self.stored.itemsize for m in self.matrices.values()]
        ends += [m.scales + m.width * self.item for m in self.matrices.values() if m.scales >= 0]
        return max(ends, default=0)

    @property
    def stored(self) -> torch.dtype:
        """The type of the elements of a matrix."""
        return self.dtype if self.weights == "float32" else KINDS[self.weights]

    @property
    def panels(self) -> tuple[int, int]:
        """The columns of a wide panel and of a narrow one."""
        return WIDE // self.item, (2 if self.weights == "int8" else 1) * NARROW // self.item

    def packed_size(self, matrix: Matrix) -> int:
        """The elements of a matrix in panels."""
        narrow = self.panels[1]
        return -(-matrix.width // narrow) * narrow * matrix.depth

    @cached_property
    def _layout(self) -> dict[int, int | Matrix]:
        only_packed = {pack.source.buffer for pack in self.packs} - set(_read(self.step) + _read(self.begin))
        found: dict[int, int | Matrix] = {}
        at = 0

        def place(size: int) -> int:
            nonlocal at
            here, at = at, at + -(-size // LINE) * LINE
            return here

        for i, one in enumerate(self.program.buffers):
            if one.space == Space.SHARED and i not in only_packed and not self._is_made(i):
                found[i] = place(one.width * self.item)
            elif one.space == Space.MATRIX:
                matrix = Matrix(at, -1, one.depth, one.width)
                place(self.packed_size(matrix) * self.stored.itemsize)
                scales = place(one.width * self.item) if self.weights == "int8" else -1
                found[i] = Matrix(matrix.at, scales, one.depth, one.width)
        return found

    def __str__(self) -> str:
        lines = [str(self.program), f"on a processor, step by step, matrices in {self.stored}:".replace("torch.", "")]
        lines += [f"  buffer {b}{f'.{when}' if when else ''}: from {at} on" for (b, when), at in self.places.items()
                  if b >= 0]  # fmt: skip
        lines += [f"  matrix {i}: from byte {m.at} on" for i, m in self.matrices.items()]
        lines.append(f"  {self.memory} elements a row, {self.size} bytes of weights")
        return "\n".join(lines)


def _read(stages: tuple[Stage, ...]) -> list[int]:
    """The buffers that stages read, but for matrices."""
    found: list[int] = []
    for stage in stages:
        if isinstance(stage, Loop):
            args = [arg for line in stage.lines for arg in line.args]
        elif isinstance(stage, Gemm):
            args = [ref for ref, _ in stage.operands]
        else:
            args = [stage.source] if hasattr(stage, "source") else list(getattr(stage, "sources", ()))
        found += [arg.buffer for arg in args if isinstance(arg, Ref)]
    return found


def plan(graph: Graph, dtype: torch.dtype, weights: str = "float32") -> Plan:
    """How a processor computes the step of a graph."""
    folded = fold(graph)
    return Plan(folded, single_step(folded.graph).program, dtype, weights)
