"""A plan spelled in C99: the step, and what is done once a sequence."""

from __future__ import annotations

import math

from conveyor.compiler.program import Gemm, Line, Ref, Space, Stage
from conveyor.targets.c.spelling import Body, spelled
from conveyor.targets.step.plan import Plan


def literal(value: float) -> str:
    """A number of the step."""
    if math.isnan(value):
        return "(real)NAN"
    if math.isinf(value):
        return f"({'-' if value < 0 else ''}(real)INFINITY)"
    return f"(real)({value!r})" if math.copysign(1, value) < 0 else f"(real){value!r}"


class _Body(Body):
    """A loop's text within the step of one plan."""

    def __init__(self, plan: Plan):
        self.plan, self.buffers = plan, plan.program.buffers

    def number(self, value: int) -> str:
        return str(value)

    def constant(self, value: float) -> str:
        return literal(value)

    def pointer(self, ref: Ref) -> str:
        return f"({self.base(ref)})"

    def base(self, ref: Ref, row: str = "r") -> str:
        """Where a value of a row begins."""
        plus = f" + {ref.offset}" if ref.offset else ""
        if ref.buffer >= len(self.buffers):
            k = ref.buffer - len(self.buffers)
            return f"out[{k}] + {row} * {self.plan.width(self.plan.outputs[k])}{plus}"
        if ref.buffer in self.plan.vectors:
            return f"(const real *)(w + {self.plan.vectors[ref.buffer]}){plus}"
        by_row = f" + {row} * {self.width(ref)}"
        given = self.given(ref)
        if given is not None:
            return f"in[{given}]{by_row}{plus}"
        return f"mem + rows * {self.plan.places[ref.buffer, ref.when]}{by_row}{plus}"

    def given(self, ref: Ref) -> int | None:
        """Which of the streams it is, if it is one."""
        places = [self.plan.program.input_buffers[key] for key in self.plan.streams]
        return places.index(ref.buffer) if ref.buffer in places else None

    def width(self, ref: Ref) -> int:
        """Of a row of the buffer, 0 if all rows are one."""
        one = self.buffers[ref.buffer]
        return 0 if one.space == Space.SHARED else one.width


def emit(plan: Plan) -> str:
    """`begin` and `step`: C99 that follows maths.h and products.h.

    Both are given the weights `w`, memory `mem`, and what comes in; `step` also where outputs go, and its number.
    """
    body = _Body(plan)
    begin = "".join(_stage(body, stage) for stage in plan.begin)
    step = "".join(_stage(body, stage) for stage in plan.step)
    constants = "".join(
        f"  memcpy(mem + rows * {plan.places[plan.program.input_buffers[key], '']}, in[{k}], "
        f"sizeof(real) * (size_t)rows * {plan.width(key)});\n"
        for k, key in enumerate(plan.constants)
    )
    states = "".join(
        f"  memcpy(mem + rows * {plan.places[buffer, 'before']}, mem + rows * {plan.places[buffer, 'after']}, "
        f"sizeof(real) * (size_t)rows * {plan.program.buffers[buffer].width});\n"
        for buffer in plan.program.states.values()
    )
    unused = "  (void)w, (void)mem, (void)in, (void)rows"
    return (
        "/* Once a sequence: what is constant over it is read, and what only depends on that is computed. */\n"
        "static void begin(const char *w, real *mem, const real *const *in, idx rows) {\n"
        f"{unused};\n{constants}{begin}}}\n\n"
        "/* One step: from the states in mem to those after it. */\n"
        "static void step(const char *w, real *mem, const real *const *in, real *const *out, real t, idx rows) {\n"
        f"{unused}, (void)out, (void)t;\n{step}{states}}}\n"
    )


def _stage(body: _Body, stage: Stage) -> str:
    if isinstance(stage, Gemm):
        return _product(body, stage)
    text = body.stage(stage, "    ")  # type: ignore[arg-type]
    return f"  for (idx r = 0; r < {'rows' if stage.rows else '1'}; r++) {{\n{text}  }}\n"  # type: ignore[union-attr]


def _product(body: _Body, stage: Gemm) -> str:
    matrix, rows = body.plan.matrices[stage.matrix], "rows" if stage.rows else "1"
    stored = f"(const weight *)(const void *)(w + {matrix.at})"
    scale = "0" if matrix.scales < 0 else f"(const real *)(const void *)(w + {matrix.scales})"
    lead = stage.lead > 1
    pieces = []
    for ref, size in stage.operands:
        by = f" + l * {ref.lead}" if lead else ""
        pieces.append(f"{{{body.base(ref, '0')}{by}, {body.width(ref)}, {size}}}")
    to = f"{body.base(stage.target, '0')}{f' + l * {stage.width}' if lead else ''}"
    row = body.width(stage.target)
    inner = (
        f"const piece s[] = {{{', '.join(pieces)}}};\n    "
        f"product({rows}, {len(pieces)}, s, {stored}, {scale}, {matrix.depth}, {stage.width}, {to}, {row});"
    )
    if stage.condition:
        inner = _conditional(body, stage.condition, inner, rows, stage.width, to, row)
    around = f"for (idx l = 0; l < {stage.lead}; l++) " if lead else ""
    return f"  {around}{{\n    {inner}\n  }}\n"


def _conditional(body: _Body, lines: tuple[Line, ...], inner: str, rows: str, width: int, to: str, row: int) -> str:
    """A product that only some steps need, after the lines that compute whether this one does."""
    text = "".join(f"{one}\n    " for line in lines for one in spelled(line, lambda arg: body.at(arg, (), ())))
    clear = f"for (idx r = 0; r < {rows}; r++)\n      for (idx j = 0; j < {width}; j++) ({to})[r * {row} + j] = 0;"
    return f"{text}if (v{lines[-1].node} != 0) {{\n    {inner}\n    }} else {clear}"
