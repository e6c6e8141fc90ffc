"""A plan spelled in C. What is computed, when and where has been decided; here it is only how a loop is written.

The text does not depend on sizes: sizes, strides and offsets are numbers in a table `d`, so that one compiled kernel
serves every size of a cell.
"""

from __future__ import annotations

from itertools import groupby

from conveyor.compiler.program import (
    Contract,
    Gemm,
    Line,
    Loop,
    Outer,
    Pack,
    Reduce,
    Ref,
    Space,
    Stage,
)
from conveyor.targets.c.spelling import Body, spelled
from conveyor.targets.c.tables import Source, Tables
from conveyor.targets.cpu.memory import Memory
from conveyor.targets.cpu.plan import Phase, Plan, Share


def emit(plan: Plan) -> Source:
    """The kernel of a plan."""
    e = _Emitter(plan)
    parts = [[e.phase(one) for one in some] for some in (plan.before, plan.during, plan.after)]
    bodies = [body for part in parts for _, body in part]
    before, during, after = ([name for name, _ in part] for part in parts)
    head = '#include "runtime.h"\n#include "maths.h"\n'
    return e.source("\n".join([head, *e.functions, *bodies, e.main(before, during, after)]))


class _Emitter(Tables):
    def __init__(self, plan: Plan):
        super().__init__()
        self.plan, self.memory = plan, Memory(plan)
        self.buffers = plan.program.buffers
        self.count = 0
        self.functions: list[str] = []
        self.widths: dict[int, str] = {}
        self.blocks: dict[int, str] = {}
        at = 0
        for i, buffer in enumerate(self.buffers):  # where each begins in a thread's scratch
            if buffer.space == Space.SCRATCH:
                self.blocks[i] = self.number(at)
                at += buffer.width * plan.block
        self.block = self.number(plan.block)

    def width(self, buffer: int) -> str:
        """Of a row of this buffer, in elements; 0 if all rows are one."""
        if self.buffers[buffer].space == Space.SHARED:
            return "0"
        if buffer not in self.widths:
            self.widths[buffer] = self.number(self.buffers[buffer].width)
        return self.widths[buffer]

    def base(self, ref: Ref) -> str:
        """Where the first row of a block has this value."""
        space = self.memory.space(ref)
        offset = f" + {self.number(ref.offset)}" if ref.offset else ""
        if space == Space.SCRATCH:
            return f"room + {self.blocks[ref.buffer]}{offset}"
        if space == Space.SHARED:
            return f"p[{ref.buffer}]{offset}"
        return f"p[{ref.buffer}] + ({self.memory.row(ref)}) * {self.width(ref.buffer)}{offset}"

    # --- phases ---

    def main(self, before: list[str], during: list[str], after: list[str]) -> str:
        """The phases in turn; threads wait for each other after each."""

        def calls(names: list[str], given: str, indent: str) -> str:
            return "".join(f"{indent}{name}({given}, thread);\n{indent}c->f->wait(c);\n" for name in names)

        begin, end = ("i", "i + span < c->steps ? i + span : c->steps")
        if self.plan.program.reverse:
            begin, end = ("i + span < c->steps ? c->steps - i - span : 0", "c->steps - i")
        return (
            f"void kernel(const call *c, idx thread) {{\n  const idx *d = c->d;\n{calls(before, 'c', '  ')}"
            "  const idx span = c->span;\n  call chunk = *c;\n  idx i = 0;\n  do {\n"
            f"    chunk.begin = {begin};\n    chunk.end = {end};\n"
            "    chunk.first = c->steps ? c->at[chunk.begin] : 0;\n"
            "    chunk.rows = c->steps ? c->at[chunk.end - 1] + c->count[chunk.end - 1] - chunk.first : 0;\n"
            f"    chunk.add = i > 0;\n{calls(during, '&chunk', '    ')}    i += span;\n  }} while (i < c->steps);\n"
            f"{calls(after, 'c', '  ')}}}\n"
        )

    def phase(self, one: Phase) -> tuple[str, str]:
        """The name of a phase's function, and the function."""
        emit = {
            Share.STEPS: self.time,
            Share.SEQUENCES: self.rows,
            Share.MATRICES: self.packs,
            Share.NOBODY: self.shared,
            Share.ROWS: self.bulk,
        }[one.share]
        head = "  const idx *d = c->d;\n  real *const *p = c->p;\n  real *room = c->room[thread];\n"
        unused = "  (void)d, (void)p, (void)room;\n"
        name, self.count = f"{one.over}{self.count}", self.count + 1
        return name, f"static void {name}(const call *c, idx thread) {{\n{head}{unused}{emit(one)}}}\n"

    def time(self, one: Phase) -> str:
        step = "c->end - 1 - i" if self.plan.program.reverse else "c->begin + i"
        even, odd = ("t + 1", "t") if self.plan.program.reverse else ("t", "t + 1")
        return (
            "  const idx part = c->split ? thread : 0, parts = c->split ? c->threads : 1, first = part == 0;\n"
            "  const idx from = c->split ? 0 : c->cut[thread], to = c->split ? c->batch : c->cut[thread + 1];\n"
            "  if (c->split) room = c->room[0];\n"
            f"  for (idx i = 0; i < c->end - c->begin; i++) {{\n    idx t = {step};\n"
            "    idx end = c->count[t] < to ? c->count[t] : to;\n"
            f"    for (idx b = from; b < end; b += {self.block}) {{\n"
            f"      idx n = end - b < {self.block} ? end - b : {self.block};\n"
            "      idx now = c->at[t] + b, old = c->before[t] + b;\n"
            f"      idx even = ({even}) % 2 * c->batch + b, odd = ({odd}) % 2 * c->batch + b;\n"
            "      (void)n, (void)now, (void)old, (void)even, (void)odd, (void)parts, (void)first;\n"
            f"{self.shared_steps(one)}    }}\n  }}\n"
        )

    def shared_steps(self, one: Phase) -> str:
        """The stages of a step. Where threads share it, products are everybody's and the rest is the first's."""
        text = ""
        for products, stages in groupby(one.stages, lambda stage: isinstance(stage, Gemm)):
            calls = "".join(f"        {line}\n" for stage in stages for line in self.stage(stage))
            text += (
                f"      {'' if products else 'if (first) '}{{\n{calls}      }}\n      if (c->split) c->f->wait(c);\n"
            )
        return text

    def rows(self, one: Phase) -> str:
        calls = "".join(f"    {line}\n" for stage in one.stages for line in self.stage(stage))
        return (
            "  const idx t = 0, end = c->cut[thread + 1], part = 0, parts = 1;\n"
            f"  for (idx b = c->cut[thread]; b < end; b += {self.block}) {{\n"
            f"    idx n = end - b < {self.block} ? end - b : {self.block};\n"
            f"    (void)t, (void)n, (void)part, (void)parts;\n{calls}  }}\n"
        )

    def packs(self, one: Phase) -> str:
        """Matrices, one for each thread in turn."""
        packs = [stage for stage in one.stages if isinstance(stage, Pack)]
        return "".join(f"  if ({k} % c->threads == thread)\n    {self.pack(pack)}\n" for k, pack in enumerate(packs))

    def shared(self, one: Phase) -> str:
        calls = "".join(f"  {line}\n" for stage in one.stages for line in self.stage(stage))
        head = "  if (thread) return;\n  const idx n = 1, t = 0, part = 0, parts = 1;\n"
        return f"{head}  (void)n, (void)t, (void)part, (void)parts;\n{calls}"

    def bulk(self, one: Phase) -> str:
        gemms = [self.bulk_gemm(stage) for stage in one.stages if isinstance(stage, Gemm)]
        sums: dict[object, list[Outer]] = {}
        for stage in one.stages:
            if isinstance(stage, Outer):
                sums.setdefault((stage.a, stage.lead, stage.size[0], self.outer_rows(stage)), []).append(stage)
        return "".join([*gemms, *map(self.outer, sums.values())])

    def bulk_gemm(self, stage: Gemm) -> str:
        calls = "".join(f"    {line}\n" for line in self.gemm(stage))
        return (
            "  {\n    const idx part = 0, parts = 1;\n"
            "    idx now = c->first + c->rows * thread / c->threads;\n"
            "    idx n = c->first + c->rows * (thread + 1) / c->threads - now;\n"
            f"{calls}  }}\n"
        )

    # --- stages ---

    def stage(self, stage: Stage) -> list[str]:
        if isinstance(stage, Gemm):
            return self.gemm(stage)
        assert isinstance(stage, Loop | Reduce | Contract)
        body = _Body(self)
        text = body.stage(stage, "    ")
        name = f"stage{len(self.functions)}"
        parameters = "".join(f", real *a{k}, idx w{k}" for k in range(len(body.refs)))
        steps = "".join(f", a{k} += w{k}" for k in range(len(body.refs)))
        self.functions.append(
            f"static void {name}(const idx *d, const real *k, idx rows, real t{parameters}) {{\n"
            "  (void)d, (void)k, (void)t;\n"
            f"  for (idx r = 0; r < rows; r++{steps}) {{\n{text}  }}\n}}\n"
        )
        given = "".join(f", {self.base(ref)}, {self.width(ref.buffer)}" for ref in body.refs.values())
        return [f"{name}(d, c->k, {'n' if stage.rows else '1'}, (real)(c->start + t){given});"]

    def gemm(self, stage: Gemm) -> list[str]:
        lead = stage.lead > 1
        segments = []
        for ref, size in stage.operands:
            by = f" + l * {self.number(ref.lead)}" if lead else ""
            segments.append(f"{{{self.base(ref)}{by}, {self.width(ref.buffer)}, {self.number(size)}}}")
        width = self.number(stage.width)
        to = f"{self.base(stage.target)}{f' + l * {width}' if lead else ''}"
        matrix = f"p[{stage.matrix}]"
        call = (
            f"c->f->gemm({'n' if stage.rows else '1'}, {width}, {len(segments)}, s, {matrix}, {to}, "
            f"{self.width(stage.target.buffer)}, 0, part, parts);"
        )
        if stage.condition:
            rows = "n" if stage.rows else "1"
            clear = f"if (part == 0) clear({rows}, {width}, {to}, {self.width(stage.target.buffer)});"
            call = f"if ({self.condition(stage.condition)}(c->k, (real)(c->start + t))) {call} else {clear}"
        around = f"for (idx l = 0; l < {self.number(stage.lead)}; l++) " if lead else ""
        return [f"{around}{{", f"  const segment s[] = {{{', '.join(segments)}}};", f"  {call}", "}"]

    def condition(self, lines: tuple[Line, ...]) -> str:
        """The name of a function that computes the condition from the step's number."""
        body = _Body(self)
        text = "".join(f"  {one}\n" for line in lines for one in spelled(line, lambda arg: body.at(arg, (), ())))
        name = f"condition{len(self.functions)}"
        self.functions.append(
            f"static int {name}(const real *k, real t) {{\n  (void)k, (void)t;\n{text}"
            f"  return v{lines[-1].node} != 0;\n}}\n"
        )
        return name

    def pack(self, stage: Pack) -> str:
        ref = stage.source
        assert self.memory.space(ref) == Space.SHARED
        matrix = self.buffers[stage.target]
        numbers = [*ref.strides, *stage.size]
        place = [*stage.start, matrix.depth, matrix.width]
        first, last = (", ".join(self.number(n) for n in some) for some in (numbers, place))
        return f"c->f->pack({self.base(ref)}, {first}, p[{stage.target}], {last});"

    def outer_rows(self, stage: Outer) -> str:
        refs = [ref for ref in (stage.a, stage.b) if ref]
        if any(map(self.plan.program.is_timed, refs)):
            return "c->rows"
        return "c->batch" if any(self.memory.space(ref) == Space.ROWS for ref in refs) else "1"

    def outer(self, stages: list[Outer]) -> str:
        """The sums over all rows that have the same first operand, which is packed once."""
        first, rows = stages[0], self.outer_rows(stages[0])
        lead, a, size = self.number(first.lead), self.operand(first.a, rows), self.number(first.size[0])
        each = []
        for stage in stages:
            b = self.operand(stage.b, rows) if stage.b else "(operand){0}"
            each.append(f"{{{b}, {self.number(stage.size[1])}, {self.base(stage.target)}}}")
        add = "c->add" if rows == "c->rows" else "0"
        return (
            f"  {{\n    const product each[] = {{{', '.join(each)}}};\n"
            f"    c->f->outer({rows}, {lead}, {a}, {size}, {len(each)}, each, {add}, room, thread, c->threads);\n  }}\n"
        )

    def operand(self, ref: Ref, rows: str) -> str:
        offset = f" + {self.number(ref.offset)}" if ref.offset else ""
        width = self.width(ref.buffer)
        first, mapped = self.memory.rows_of_chunk(ref) if rows == "c->rows" else ("0", "0")
        skip = "" if first == "0" else f" + {first} * {width}"
        step = self.number(ref.lead)
        return f"(operand){{p[{ref.buffer}]{skip}{offset}, {width}, {step}, {mapped}}}"


class _Body(Body):
    """A loop's text, and the places that it reads and writes: a0, a1, ... with w0, w1, ... from row to row."""

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
        return f"a{list(self.refs).index(key)}"
