"""How the loops of a step are written in C, whatever the numbers and places in them are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from conveyor.compiler.program import Arg, Contract, Line, Local, Loop, Reduce, Ref

# How an op is written, given its arguments.
SPELLING: dict[str, str] = {
    "neg": "-{0}",
    "abs": "F(fabs)({0})",
    "sign": "sign_({0})",
    "floor": "F(floor)({0})",
    "exp": "exp_({0})",
    "log": "F(log)({0})",
    "log1p": "F(log1p)({0})",
    "sin": "F(sin)({0})",
    "cos": "F(cos)({0})",
    "erf": "F(erf)({0})",
    "tanh": "tanh_({0})",
    "sigmoid": "sigmoid_({0})",
    "sqrt": "F(sqrt)({0})",
    "root": "F(sqrt)({0})",
    "expm1": "F(expm1)({0})",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "pow": "F(pow)({0}, {1})",
    "mod": "mod_({0}, {1})",
    "maximum": "max_({0}, {1})",
    "minimum": "min_({0}, {1})",
    "lt": "(real)({0} < {1})",
    "le": "(real)({0} <= {1})",
    "eq": "(real)({0} == {1})",
    "ne": "(real)({0} != {1})",
    "where": "{0} != 0 ? {1} : {2}",
    "stop_gradient": "{0}",
    "copy": "{0}",
    "fill": "{0}",
    "store": "{0}",
    "accumulate": "{0}",
}


def indices(count: int, skipped: int = 0) -> list[str]:
    """The names of the indices of nested loops, after those of as many as are skipped around them."""
    letters = "ijlmnopqu"
    return [letters[k] if k < len(letters) else f"i{k}" for k in range(skipped, skipped + count)]


class Body(Protocol):
    """A loop's text. A target says how a number of the plan, a number of the step and a place are written.

    `in_order`: one thread makes the elements of a result one after the other, many at once where they lie in order.
    """

    in_order: bool = True

    def number(self, value: int) -> str:
        """A size, a stride or an offset."""

    def constant(self, value: float) -> str:
        """A number of the step."""

    def pointer(self, ref: Ref) -> str:
        """Where a row has a value."""

    def stage(self, stage: Loop | Reduce | Contract, indent: str) -> str:
        """All of a loop, for one row."""
        if isinstance(stage, Loop):
            return loop(self, stage, indent)
        return reduction(self, stage, indent) if isinstance(stage, Reduce) else contraction(self, stage, indent)

    def at(self, arg: Arg, strides: tuple[int, ...], names: Sequence[str]) -> str:
        """An element of a value, or a constant, or one that has just been computed."""
        if isinstance(arg, Local):
            return f"v{arg.node}"
        if isinstance(arg, str):
            return "t"
        if isinstance(arg, float):
            return self.constant(arg)
        terms = []
        for name, stride in zip(names, strides, strict=True):
            if stride:
                terms.append(name if stride == 1 else f"{name} * {self.number(stride)}")
        return f"{self.pointer(arg)}[{' + '.join(terms) or '0'}]"

    def elements(
        self, dims: Sequence[int], inner: Callable[[str], str], names: Sequence[str], pragma: str, indent: str
    ) -> str:
        """As `loops`, over the elements of a result, which do not depend on each other."""
        return self.loops(dims, inner, names, pragma, indent)

    def loops(
        self, dims: Sequence[int], inner: Callable[[str], str], names: Sequence[str], pragma: str, indent: str
    ) -> str:
        """Nested loops over dims; the innermost runs for many elements at once."""
        if not dims:
            return inner(indent)
        text = ""
        for k, (name, size) in enumerate(zip(names, dims, strict=True)):
            if k == len(dims) - 1 and pragma:
                text += f'{indent}_Pragma("{pragma}")\n'
            text += f"{indent}for (idx {name} = 0; {name} < {self.number(size)}; {name}++) {{\n"
            indent += "  "
        text += inner(indent)
        for _ in dims:
            indent = indent[:-2]
            text += f"{indent}}}\n"
        return text


def loop(body: Body, stage: Loop, indent: str) -> str:
    """C for pointwise lines."""
    refs = [a for line in stage.lines for a in (*line.args, line.target) if isinstance(a, Ref)]
    dims, groups = collapse(stage.dims, [ref.strides for ref in refs])
    names = indices(len(dims))

    def strides(ref: Arg) -> tuple[int, ...]:
        return tuple(ref.strides[k] for k in groups) if isinstance(ref, Ref) else ()

    def lines(indent: str) -> str:
        found = (one for line in stage.lines for one in spelled(line, lambda arg: body.at(arg, strides(arg), names)))
        return "".join(f"{indent}{one}\n" for one in found)

    return body.elements(dims, lines, names, "omp simd", indent)


def spelled(line: Line, at: Callable[[Arg], str]) -> list[str]:
    """A line in C, if `at` says how its arguments and its target are written."""
    text = SPELLING[line.op].format(*map(at, line.args))
    lines = []
    if line.node >= 0:
        name = re.sub(r"[^\w. ]", "_", line.name)  # no name can end the comment
        lines.append(f"const real v{line.node} = {text};{f' /* {name} */' if name else ''}")
        text = f"v{line.node}"
    if line.target is not None:
        lines.append(f"{at(line.target)} {'+=' if line.op == 'accumulate' else '='} {text};")
    return lines


def collapse(dims: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[int]]:
    """Dimensions that all values run through without a gap as one: the new sizes, and whose strides they have."""
    sizes: list[int] = []
    whose: list[int] = []
    for k, d in enumerate(dims):
        if d == 1 and len(dims) > 1:
            continue
        if sizes and all(s[whose[-1]] == s[k] * d for s in strides):
            sizes[-1], whose[-1] = sizes[-1] * d, k
        else:
            sizes.append(d)
            whose.append(k)
    return tuple(sizes), whose


def reduction(body: Body, stage: Reduce, indent: str) -> str:
    """C for a sum or a maximum over dimensions."""
    outer, inner = len(stage.outer), len(stage.inner)
    around, within = indices(outer), indices(inner, outer)
    source = stage.source
    strides = source.strides if isinstance(source, Ref) else ()

    def one(indent: str) -> str:
        value = body.at(source, strides, around + within) if isinstance(source, Ref) else body.at(source, (), ())
        start, step = ("0", f"s += {value};") if stage.op == "sum" else ("-(real)INFINITY", f"s = max_({value}, s);")
        pragma = "omp simd reduction(+ : s)" if stage.op == "sum" else ""
        text = f"{indent}real s = {start};\n"
        text += body.loops(stage.inner, lambda i: f"{i}{step}\n", within, pragma, indent)
        return text + f"{indent}{body.at(stage.target, stage.target.strides, around)} = s;\n"

    return body.elements(stage.outer, one, around, "", indent)


def contraction(body: Body, stage: Contract, indent: str) -> str:
    """C for a sum of products of two values of a row."""
    first, second, out = stage.labels
    sizes = dict(stage.sizes)
    sums = [c for c in first if c in second and c not in out]
    strides = [dict(zip(names, ref.strides, strict=True)) if isinstance(ref, Ref) else {} for names, ref in
               zip((first, second), stage.sources, strict=True)]  # fmt: skip
    labels = [*out, *sums]
    names = dict(zip(labels, indices(len(labels)), strict=True))
    to = dict(zip(out, stage.target.strides, strict=True))
    # Along the result's last dimension if that is how the operands lie, else along the sum.
    along = (
        body.in_order
        and bool(out)
        and all(s.get(out[-1], 0) in (0, 1) for s in strides)
        and not all(s.get(sums[-1]) == 1 for s in strides)
    )

    def product(indent: str, left: str) -> str:
        values = []
        for k, arg in enumerate(stage.sources):
            values.append(body.at(arg, tuple(strides[k].values()), [names[c] for c in strides[k]]))
        return f"{indent}{left} += {values[0]} * {values[1]};\n"

    def loops(labels: Sequence[str], inner: Callable[[str], str], pragma: str, indent: str) -> str:
        return body.loops([sizes[c] for c in labels], inner, [names[c] for c in labels], pragma, indent)

    place = body.at(stage.target, tuple(to.values()), [names[c] for c in out])
    if along:

        def row(indent: str) -> str:
            text = loops(out[-1], lambda i: f"{i}{place} = 0;\n", "", indent)
            return text + loops([*sums, out[-1]], lambda i: product(i, place), "omp simd", indent)

        return loops(out[:-1], row, "", indent)

    def one(indent: str) -> str:
        text = f"{indent}real s = 0;\n"
        text += loops(sums, lambda i: product(i, "s"), "omp simd reduction(+ : s)", indent)
        return text + f"{indent}{place} = s;\n"

    return body.elements([sizes[c] for c in out], one, [names[c] for c in out], "", indent)
