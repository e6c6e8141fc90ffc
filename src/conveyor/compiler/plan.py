"""Every decision about a kernel, as a value that prints: which buffers there are, and what is done in which order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """Memory of `width` numbers a row. `space` says how many rows it has, and how a step finds its own.

    "stream": one for each step of each sequence; "history": these, and before them the initial state of each sequence;
    "pair": two for each sequence, by turns before and after a step; "rows": one for each sequence; "shared": one;
    "block": one for each sequence of a block, overwritten by the next block; "packed": a matrix for the micro-kernel.
    """

    name: str
    space: str
    width: int


@dataclass(frozen=True)
class Ref:
    """A value in a buffer: number (i, j, ...) of a row is at offset + i * strides[0] + j * strides[1] + ...

    `when`: "before" or "after" the step, for a state.
    """

    buffer: int
    offset: int
    strides: tuple[int, ...]
    when: str = ""


@dataclass(frozen=True)
class Local:
    """A number that the same loop has just computed."""

    node: int


Arg = Ref | Local | float | str  # a number, or "step"


@dataclass(frozen=True)
class Line:
    """One operation for each number of a loop; `target` none: only for the lines after it."""

    op: str
    args: tuple[Arg, ...]
    node: int = -1
    target: Ref | None = None
    name: str = ""


@dataclass(frozen=True)
class Loop:
    """Lines for every number of the shape `dims`, for every row if `rows`."""

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
    """A matrix [K, N] brought to its place in a packed one, which is [total K, total N]."""

    source: Ref
    size: tuple[int, int]
    target: int
    place: tuple[int, int]
    total: tuple[int, int]


@dataclass(frozen=True)
class Gemm:
    """The sum of operands [lead, K] times their matrices, to the target [lead, N]; each operand with its K.

    With a clock, only in the steps in which that is not 0; in others the target is 0. The clock is the last of lines
    that compute it from the step's number alone.
    """

    operands: tuple[tuple[Ref, int], ...]
    lead: int
    rows: bool
    packed: int
    target: Ref
    width: int
    clock: tuple[Line, ...] = ()


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


@dataclass(frozen=True)
class Plan:
    """What a kernel does. `inputs` and `outputs`: where they are, by kind and name; `zero`: buffers to start from 0."""

    buffers: tuple[Buffer, ...]
    passes: tuple[Pass, ...]
    inputs: tuple[tuple[str, Ref], ...]
    outputs: tuple[tuple[str, Ref, tuple[int, ...]], ...]
    zero: tuple[int, ...]
    reverse: bool
    block: int

    @property
    def saved(self) -> tuple[tuple[str, Ref, int], ...]:
        """What it leaves for another kernel: its name, where it is, and how wide the buffer's rows are."""
        outputs = ((key.split(" ", 1)[1], ref) for key, ref, _ in self.outputs)
        return tuple((name, ref, self.buffers[ref.buffer].width) for name, ref in outputs if name.startswith("saved "))

    def __str__(self) -> str:
        lines = [f"buffer {i}: {b.space:8}{b.width:>8}  {b.name}" for i, b in enumerate(self.buffers)]
        for one in self.passes:
            order = ", backwards" if self.reverse and one.over == "time" else ""
            lines.append(f"{one.over}{order}:")
            lines += [f"  {text}" for stage in one.stages for text in show(stage)]
        lines += [f"output {name}: {_place(ref)}" for name, ref, _ in self.outputs]
        return "\n".join(lines)


def show(stage: Stage) -> list[str]:
    """A stage in words."""
    if isinstance(stage, Loop):
        head = f"for {'each row, ' if stage.rows else ''}{list(stage.dims)}"
        return [head, *(f"    {_line(line)}" for line in stage.lines)]
    if isinstance(stage, Gemm):
        terms = " + ".join(f"{_place(ref)}[{k}]" for ref, k in stage.operands)
        when = f"if {'; '.join(map(_line, stage.clock))}: " if stage.clock else ""
        return [f"{when}{_place(stage.target)}[{stage.width}] = ({terms}) times matrix {stage.packed}"]
    if isinstance(stage, Pack):
        return [f"matrix {stage.target} {list(stage.total)} at {list(stage.place)} = {_place(stage.source)}"]
    if isinstance(stage, Outer):
        by = f" times {_place(stage.b)}" if stage.b else ""
        return [f"{_place(stage.target)}{list(stage.size)} = sum over all rows of {_place(stage.a)}{by}"]
    if isinstance(stage, Reduce):
        return [f"{_place(stage.target)} = {stage.op} of {_arg(stage.source)} over {list(stage.inner)}"]
    first, second, out = stage.labels
    return [f"{_place(stage.target)} = {first},{second}->{out} of {_arg(stage.sources[0])}, {_arg(stage.sources[1])}"]


def _line(line: Line) -> str:
    own = f"%{line.node}" if line.node >= 0 else ""
    target = f"{_place(line.target)}" if line.target else ""
    left = " = ".join(part for part in (target, own) if part)
    return f"{left} = {line.op}({', '.join(map(_arg, line.args))}){'   # ' + line.name if line.name else ''}"


def _arg(arg: Arg) -> str:
    return _place(arg) if isinstance(arg, Ref) else f"%{arg.node}" if isinstance(arg, Local) else str(arg)


def _place(ref: Ref) -> str:
    return f"b{ref.buffer}{'.' + ref.when if ref.when else ''}{f'+{ref.offset}' if ref.offset else ''}"
