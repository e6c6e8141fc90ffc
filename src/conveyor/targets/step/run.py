"""Steps run in this process."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from conveyor.compiler.graph import Graph
from conveyor.targets.c import build, maths
from conveyor.targets.c.checks import CHECKS
from conveyor.targets.step.emit import emit
from conveyor.targets.step.pack import pack
from conveyor.targets.step.plan import LINE, Plan, plan

HERE = Path(__file__).parent
STORED = {
    "float32": "typedef real weight;\n",
    "bfloat16": "#define BFLOAT16\ntypedef uint16_t weight;\n",
    "int8": "#define INT8\ntypedef int8_t weight;\n",
}


def text(made: Plan) -> str:
    """The step of a plan with all that it calls, in C99; `real` and `idx` are the types of numbers and of indices."""
    products = build.read(HERE / "products.h")
    return f"{maths()}\n{STORED[made.weights]}\n{products}\n{emit(made)}"


def source(made: Plan) -> str:
    """What is compiled to be run here."""
    ins, outs = (len(each) or 1 for each in (made.streams, made.outputs))
    # How far a pointer goes on from step to step.
    reads, writes = (", ".join(str(made.width(key)) for key in each) or "0" for each in (made.streams, made.outputs))
    widths = [made.program.buffers[buffer].width for buffer in made.program.states.values()]
    states = ", ".join(map(str, widths))
    return f"""#include <stddef.h>
typedef REAL real;
typedef ptrdiff_t idx;
{text(made)}
static const idx in_width[] = {{{reads}}}, out_width[] = {{{writes}}}, state_width[] = {{{states}}};

void conveyor_begin(const char *w, real *m, const real *const *in, idx rows) {{
  begin(w, m, in, rows);
}}

void conveyor_run(const char *w, real *m, const real *const *in, real *const *out, idx steps, idx start, idx rows) {{
  const real *x[{ins}];
  real *y[{outs}];
  for (idx i = 0; i < steps; i++) {{
    for (idx k = 0; k < {len(made.streams)}; k++) x[k] = in[k] + i * rows * in_width[k];
    for (idx k = 0; k < {len(made.outputs)}; k++) y[k] = out[k] + i * rows * out_width[k];
    step(w, m, x, y, (real)(start + i), rows);
  }}
}}

/* One step that only reads x and only gives y. */
void conveyor_one(const char *w, real *m, idx rows, const real *x, real *y, idx start) {{
  const real *in[] = {{x}};
  real *out[] = {{y}};
  step(w, m, in, out, (real)start, rows);
}}

/* The states come from and go to arrays of their own. */
void conveyor_apply(const char *w, real *m, const real *const *in, real *const *out, idx steps, idx start, idx rows,
                    const real *const *from, real *const *to) {{
  real *s = m;
  for (idx k = 0; k < {len(widths)}; s += rows * state_width[k++])
    memcpy(s, from[k], sizeof(real) * (size_t)(rows * state_width[k]));
  conveyor_run(w, m, in, out, steps, start, rows);
  s = m;
  for (idx k = 0; k < {len(widths)}; s += rows * state_width[k++])
    memcpy(to[k], s, sizeof(real) * (size_t)(rows * state_width[k]));
}}
"""


class StepKernel:
    """The step of a graph, compiled: for any weights, memory and number of rows.

    kernel = step_kernel(network.graph, torch.float32)
    weights, memory = kernel.pack({"cells.0.forget.weight_h": tensor, ...}), kernel.memory(rows)
    kernel.run(weights, memory, inputs, outputs, steps, start, rows)

    Raises CannotBuild.
    """

    def __init__(self, made: Plan):
        self.plan = made
        library = build.load(source(made), made.dtype == torch.float64)
        # run(weights, memory, inputs, outputs, steps, start, rows): some steps, from the states in memory to those
        # after; apply(..., old, new): the same, with these states in arrays of their own; one(weights, memory, rows, x,
        # output, start): a step with one input and one output. All are addresses or arrays.
        self._begin, self.run, self.apply = library.conveyor_begin, library.conveyor_run, library.conveyor_apply
        self.one = library.conveyor_one
        pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
        self._begin.argtypes = [pointer, pointer, pointer, size]
        self.run.argtypes = [pointer] * 4 + [size] * 3
        self.one.argtypes = [pointer, pointer, size, pointer, pointer, size]
        self.apply.argtypes = [pointer] * 4 + [size] * 3 + [pointer] * 2
        for function in (self._begin, self.run, self.one, self.apply):
            function.restype = None
        self.Inputs, self.Outputs = (pointer * len(each) for each in (made.streams, made.outputs))
        self.States = pointer * len(made.states)

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The weights as the step reads them."""
        return pack(self.plan, weights)

    def memory(self, rows: int) -> Tensor:
        """Memory of a stream of so many rows, of which the first elements are the states: zeros."""
        size, lines = self.plan.memory * rows, LINE // self.plan.item
        made = torch.zeros(size + lines, dtype=self.plan.dtype)
        if "nan" in CHECKS:
            made[self.plan.state_size * rows :] = math.nan
        return made[-made.data_ptr() % LINE // self.plan.item :][:size]

    def begin(self, weights: Tensor, memory: Tensor, constants: Sequence[Tensor], rows: int) -> None:
        """Reads what is constant over a sequence."""
        given = (ctypes.c_void_p * len(constants))(*(tensor.data_ptr() for tensor in constants))
        self._begin(weights.data_ptr(), memory.data_ptr(), given, rows)


@lru_cache(maxsize=256)
def step_kernel(graph: Graph, dtype: torch.dtype, weights: str = "float32") -> StepKernel:
    """The step of a graph, compiled once. Raises CannotBuild."""
    return StepKernel(plan(graph, dtype, weights))
