"""One direction of a step as a program: buffers, and the stages that read and write them, in order.

It holds for every machine. How many rows or steps are done at a time, by which threads, and how a matrix lies in memory
is for the plan of a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from conveyor.compiler.graph import Key


class Space(StrEnum):
    """How many rows a buffer has, and which of them a step reads and writes."""

    STREAM = "stream"  # one for each step of each sequence
    HISTORY = "history"  # the initial state of each sequence, then one for each step of each sequence
    PAIR = "pair"  # two for each sequence: each step reads one and writes the other, by turns
    ROWS = "rows"  # one for each sequence
    SHARED = "shared"  # one
    SCRATCH = "scratch"  # one for each sequence, of no use after its step: a target may overwrite it
    MATRIX = "matrix"  # those of a matrix that products read, which a target may lay out as it likes

    def rows(self, steps: int, batch: int) -> int:
        """The number of rows: `steps` is the number of steps of all sequences together, `batch` that of sequences."""
        many = {Space.STREAM: steps, Space.HISTORY: batch + steps, Space.PAIR: 2 * batch}
        return many.get(self, batch if self in (Space.ROWS, Space.SCRATCH) else 1)


@dataclass(frozen=True)
class Buffer:
    """Memory of `width` elements a row. `depth` is the number of rows of a matrix."""

    name: str
    space: Space
    width: int
    depth: int = 1


@dataclass(frozen=True)
class Ref:
    """A value in a buffer: element (i, j, ...) of a row is at offset + i * strides[0] + j * strides[1] + ...

    `when`: "before" or "after" the step, for a state.
    """

    buffer: int
    offset: int
    strides: tuple[int, ...]
    when: str = ""

    @property
    def lead(self) -> int:
        """From one leading index to the next of an operand of a product: what is before its last dimension is one even
        run."""
        return next((s for s in reversed(self.strides[:-1]) if s), 0)


@dataclass(frozen=True)
class Local:
    """An element that the same loop has just computed."""

    node: int


Arg = Ref | Local | float | str  # a constant, or "step", the number of the step


@dataclass(frozen=True)
class Line:
    """One operation for each element of a loop; without a `target`, its result is for the lines after it only."""

    op: str
    args: tuple[Arg, ...]
    node: int = -1
    target: Ref | None = None
    name: str = ""


@dataclass(frozen=True)
class Loop:
    """Lines for every element of the shape `dims`, for every row if `rows`."""

    dims: tuple[int, ...]
    rows: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Reduce:
    """`op` over the inner dimensions; the source's strides are the outer ones, then the inner ones."""

    op: str
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    rows: bool
    source: Arg
    target: Ref


@dataclass(frozen=True)
class Contract:
    """The sum of products over the labels that the target lacks."""

    labels: tuple[str, str, str]
    sizes: tuple[tuple[str, int], ...]
    rows: bool
    sources: tuple[Arg, Arg]
    target: Ref


@dataclass(frozen=True)
class Pack:
    """A weight [K, N] copied into the matrix in the buffer `target`, from row and column `start` on."""

    source: Ref
    size: tuple[int, int]
    target: int
    start: tuple[int, int]


@dataclass(frozen=True)
class Gemm:
    """The sum of operands [lead, K] times their matrices, to the target [lead, N]; each operand with its K.

    With a condition, only in the steps in which that is not 0; in others the target is 0. The condition is the last of
    lines that compute it from the step's number alone.
    """

    operands: tuple[tuple[Ref, int], ...]
    lead: int
    rows: bool
    matrix: int
    target: Ref
    width: int
    condition: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Outer:
    """Over all rows (and steps) and lead: a[lead, M] times b[lead, N], to the target [M, N]. N = 0: the sum of a."""

    a: Ref
    b: Ref | None
    lead: int
    size: tuple[int, int]
    target: Ref


Stage = Loop | Reduce | Contract | Pack | Gemm | Outer


@dataclass(frozen=True)
class Pass:
    """Stages done in turn; `over` as in schedule.Section."""

    over: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """What is computed. `inputs` and `outputs`: where they are; `zero`: buffers to start from 0;
    `states`: the buffer of each state.

    `reverse`: the loop over time goes from the last step to the first.
    """

    buffers: tuple[Buffer, ...]
    passes: tuple[Pass, ...]
    inputs: tuple[tuple[Key, Ref], ...]
    outputs: tuple[tuple[Key, Ref, tuple[int, ...]], ...]
    zero: tuple[int, ...]
    reverse: bool
    states: Mapping[str, int]

    def is_timed(self, ref: Ref) -> bool:
        """Whether there is one for each step."""
        return self.buffers[ref.buffer].space in (Space.STREAM, Space.HISTORY)

    @property
    def saved(self) -> tuple[tuple[str, Ref, int], ...]:
        """What it leaves for another kernel: its name, where it is, and how wide the buffer's rows are."""
        saved = ((key.name, ref) for key, ref, _ in self.outputs if key.role == "saved")
        return tuple((name, ref, self.buffers[ref.buffer].width) for name, ref in saved)

    @cached_property
    def shapes(self) -> dict[Key, tuple[Ref, tuple[int, ...]]]:
        """Where each output is, and its shape in a row."""
        return {key: (ref, dims) for key, ref, dims in self.outputs}

    @cached_property
    def input_buffers(self) -> dict[Key, int]:
        """The buffer of each input, but for the states."""
        return {key: ref.buffer for key, ref in self.inputs if key.kind != "state"}

    @cached_property
    def kept(self) -> list[int]:
        """The buffers that a run gives back."""
        return sorted({ref.buffer for _, ref, _ in self.outputs} | set(self.states.values()) | set(self.zero))

    def __str__(self) -> str:
        lines = [f"buffer {i}: {b.space:8}{b.depth * b.width:>8}  {b.name}" for i, b in enumerate(self.buffers)]
        for one in self.passes:
            lines.append(f"{one.over}{', backwards' if self.reverse and one.over == 'time' else ''}:")
            lines += [f"  {text}" for stage in one.stages for text in show(stage)]
        lines += [f"output {name}: {_at(ref)}" for name, ref, _ in self.outputs]
        return "\n".join(lines)


def show(stage: Stage) -> list[str]:
    """A stage in words."""
    if isinstance(stage, Loop):
        head = f"for {'each row, ' if stage.rows else ''}{list(stage.dims)}"
        return [head, *(f"    {_line(line)}" for line in stage.lines)]
    if isinstance(stage, Gemm):
        terms = " + ".join(f"{_at(ref)}[{k}]" for ref, k in stage.operands)
        when = f"if {'; '.join(map(_line, stage.condition))}: " if stage.condition else ""
        return [f"{when}{_at(stage.target)}[{stage.width}] = ({terms}) times matrix {stage.matrix}"]
    if isinstance(stage, Pack):
        return [f"matrix {stage.target} from {list(stage.start)} on = {_at(stage.source)}{list(stage.size)}"]
    if isinstance(stage, Outer):
        by = f" times {_at(stage.b)}" if stage.b else ""
        return [f"{_at(stage.target)}{list(stage.size)} = sum over all rows of {_at(stage.a)}{by}"]
    if isinstance(stage, Reduce):
        return [f"{_at(stage.target)} = {stage.op} of {_arg(stage.source)} over {list(stage.inner)}"]
    first, second, out = stage.labels
    return [f"{_at(stage.target)} = {first},{second}->{out} of {_arg(stage.sources[0])}, {_arg(stage.sources[1])}"]


def _line(line: Line) -> str:
    own = f"%{line.node}" if line.node >= 0 else ""
    target = f"{_at(line.target)}" if line.target else ""
    left = " = ".join(part for part in (target, own) if part)
    return f"{left} = {line.op}({', '.join(map(_arg, line.args))}){'   # ' + line.name if line.name else ''}"


def _arg(arg: Arg) -> str:
    return _at(arg) if isinstance(arg, Ref) else f"%{arg.node}" if isinstance(arg, Local) else str(arg)


def _at(ref: Ref) -> str:
    return f"b{ref.buffer}{'.' + ref.when if ref.when else ''}{f'+{ref.offset}' if ref.offset else ''}"
