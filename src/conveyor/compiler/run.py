"""Kernels run: memory for their buffers, threads, and the shape of the sequences."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conveyor.compiler.build import load, runtime
from conveyor.compiler.chunks import chunks
from conveyor.compiler.emit_c import Source
from conveyor.compiler.plan import Gemm, Outer, Plan

Pointer = ctypes.c_void_p
# For tests. "nan": a number that is read before it is written spoils the result; "apart": every buffer is memory of its
# own, so that the compiler's sanitizer sees what is read or written beyond one.
CHECKS = os.environ.get("CONVEYOR_CHECKS", "").split()
LINE = 64  # bytes of a cache line
MOST_THREADS = 256
FEW = 1 << 21  # operations below which a second thread costs more than it saves
LARGE = 1 << 16  # numbers of a step's matrices from which threads gain by sharing them


class _Call(ctypes.Structure):
    """`call` of runtime.h."""

    _fields_ = (
        *(
            (name, Pointer)
            for name in ("f", "team", "d", "k", "p", "room", "at", "before", "count", "cut", "map", "row")
        ),
        *((name, ctypes.c_ssize_t) for name in ("steps", "batch", "rows", "start", "threads", "split")),
        *((name, ctypes.c_ssize_t) for name in ("begin", "end", "first", "add")),
    )


@dataclass(frozen=True, eq=False)
class Extent:
    """How many steps the sequences of a batch have, and from that where each step lies in a stream.

    Sequences of different lengths lie as in a PackedSequence: the longest first, each step as many rows as still run.
    """

    steps: int
    batch: int
    rows: int
    at: Tensor
    before: Tensor
    count: Tensor
    map: Tensor | None = None  # rows of a history before each row of a stream, if they are not the same
    row: Tensor | None = None  # the sequence of each row of a stream
    order: Tensor | None = None  # the sequences by length, the longest first
    index: Tensor | None = None  # the place of each row of a stream among [steps * batch]
    lengths: Tensor | None = None  # in that order

    def pack(self, stream: Tensor) -> Tensor:
        """[T, B, ...] as rows."""
        flat = stream.reshape(self.steps * self.batch, *stream.shape[2:])
        return flat.contiguous() if self.index is None else flat.index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows as [T, B, ...], zero in the padding."""
        if self.index is not None:
            whole = rows.new_zeros(self.steps * self.batch, *rows.shape[1:])
            rows = whole.index_copy_(0, self.index, rows)
        return rows.view(self.steps, self.batch, *rows.shape[1:])

    def sort(self, values: Tensor) -> Tensor:
        """[B, ...] in the order of the rows."""
        return values if self.order is None else values.index_select(0, self.order)

    def unsort(self, values: Tensor) -> Tensor:
        return values if self.order is None else torch.empty_like(values).index_copy_(0, self.order, values)


@lru_cache(maxsize=256)
def even_extent(steps: int, batch: int) -> Extent:
    """Of sequences that are all of one length."""
    at = torch.arange(steps, dtype=torch.int64) * batch
    count = torch.full((steps,), batch, dtype=torch.int64)
    return Extent(steps, batch, steps * batch, at, at, count)


def extent(steps: int, lengths: Tensor) -> Extent:
    """Of sequences of these lengths, [B]."""
    batch = len(lengths)
    ordered, order = lengths.sort(descending=True, stable=True)
    t = torch.arange(steps)
    count = (t[:, None] < ordered).sum(1)
    at = count.cumsum(0) - count
    before = torch.cat([torch.zeros(1, dtype=torch.int64), batch + at])[:steps]
    running = (t[:, None] < ordered).flatten()
    step, row = t.repeat_interleave(batch)[running], torch.arange(batch).repeat(steps)[running]
    index = step * batch + order[row]
    rows = int(count.sum())
    return Extent(steps, batch, rows, at, before, count, before[step] + row, row, order, index, ordered)


@lru_cache(maxsize=64)
def rows_of(steps: int, lengths: tuple[int, ...]) -> Extent:
    """`extent`, of which the last few are kept: the layers of a stack have the same."""
    return extent(steps, torch.tensor(lengths, dtype=torch.int64))


class _Pool(ctypes.Structure):
    """`pool` of runtime.c."""

    _fields_ = (("parallel", Pointer), ("number", Pointer), ("size", Pointer))


@cache
def _pool() -> _Pool | None:
    """PyTorch's own threads, by the interface that OpenMP's libraries have in common."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*")):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            functions = (library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads)
        except (OSError, AttributeError):
            continue  # not the one that PyTorch has loaded
        return _Pool(*(ctypes.cast(function, Pointer) for function in functions))
    return None


PROCESS = os.getpid()


def _start(library: ctypes.CDLL, kernel: Pointer, call: _Call) -> int:
    """Runs a kernel with as many threads as its call says; not 0 if they could not be had."""
    # A forked process has none of the threads that OpenMP believes it has.
    pool = _pool() if call.threads > 1 and os.getpid() == PROCESS else None
    if pool is not None and not library.run_pooled(kernel, ctypes.byref(call), ctypes.byref(pool)):
        return 0
    return int(library.run(kernel, ctypes.byref(call)))


class Program:
    """One compiled plan."""

    def __init__(self, plan: Plan, source: Source, dtype: torch.dtype):
        self.plan, self.source, self.dtype = plan, source, dtype
        double = dtype == torch.float64
        self.runtime = runtime(double)
        self.kernel = ctypes.cast(load(self.source.text, double).kernel, Pointer)
        self.numbers = (ctypes.c_ssize_t * len(self.source.numbers))(*self.source.numbers)
        real = ctypes.c_double if double else ctypes.c_float
        self.constants = (real * len(source.constants))(*source.constants)
        self.tables = (ctypes.addressof(self.numbers), ctypes.addressof(self.constants))
        self.Pointers = Pointer * len(plan.buffers)
        self.inputs = [(name, ref.buffer) for name, ref in plan.inputs if not name.startswith("state ")]
        self.shapes = {name: (ref, dims) for name, ref, dims in plan.outputs}
        places = {b.name: i for i, b in enumerate(plan.buffers)}
        self.states = {key[6:]: places[key] for key, _, _ in plan.outputs if key.startswith("state ")}
        given = {buffer for _, buffer in self.inputs}
        self.kept = sorted({ref.buffer for _, ref, _ in plan.outputs} | set(self.states.values()) | set(plan.zero))
        self.temporary = [
            i for i, b in enumerate(plan.buffers) if i not in given and i not in self.kept and b.space != "block"
        ]
        scratch = sum(b.width * plan.block for b in plan.buffers if b.space == "block")
        columns = [s.size[0] for one in plan.passes for s in one.stages if isinstance(s, Outer)]
        self.scratch = max(scratch, max((self.runtime.outer_room(n) for n in columns), default=0)) + 64
        self.work = sum(b.width for b in plan.buffers if b.space == "packed")
        loop = [s.packed for one in plan.passes if one.over == "time" for s in one.stages if isinstance(s, Gemm)]
        self.matrices = sum(plan.buffers[i].width for i in set(loop))
        self.chunks = chunks(plan)
        self._frames: dict[tuple[Extent, int], _Frame] = {}

    def __call__(self, given: Mapping[str, Tensor], states: Sequence[Tensor], extent: Extent, start: int = 0) -> Result:
        """Runs it. `given`: every input but the states, by kind and name, rows without gaps; `states`: the first, in
        the order of `self.states`."""
        frame = self._frame(extent)
        made = self._allocate(frame, states, extent)
        pointers: list[int] = [0] * len(self.plan.buffers)
        for name, buffer in self.inputs:
            pointers[buffer] = given[name].data_ptr()
        for buffer, tensor in made.items():
            pointers[buffer] = tensor.data_ptr()
        alive, places, scratch = self._workspace(frame, extent)
        for buffer, place in places:
            pointers[buffer] = place
        p, rooms = self.Pointers(*pointers), (Pointer * len(scratch))(*scratch)
        call = _Call(None, None, *self.tables, ctypes.addressof(p), ctypes.addressof(rooms), *frame.tail)
        call.start = start
        error = _start(self.runtime, self.kernel, call)
        del alive
        if error:
            raise RuntimeError(
                f"{frame.threads} threads could not be started (error {error}): torch.set_num_threads(1)"
            )
        return Result(self, made, extent)

    def _workspace(self, frame: _Frame, extent: Extent) -> tuple[list[Tensor], list[tuple[int, int]], list[int]]:
        """Memory for the temporary buffers and each thread's scratch, and where in it they are."""
        if "apart" in CHECKS:
            shapes = [(i, (self._rows(i, extent), self.plan.buffers[i].width)) for i in self.temporary]
            buffers = [(i, empty(self.dtype, *shape)) for i, shape in shapes]
            rooms = [empty(self.dtype, self.scratch) for _ in frame.scratch]
            places = [(i, buffer.data_ptr()) for i, buffer in buffers]
            return [*(buffer for _, buffer in buffers), *rooms], places, [room.data_ptr() for room in rooms]
        room = empty(self.dtype, frame.size)
        at = -(-room.data_ptr() // LINE) * LINE
        return [room], [(i, at + offset) for i, offset in frame.temporary], [at + offset for offset in frame.scratch]

    def _frame(self, extent: Extent) -> _Frame:
        """What does not change from run to run; the last few are kept."""
        wanted = min(torch.get_num_threads(), MOST_THREADS)
        key = (extent, wanted)
        frame = self._frames.get(key)
        if frame is None:
            if len(self._frames) >= 16:  # which may be another thread's, too
                self._frames.clear()
            frame = self._frames[key] = self._make_frame(extent, wanted)
        return frame

    def _make_frame(self, extent: Extent, wanted: int) -> _Frame:
        threads = wanted if 2 * self.work * extent.rows >= FEW else 1
        # With few rows, threads share each step's products; else each has rows of its own, and never waits.
        split = threads > 1 and extent.batch < 4 * threads and self.matrices >= LARGE
        item = torch.empty(0, dtype=self.dtype).element_size()
        rows = [self._rows(i, extent) for i in range(len(self.plan.buffers))]
        at, temporary = 0, []
        for i in self.temporary:
            temporary.append((i, at))
            at += -(-rows[i] * self.plan.buffers[i].width * item // LINE) * LINE
        each = -(-self.scratch * item // LINE) * LINE
        kept = [(i, (rows[i], self.plan.buffers[i].width), i in self.plan.zero) for i in self.kept]
        cut = _cut(extent.batch, threads) if extent.lengths is None else _fair_cut(extent.lengths, threads)
        row = _even_row(extent.steps, extent.batch) if extent.row is None else extent.row
        tail = (
            *(tensor.data_ptr() for tensor in (extent.at, extent.before, extent.count)),
            ctypes.addressof(cut),
            None if extent.map is None else extent.map.data_ptr(),
            row.data_ptr(),
            *(extent.steps, extent.batch, extent.rows, 0, threads, split),
        )
        scratch = [at + k * each for k in range(threads)]
        return _Frame(threads, (at + threads * each + LINE) // item, temporary, scratch, kept, tail, (cut, row))

    def _rows(self, buffer: int, extent: Extent) -> int:
        rows = {"stream": extent.rows, "history": extent.batch + extent.rows, "pair": 2 * extent.batch}
        space = self.plan.buffers[buffer].space
        if buffer in self.chunks.passing:  # as the kernel's `span`
            return min(extent.rows, max(extent.batch, self.chunks.rows // max(1, extent.batch) * extent.batch))
        return rows.get(space, extent.batch if space == "rows" else 1)

    def _allocate(self, frame: _Frame, states: Sequence[Tensor], extent: Extent) -> dict[int, Tensor]:
        """The buffers that outlive the run, with the first states in their places."""
        made: dict[int, Tensor] = {}
        for buffer, shape, zero in frame.kept:
            made[buffer] = empty(self.dtype, *shape)
            if zero:
                made[buffer].zero_()
        for buffer, first in zip(self.states.values(), states, strict=True):
            made[buffer][: extent.batch] = first
            if self.plan.buffers[buffer].space == "pair" and (self.plan.reverse or extent.lengths is not None):
                made[buffer][extent.batch :] = first
        return made


@dataclass(frozen=True)
class _Frame:
    """The memory of a run of this extent and so many threads. Offsets are in bytes, from the start of the workspace."""

    threads: int
    size: int
    temporary: list[tuple[int, int]]
    scratch: list[int]
    kept: list[tuple[int, tuple[int, int], bool]]
    tail: tuple[Any, ...]  # of the call
    alive: tuple[Any, ...]  # what the tail points to


def empty(dtype: torch.dtype, *shape: int) -> Tensor:
    """Memory that a kernel is to fill."""
    made = torch.empty(shape, dtype=dtype)
    return made.fill_(math.nan) if "nan" in CHECKS else made


@dataclass(frozen=True)
class Result:
    """What a run has made: buffers, and the outputs in them."""

    program: Program
    made: dict[int, Tensor]
    extent: Extent

    def output(self, key: str) -> Tensor:
        """An output by kind and name: rows for a "stream", one value a sequence or one alone for "once"."""
        ref, dims = self.program.shapes[key]
        buffer = self.made[ref.buffer]
        space = self.program.plan.buffers[ref.buffer].space
        if space == "shared":
            return buffer.as_strided(dims, ref.strides, ref.offset)
        skipped = self.extent.batch if space == "history" else 0
        rows, width = buffer.shape
        return buffer.as_strided((rows - skipped, *dims), (width, *ref.strides), skipped * width + ref.offset)

    def last(self, name: str) -> Tensor:
        """A state after each sequence's last step, [B, width]."""
        buffer, e = self.made[self.program.states[name]], self.extent
        plan = self.program.plan
        if plan.buffers[self.program.states[name]].space == "history":
            if e.lengths is None:
                return buffer[e.rows :]
            last = (e.lengths - 1).clamp(min=0)
            place = torch.where(e.lengths > 0, e.batch + (e.at[last] if e.steps else last), 0)
            return buffer.index_select(0, place + torch.arange(e.batch))
        if plan.reverse:
            return buffer[: e.batch]
        if e.lengths is None:
            return buffer[e.steps % 2 * e.batch :][: e.batch]
        return buffer.index_select(0, e.lengths % 2 * e.batch + torch.arange(e.batch))


@lru_cache(maxsize=256)
def _even_row(steps: int, batch: int) -> Tensor:
    return torch.arange(batch).repeat(steps)


@lru_cache(maxsize=256)
def _cut(batch: int, threads: int) -> ctypes.Array[ctypes.c_ssize_t]:
    """The first row of each thread, and the end."""
    return (ctypes.c_ssize_t * (threads + 1))(*(batch * k // threads for k in range(threads + 1)))


def _fair_cut(lengths: Tensor, threads: int) -> ctypes.Array[ctypes.c_ssize_t]:
    """The same for sequences of different lengths: each thread has as many steps."""
    steps = lengths.cumsum(0)
    total = int(steps[-1]) if len(steps) else 0
    cut = [int((steps <= total * k // threads).sum()) for k in range(threads)]
    return (ctypes.c_ssize_t * (threads + 1))(0, *cut[1:], len(lengths))


def sgemm(size: int) -> Callable[[], None]:
    """A product of two square matrices as the kernels do it, to be timed."""
    a, packed, c = (torch.ones(size, size + extra, dtype=torch.float32) for extra in (0, 64, 0))
    library = runtime(double=False)
    given = (*(ctypes.c_ssize_t(n) for n in (size, size, size)), *(Pointer(t.data_ptr()) for t in (a, packed, c)))

    def product(_keep: tuple[Tensor, ...] = (a, packed, c)) -> None:
        library.multiply(*given)

    return product
