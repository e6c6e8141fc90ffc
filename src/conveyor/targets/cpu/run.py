"""Kernels run: memory for their buffers, and threads."""

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

from conveyor.compiler.graph import Key
from conveyor.compiler.program import Space
from conveyor.targets.batch_layout import BatchLayout
from conveyor.targets.c.checks import CHECKS, empty
from conveyor.targets.c.structs import Pointer, struct
from conveyor.targets.c.tables import Source
from conveyor.targets.cpu.loading import HERE, load, runtime
from conveyor.targets.cpu.memory import Memory
from conveyor.targets.cpu.plan import Plan
from conveyor.targets.target import Result

LINE = 64  # bytes of a cache line
MOST_THREADS = 256
RUNTIME = HERE / "runtime.h"


@cache
def _pool() -> Any:
    """PyTorch's own threads, by the interface that OpenMP's libraries have in common."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*")):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            functions = (library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads)
        except (OSError, AttributeError):
            continue  # not the one that PyTorch has loaded
        parallel, number, size = (ctypes.cast(function, Pointer) for function in functions)
        return struct(RUNTIME, "pool")(parallel=parallel, number=number, size=size)
    return None


PROCESS = os.getpid()


def _start(library: ctypes.CDLL, kernel: Pointer, call: Any) -> int:
    """Runs a kernel with as many threads as its call says; not 0 if they could not be had."""
    # A forked process has none of the threads that OpenMP believes it has.
    pool = _pool() if call.threads > 1 and os.getpid() == PROCESS else None
    if pool is not None and not library.run_pooled(kernel, ctypes.byref(call), ctypes.byref(pool)):
        return 0
    return int(library.run(kernel, ctypes.byref(call)))


class CKernel:
    """A compiled plan."""

    def __init__(self, plan: Plan, source: Source, dtype: torch.dtype):
        self.plan, self.program, self.source, self.dtype = plan, plan.program, source, dtype
        double = dtype == torch.float64
        self.runtime = runtime(double)
        self.kernel = ctypes.cast(load(source.text, double).kernel, Pointer)
        self.numbers = (ctypes.c_ssize_t * len(source.numbers))(*source.numbers)
        self.constants = ((ctypes.c_double if double else ctypes.c_float) * len(source.constants))(*source.constants)
        self.memory = Memory(plan)
        self.Pointers = Pointer * len(self.program.buffers)
        outside = {*self.program.input_buffers.values(), *self.program.kept}
        self.temporary = [
            i for i, b in enumerate(self.program.buffers) if i not in outside and b.space != Space.SCRATCH
        ]
        sums = max((self.runtime.outer_room(stage.size[0]) for stage in plan.sums), default=0)
        self.scratch = max(plan.scratch, sums) + 64
        self._frames: dict[tuple[BatchLayout, int], _Frame] = {}

    def __call__(
        self, inputs: Mapping[Key, Tensor], states: Sequence[Tensor], layout: BatchLayout, start: int = 0
    ) -> Result:
        """Runs it, as target.Kernel says."""
        frame = self._frame(layout)
        made = self._allocate(frame, states, layout)
        pointers: list[int] = [0] * len(self.program.buffers)
        for key, buffer in self.program.input_buffers.items():
            pointers[buffer] = inputs[key].data_ptr()
        for buffer, tensor in made.items():
            pointers[buffer] = tensor.data_ptr()
        alive, places, scratch = self._workspace(frame, layout)
        for buffer, place in places:
            pointers[buffer] = place
        p, rooms = self.Pointers(*pointers), (Pointer * len(scratch))(*scratch)
        call = type(frame.call).from_buffer_copy(frame.call)  # another thread may use the frame, too
        call.p, call.room, call.start = ctypes.addressof(p), ctypes.addressof(rooms), start
        error = _start(self.runtime, self.kernel, call)
        del alive
        if error:
            raise RuntimeError(f"{call.threads} threads could not be started (error {error}): torch.set_num_threads(1)")
        return Result(self.program, made, layout)

    def _workspace(self, frame: _Frame, layout: BatchLayout) -> tuple[list[Tensor], list[tuple[int, int]], list[int]]:
        """Memory for the temporary buffers and each thread's scratch, and where in it they are."""
        if "apart" in CHECKS:
            buffers = [(i, empty(self.dtype, *self.memory.shape(i, layout))) for i in self.temporary]
            rooms = [empty(self.dtype, self.scratch) for _ in frame.scratch]
            places = [(i, buffer.data_ptr()) for i, buffer in buffers]
            return [*(buffer for _, buffer in buffers), *rooms], places, [room.data_ptr() for room in rooms]
        room = empty(self.dtype, frame.size)
        at = -(-room.data_ptr() // LINE) * LINE
        return [room], [(i, at + offset) for i, offset in frame.temporary], [at + offset for offset in frame.scratch]

    def _frame(self, layout: BatchLayout) -> _Frame:
        """What does not change from run to run; the last few are kept."""
        available = min(torch.get_num_threads(), MOST_THREADS)
        key = (layout, available)
        frame = self._frames.get(key)
        if frame is None:
            if len(self._frames) >= 16:  # which may be another thread's, too
                self._frames.clear()
            frame = self._frames[key] = self._make_frame(layout, available)
        return frame

    def _make_frame(self, layout: BatchLayout, available: int) -> _Frame:
        item = torch.empty(0, dtype=self.dtype).element_size()
        at, temporary = 0, []
        for i in self.temporary:
            temporary.append((i, at))
            at += -(-math.prod(self.memory.shape(i, layout)) * item // LINE) * LINE
        each = -(-self.scratch * item // LINE) * LINE
        call, alive = self._call(layout, available)
        scratch = [at + k * each for k in range(call.threads)]
        kept = [(i, self.memory.shape(i, layout), i in self.program.zero) for i in self.program.kept]
        return _Frame((at + call.threads * each + LINE) // item, temporary, scratch, kept, call, alive)

    def _call(self, layout: BatchLayout, available: int) -> tuple[Any, tuple[Any, ...]]:
        """`struct call`, but for what changes from run to run; and what it points to."""
        threads, split = self.plan.threads(layout.rows, layout.batch, available)
        cut = _cut(layout.batch, threads) if layout.lengths is None else _fair_cut(layout.lengths, threads)
        row = _even_row(layout.steps, layout.batch) if layout.row is None else layout.row
        call = struct(RUNTIME, "call")(
            d=ctypes.addressof(self.numbers),
            k=ctypes.addressof(self.constants),
            at=layout.at.data_ptr(),
            before=layout.before.data_ptr(),
            count=layout.count.data_ptr(),
            cut=ctypes.addressof(cut),
            map=None if layout.map is None else layout.map.data_ptr(),
            row=row.data_ptr(),
            steps=layout.steps,
            batch=layout.batch,
            rows=layout.rows,
            threads=threads,
            split=split,
            span=self.plan.steps(layout.batch),
        )
        return call, (cut, row)

    def _allocate(self, frame: _Frame, states: Sequence[Tensor], layout: BatchLayout) -> dict[int, Tensor]:
        """The buffers that outlive the run, with the first states in their places."""
        made: dict[int, Tensor] = {}
        for buffer, shape, zero in frame.kept:
            made[buffer] = empty(self.dtype, *shape)
            if zero:
                made[buffer].zero_()
        pairs = self.program.reverse or layout.lengths is not None
        for buffer, first in zip(self.program.states.values(), states, strict=True):
            twice = pairs and self.program.buffers[buffer].space == Space.PAIR
            _fill(made[buffer], first, 2 if twice else 1)
        return made


@dataclass(frozen=True)
class _Frame:
    """The memory of a run over such rows with so many threads. Offsets are in bytes, from the start of the workspace;
    its size is in elements."""

    size: int
    temporary: list[tuple[int, int]]
    scratch: list[int]
    kept: list[tuple[int, tuple[int, int], bool]]
    call: Any
    alive: tuple[Any, ...]  # what the call points to


def _fill(buffer: Tensor, rows: Tensor, times: int) -> None:
    """Copies rows to the beginning of a buffer, as often as said. For small tensors PyTorch's own way takes longer."""
    if not rows.is_contiguous() or rows.dtype != buffer.dtype or rows.is_neg():
        for k in range(times):
            buffer[k * len(rows) : (k + 1) * len(rows)] = rows
        return
    for k in range(times):
        ctypes.memmove(buffer.data_ptr() + k * rows.nbytes, rows.data_ptr(), rows.nbytes)


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
