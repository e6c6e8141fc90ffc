"""A toy target: programs interpreted by NumPy, one stage after the other. It shows what a target must bring, and that
this is enough to run every cell forward and backward."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from conveyor.compiler.differentiate import Costs
from conveyor.compiler.graph import Node
from conveyor.compiler.ops import OPS
from conveyor.compiler.program import Contract, Gemm, Loop, Outer, Pack, Program, Reduce, Ref, Space
from conveyor.targets import Result

MOVES = ("copy", "fill", "store", "accumulate")


def computed(op, args, dims):
    """The value of a pointwise operation, as its declaration gives it."""
    if op in MOVES:
        return args[0]
    return OPS[op].value(Node(op, dims=tuple(dims)), [torch.from_numpy(np.array(arg)) for arg in args]).numpy()


class NumPy:
    name = "numpy"
    tried = True
    device = "cpu"
    costs = Costs(recompute=8)  # so that more is saved than on a processor

    def refuses(self, request):
        return None

    def plan(self, program):
        return Plan(program)

    def source(self, plan):
        return str(plan.program)

    def build(self, plans, dtype):
        return [Interpreter(plan.program, dtype) for plan in plans]


@dataclass(frozen=True)
class Plan:
    program: Program


@dataclass(frozen=True)
class Interpreter:
    program: Program
    dtype: torch.dtype

    def __call__(self, inputs, states, rows, start=0):
        buffers = self.program.buffers
        shapes = [
            (b.depth if b.space == Space.MATRIX else b.space.rows(rows.rows, rows.batch), b.width) for b in buffers
        ]
        made = {i: torch.full(shapes[i], torch.nan, dtype=self.dtype) for i in self.program.kept}
        arrays = [np.full(shape, np.nan, torch.empty(0, dtype=self.dtype).numpy().dtype) for shape in shapes]
        for key, i in self.program.input_buffers.items():
            arrays[i] = inputs[key].detach().numpy().reshape(shapes[i])
        for i, tensor in made.items():
            arrays[i] = tensor.numpy()
        for i in self.program.zero:
            arrays[i][:] = 0
        for i, first in zip(self.program.states.values(), states, strict=True):
            both = 2 if buffers[i].space == Space.PAIR else 1
            arrays[i][: both * rows.batch] = np.tile(first.detach().numpy(), (both, 1))
        with np.errstate(all="ignore"):
            Run(self.program, arrays, rows, start).run()
        return Result(self.program, made, rows)


class Run:
    def __init__(self, program, arrays, rows, start):
        self.program, self.arrays, self.rows, self.start = program, arrays, rows, start
        self.t, self.count, self.bulk = 0, 1, False

    def run(self):
        for one in self.program.passes:
            self.t, self.bulk = 0, one.over == "bulk"
            self.count = {"shared": 1, "rows": self.rows.batch, "bulk": self.rows.rows, "time": 0}[one.over]
            steps = range(self.rows.steps) if one.over == "time" else (0,)
            for t in reversed(steps) if self.program.reverse else steps:
                if one.over == "time":
                    self.t, self.count = t, int(self.rows.count[t])
                for stage in one.stages:
                    {Loop: loop, Reduce: reduce, Contract: contract, Pack: pack, Gemm: gemm, Outer: outer}[type(stage)](
                        self, stage
                    )

    def first(self, ref):
        """The first row of a step in a buffer."""
        t, rows, space = self.t, self.rows, self.program.buffers[ref.buffer].space
        now = 0 if self.bulk or not rows.steps else int(rows.at[t])
        if space == Space.HISTORY:
            return int(rows.before[t]) if ref.when == "before" else rows.batch + now
        if space == Space.PAIR:
            return (t + ((ref.when == "after") != self.program.reverse)) % 2 * rows.batch
        return now if space == Space.STREAM else 0

    def view(self, ref, dims, strides, count):
        """The elements of a value, [count, *dims]."""
        array = self.arrays[ref.buffer]
        shared = self.program.buffers[ref.buffer].space == Space.SHARED
        width = 0 if shared else array.shape[1]
        flat = array.reshape(-1)[self.first(ref) * width + ref.offset :]
        size = array.itemsize
        return as_strided(flat, (count, *dims), (width * size, *(stride * size for stride in strides)))

    def value(self, arg, dims, count, known=None):
        if isinstance(arg, Ref):
            return self.view(arg, dims, arg.strides, count)
        if isinstance(arg, float | str):
            return np.full((count, *dims), self.t + self.start if arg == "step" else arg, self.arrays[0].dtype)
        return known[arg.node]


def loop(run, stage):
    count, known = run.count if stage.rows else 1, {}
    for line in stage.lines:
        made = computed(line.op, [run.value(arg, stage.dims, count, known) for arg in line.args], stage.dims)
        known[line.node] = made = np.array(np.broadcast_to(made, (count, *stage.dims)), run.arrays[0].dtype)
        if line.target is not None:
            target = run.view(line.target, stage.dims, line.target.strides, count)
            target[...] = target + made if line.op == "accumulate" else made


def reduce(run, stage):
    count, outer = run.count if stage.rows else 1, len(stage.outer)
    source = run.value(stage.source, stage.outer + stage.inner, count)
    axes = tuple(range(1 + outer, source.ndim))
    target = run.view(stage.target, stage.outer, stage.target.strides, count)
    target[...] = source.sum(axes) if stage.op == "sum" else source.max(axes, initial=-np.inf)


def contract(run, stage):
    sizes, count = dict(stage.sizes), run.count if stage.rows else 1
    numbers = {label: k + 1 for k, label in enumerate(sizes)}
    given = []
    for arg, labels in zip(stage.sources, stage.labels, strict=False):
        given += [run.value(arg, [sizes[c] for c in labels], count), [0, *(numbers[c] for c in labels)]]
    out = stage.labels[2]
    target = run.view(stage.target, [sizes[c] for c in out], stage.target.strides, count)
    target[...] = np.einsum(*given, [0, *(numbers[c] for c in out)])


def pack(run, stage):
    (k, n), (row, column) = stage.size, stage.start
    weight = run.view(stage.source, stage.size, stage.source.strides, 1)[0]
    run.arrays[stage.target][row : row + k, column : column + n] = weight


def gemm(run, stage):
    count = run.count if stage.rows else 1
    target = run.view(stage.target, (stage.lead, stage.width), (stage.width, 1), count)
    known = {}
    for line in stage.condition:
        known[line.node] = computed(line.op, [run.value(arg, (), 1, known) for arg in line.args], ())
    if stage.condition and not known[stage.condition[-1].node].all():
        target[...] = 0
        return
    operands = [run.view(ref, (stage.lead, k), (lead_stride(ref), 1), count) for ref, k in stage.operands]
    target[...] = np.concatenate(operands, -1) @ run.arrays[stage.matrix]


def outer(run, stage):
    (m, n), refs = stage.size, [ref for ref in (stage.a, stage.b) if ref]
    spaces = {run.program.buffers[ref.buffer].space for ref in refs}
    timed = bool(spaces & {Space.STREAM, Space.HISTORY})
    a, *b = (layout_of(run, ref, stage.lead, k, timed) for ref, k in zip(refs, (m, n), strict=False))
    found = np.einsum("rlm,rln->mn", a, b[0]) if b else a.sum((0, 1))
    run.arrays[stage.target.buffer].reshape(-1)[stage.target.offset :][: found.size] = found.reshape(-1)


def layout_of(run, ref, lead, k, timed):
    """All rows of an operand of a sum over rows, [rows, lead, k]."""
    array, rows, space = run.arrays[ref.buffer], run.rows, run.program.buffers[ref.buffer].space
    if space == Space.HISTORY:
        before = np.arange(rows.rows) if rows.map is None else rows.map.numpy()
        array = array[before] if ref.when == "before" else array[rows.batch :]
    elif space == Space.ROWS and timed:
        array = array[np.tile(np.arange(rows.batch), rows.steps) if rows.row is None else rows.row.numpy()]
    array = np.ascontiguousarray(array)
    shared = space == Space.SHARED
    count = (rows.rows if timed else len(array)) if shared else len(array)
    size = array.itemsize
    strides = (0 if shared else array.strides[0], lead_stride(ref) * size, size)
    return as_strided(array.reshape(-1)[ref.offset :], (count, lead, k), strides)


def lead_stride(ref):
    return next((s for s in reversed(ref.strides[:-1]) if s), 0)
