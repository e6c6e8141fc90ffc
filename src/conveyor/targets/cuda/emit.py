"""A plan spelled in CUDA C: a kernel for each part that is not PyTorch's. Everything has been decided before.

The text includes gpu.h, which is the machine, maths.h and team.h. It is C as well as C++, so that another machine can
run it. Threads are told apart by their `rank` in a team only, so one text serves every grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor.compiler.program import Contract, Gemm, Loop, Reduce, Ref, Space, Stage
from conveyor.targets.c.spelling import Body, spelled
from conveyor.targets.c.tables import Source, Tables
from conveyor.targets.cuda.plan import THREADS, By, Part, Plan

# The row that a team's first sequence has in a step, by the space and by `when`.
IN_STEP = {
    (Space.STREAM, ""): "now",
    (Space.ROWS, ""): "b",
    (Space.HISTORY, "before"): "old",
    (Space.HISTORY, "after"): "(c.batch + now)",
    (Space.PAIR, "before"): "even",
    (Space.PAIR, "after"): "odd",
    (Space.SCRATCH, ""): "spare",
}


def emit(plan: Plan) -> Source:
    """The kernels of a plan, named kernel0 and so on after the part that they do."""
    e = _Emitter(plan)
    head = f'#define BUFFERS {len(plan.program.buffers)}\n#define MOST_THREADS {THREADS}\n#include "gpu.h"\n'
    kernels = [e.kernel(k, part) for k, part in enumerate(plan.parts) if part.by == By.KERNEL]
    return e.source("\n".join([head + '#include "maths.h"\n#include "team.h"\n', *kernels]))


class _Emitter(Tables):
    def __init__(self, plan: Plan):
        super().__init__()
        self.plan, self.buffers = plan, plan.program.buffers
        self.widths: dict[int, str] = {}

    def width(self, buffer: int) -> str:
        """Of a row of this buffer, in elements; 0 if all rows are one."""
        if self.buffers[buffer].space == Space.SHARED:
            return "0"
        if buffer not in self.widths:
            self.widths[buffer] = self.number(self.buffers[buffer].width)
        return self.widths[buffer]

    def base(self, ref: Ref) -> str:
        """Where a team's first sequence has this value."""
        offset = f" + {self.number(ref.offset)}" if ref.offset else ""
        space = self.buffers[ref.buffer].space
        row = "" if space == Space.SHARED else f" + {IN_STEP[space, ref.when]} * {self.width(ref.buffer)}"
        return f"p.at[{ref.buffer}]{row}{offset}"

    def kernel(self, number: int, part: Part) -> str:
        """The kernel of a part."""
        around = {"time": self.steps, "rows": self.rows, "shared": self.once}[part.over]
        return (
            f"/* {part.over} */\nKERNEL(kernel{number}) {{\n"
            "  const idx *d = c.d;\n  const real *k = c.k;\n  const team w = team_of(&c);\n  const idx b = w.from;\n"
            f"  (void)d, (void)k, (void)b;\n{around(part)}}}\n"
        )

    def steps(self, part: Part) -> str:
        """A loop over time."""
        reverse = self.plan.program.reverse
        even, odd = ("step + 1", "step") if reverse else ("step", "step + 1")
        return (
            "  const idx spare = SLICE * c.batch + b, end = slice_of(&c, SLICE + 1);\n"
            "  for (idx i = slice_of(&c, SLICE); i < end; i++) {\n"
            f"    const idx step = {'c.begin + c.end - 1 - i' if reverse else 'i'};\n"
            "    const idx n = (c.count[step] < w.to ? c.count[step] : w.to) - b;\n"
            "    if (n <= 0) continue; /* the whole team does */\n"
            "    const idx now = c.at[step] + b, old = c.before[step] + b;\n"
            f"    const idx even = ({even}) % 2 * c.batch + b, odd = ({odd}) % 2 * c.batch + b;\n"
            "    const real t = (real)(c.start + step);\n"
            "    (void)spare, (void)now, (void)old, (void)even, (void)odd, (void)t;\n"
            f"{self.sections(part, '    ')}  }}\n"
        )

    def rows(self, part: Part) -> str:
        """Once a sequence."""
        return f"  const idx n = w.to - b;\n  const real t = 0;\n  (void)t;\n{self.sections(part, '  ')}"

    def once(self, part: Part) -> str:
        """Of what all sequences share."""
        return f"  const idx n = 1;\n  const real t = 0;\n  (void)t;\n{self.sections(part, '  ')}"

    def sections(self, part: Part, indent: str) -> str:
        """Between two of them threads wait for each other."""
        several = len(part.sections) > 1
        text = ""
        for k, (stages, waits) in enumerate(zip(part.sections, part.barriers, strict=True)):
            inner = "".join(self.stage(stage, indent + "  ") for stage in stages)
            text += f"{indent}{f'if (c.only < 0 || c.only == {k}) ' if several else ''}{{\n{inner}{indent}}}\n"
            text += f"{indent}sync(&c);\n" if waits else ""
        return text

    def stage(self, stage: Stage, indent: str) -> str:
        if isinstance(stage, Gemm):
            return self.product(stage, indent)
        assert isinstance(stage, Loop | Reduce | Contract)
        body = _Body(self)
        text = body.stage(stage, indent + "  ")
        places = "".join(
            f"{indent}  real *const a{k} = {self.base(ref)};\n{indent}  const idx w{k} = {self.width(ref.buffer)};\n"
            for k, ref in enumerate(body.refs.values())
        )
        return f"{indent}{{\n{places}{text}{indent}}}\n"

    def product(self, stage: Gemm, indent: str) -> str:
        """Each thread has a number of a few rows, the threads beside it the numbers beside that."""
        width, to = self.number(stage.width), self.width(stage.target.buffer)
        lead = stage.lead > 1
        lines, needed = self.condition(stage)
        lines += [
            f"for (idx e = w.rank; e < (n + TILE - 1) / TILE * {width}{self.times(stage.lead)}; e += w.size) {{",
            "  idx rest = e;",
            f"  const idx j = take(&rest, {width});",
            *([f"  const idx l = take(&rest, {self.number(stage.lead)});"] if lead else []),
            "  const idx r = rest * TILE;",
            f"  const real *m = p.at[{stage.matrix}] + j;",
            "  real s[TILE] = {0};",
        ]
        for ref, size in stage.operands:
            row = self.width(ref.buffer)
            by = f" + l * {self.number(ref.lead)}" if lead else ""
            call = f"add_product(s, {self.base(ref)} + r * {row}{by}, {row}, {self.number(size)}, m, {width}, n - r);"
            lines.append(f"  {needed}m = {call}")
        by = f" + l * {width}" if lead else ""
        lines += [f"  store(s, {self.base(stage.target)} + r * {to}{by} + j, {to}, n - r);", "}"]
        return f"{indent}{{\n" + "".join(f"{indent}  {line}\n" for line in lines) + f"{indent}}}\n"

    def times(self, lead: int) -> str:
        return f" * {self.number(lead)}" if lead > 1 else ""

    def condition(self, stage: Gemm) -> tuple[list[str], str]:
        """The lines that compute it from the step's number, and the start of what is done under it."""
        if not stage.condition:
            return [], ""
        body = _Body(self)
        lines = [one for line in stage.condition for one in spelled(line, lambda arg: body.at(arg, (), ()))]
        return lines, f"if (v{stage.condition[-1].node} != 0) "


class _Body(Body):
    """A loop's text, its elements and rows shared by the threads of a team, and the places that it reads and writes:
    a0, a1, ... with w0, w1, ... from row to row."""

    in_order: bool = False

    def __init__(self, emitter: _Emitter):
        self.emitter = emitter
        self.refs: dict[str, Ref] = {}

    def number(self, value: int) -> str:
        return self.emitter.number(value)

    def constant(self, value: float) -> str:
        return self.emitter.constant(value)

    def pointer(self, ref: Ref) -> str:
        key = f"{ref.buffer} {ref.offset} {ref.when}"
        self.refs.setdefault(key, ref)
        k = list(self.refs).index(key)
        return f"(a{k} + r * w{k})"

    def elements(
        self, dims: Sequence[int], inner: Callable[[str], str], names: Sequence[str], pragma: str, indent: str
    ) -> str:
        sizes = [self.number(size) for size in dims]
        head = f"{indent}for (idx e = w.rank; e < {' * '.join(['n', *sizes])}; e += w.size) {{\n"
        if not dims:
            return f"{head}{indent}  const idx r = e;\n{inner(indent + '  ')}{indent}}}\n"
        found = zip(reversed(names[: len(dims)]), reversed(sizes), strict=True)
        places = "".join(f"{indent}  const idx {name} = take(&rest, {size});\n" for name, size in found)
        return (
            f"{head}{indent}  idx rest = e;\n{places}{indent}  const idx r = rest;\n{inner(indent + '  ')}{indent}}}\n"
        )

    def loops(
        self, dims: Sequence[int], inner: Callable[[str], str], names: Sequence[str], pragma: str, indent: str
    ) -> str:
        return super().loops(dims, inner, names, "", indent)
