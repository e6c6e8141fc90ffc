"""The equations of a step, derived from its circuit, in the notation of the essay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from conveyor.explain import symbols
from conveyor.explain.circuit import Circuit, Part, number

COMPARISON, SUM, REMAINDER, PRODUCT, ATOM = range(5)  # precedence of expressions, the loosest first
PRIME, TOGETHER = "′", "\u00a0"  # TOGETHER: a no-break space


@dataclass(frozen=True)
class Equation:
    """How one value is computed.

    `part`: the index of its part in the circuit; `parts`: all parts that the right side writes out, including `part`.
    `text` is plain text, `latex` is LaTeX.
    """

    part: int
    parts: tuple[int, ...]
    name: str
    text: str
    latex: str

    @property
    def mathml(self) -> str:
        """The equation as MathML. Raises BadInput if latex2mathml is missing."""
        from conveyor.explain.mathml import mathml

        return mathml(self.latex)


@dataclass(frozen=True)
class _Piece:
    text: str
    latex: str
    level: int = ATOM

    def within(self, level: int) -> _Piece:
        """The expression, in parentheses if its precedence is lower than `level`."""
        if self.level >= level:
            return self
        return _Piece(f"({self.text})", rf"\left({self.latex}\right)")


def equations(circuit: Circuit) -> tuple[Equation, ...]:
    """The equations of a step, in its order.

        circuit = Circuit.of(conveyor.compile(conveyor.zoo.LSTM(32, 128)).traced)
        equations(circuit)[0].text                          # "f_t = σ(W_f · [h_{t-1}, x_t] + b_f)"

    There is one for each named value, and for each value that is read more than once. Weights have the name of the
    value that they compute as a subscript: W and b for full blocks, w for diagonal ones.
    """
    return _Writer(circuit).equations()


def symbol(name: str, time: str = "") -> tuple[str, str]:
    """A value's name as text and as LaTeX: symbol("C_tilde", "t") is ("C̃_t", "\\tilde{C}_{t}")."""
    found = symbols.symbol(name)
    text, latex = found.base.replace(" ", TOGETHER), _base(found.base)
    if below := [*found.index.split(), *([time] if time else [])]:
        joined = ",".join(below)
        text += f"_{joined}" if len(joined) == 1 else f"_{{{joined}}}"
        latex += f"_{{{', '.join(map(_letters, below))}}}"
    return text, latex


def _base(text: str) -> str:
    """A letter or words with their accents, in LaTeX."""
    latex = _letters("".join(c for c in text if c not in ACCENTS))
    for accent in (c for c in text if c in ACCENTS):
        latex = rf"\{ACCENTS[accent]}{{{latex}}}"
    return latex


def _letters(word: str) -> str:
    """A word in LaTeX: upright if it has several letters; a letter, a number or t-1 as it is."""
    if word.endswith(PRIME):
        return _letters(word.removesuffix(PRIME)) + "'"
    if word in GREEK:
        return rf"\{GREEK[word]}"
    if len(word) == 1 or re.fullmatch(r"t-1|\d+", word):
        return word
    return rf"\mathrm{{{word.replace(' ', BLANK)}}}"


ACCENTS = {accent: name for name, accent in symbols.ACCENTS.items()}
GREEK = {letter: name for name, letter in symbols.GREEK.items()}
BLANK = "\\ "


def subscripts(circuit: Circuit) -> dict[int, str]:
    """The subscript of the weights of each layer in the equations: "f" for W_f and b_f."""
    return _Writer(circuit).weights


class _Writer:
    def __init__(self, circuit: Circuit):
        self.circuit, self.parts = circuit, circuit.parts
        given = {part.name for part in self.parts if part.kind in ("stream", "constant")}
        named = ((i, part.name) for i, part in enumerate(self.parts) if part.name and part.kind in ("layer", "op"))
        self.names = {i: name + PRIME if name in given else name for i, name in named}  # x = tanh(x): another x
        self._name_what_is_read_twice()
        self.inside = {i: self._inside(i) for i in self.names}
        self.weights: dict[int, str] = {}
        for i in self.names:
            for at, name in self._weights(i).items():
                self.weights[at] = _free(name, self.weights.values())

    def equations(self) -> tuple[Equation, ...]:
        written = []
        for i, name in sorted(self.names.items()):
            left, right = _Piece(*symbol(name, "t")), self.write(self.parts[i])
            text, latex = f"{left.text} = {right.text}", f"{left.latex} = {right.latex}"
            written.append(Equation(i, tuple(sorted(self.inside[i])), name, text, latex))
        return (*written, *self._renamed())

    def _renamed(self) -> list[Equation]:
        """The equations of outputs whose name is not that of their value."""
        found = []
        for end in self.circuit.ends:
            (text, latex), right = symbol(end.name, "t"), self.value(end.part)
            if text != right.text:
                equation = f"{text} = {right.text}", f"{latex} = {right.latex}"
                found.append(Equation(end.part, (end.part,), end.name, *equation))
        return list(dict.fromkeys(found))

    def _name_what_is_read_twice(self) -> None:
        taken = {symbol(part.name)[0] for part in self.parts}
        ends, count = {end.part: end.name for end in reversed(self.circuit.ends)}, 1
        for i, part in enumerate(self.parts):
            if part.kind in ("layer", "op") and not part.name and (len(self.circuit.targets(i)) > 1 or i in ends):
                while symbol(f"v{count}")[0] in taken:
                    count += 1
                self.names[i] = ends.get(i, f"v{count}")
                count += i not in ends

    def _inside(self, i: int) -> set[int]:
        """The parts that the equation of part i writes out."""
        found = {i}
        for source in self.circuit.sources(i):
            if source not in self.names and self.parts[source].kind in ("layer", "op"):
                found |= self._inside(source)
        return found

    def _weights(self, i: int) -> dict[int, str]:
        """The subscripts of the weights of all layers in an equation; several layers differ by what they read."""
        layers = [at for at in sorted(self.inside[i]) if self.parts[at].kind == "layer"]
        path, _, own = self.names[i].rpartition(".")
        base = "_".join([*re.sub(r"_(tilde|hat|bar|dot)", "", own).split("_"), *filter(None, path.split("."))])
        if len(layers) == 1:
            return {layers[0]: base}
        names = {}
        for count, at in enumerate(layers, 1):
            read = self._reads(at)
            plain = len(read) == 1 and read[0].name and all(self._reads(o) != read for o in layers if o != at)
            names[at] = f"{base}_{read[0].name if plain else count}"
        return names

    def _reads(self, at: int) -> list[Part]:
        return [self.parts[source] for source in self.circuit.sources(at)]

    def value(self, i: int) -> _Piece:
        """A part as an operand: its name, if it has one."""
        part = self.parts[i]
        if i in self.names:
            return _Piece(*symbol(self.names[i], "t"))
        if part.kind in ("layer", "op"):
            return self.write(part)
        if part.kind == "clock":
            text = part.label.replace("×", "*")
            return _Piece(text, text.replace("mod", r"\bmod").replace("−", "-"), COMPARISON if " " in text else ATOM)
        if part.kind == "parameter" and not part.name:
            return _Piece(part.label, part.label.replace("−", "-"))
        time = {"state": "t-1", "stream": "t"}.get(part.kind, "")
        name = part.name.rpartition(".")[2] if part.kind == "parameter" else part.name
        return _Piece(*symbol(name, time))

    def of(self, node: int) -> _Piece:
        traced = self.circuit.graph.nodes[node]
        if traced.op == "const":
            text = number(traced.attrs[0])
            return _Piece(text, text.replace("−", "-"), SUM if text.startswith("−") else ATOM)
        return self.value(self.circuit.owners[node])

    def write(self, part: Part) -> _Piece:
        """The right side of the equation of a part."""
        if part.kind == "layer":
            return _function(part.op, self.total(part)) if part.op else self.total(part)
        pieces = [self.of(node) for node in part.operands]
        return OPERATIONS[part.op](pieces) if part.op in OPERATIONS else self._other(part, pieces)

    def total(self, part: Part) -> _Piece:
        """The sum of a layer: its full blocks are one matrix, applied to the concatenation of their operands."""
        subscript = self.weights[self.circuit.owners[part.node]]
        full = [self.of(term.value) for term in part.terms if term.block == "full"]
        pieces = [_product(_Piece(*symbol(f"W_{subscript}")), _joined(full), " · ", r" \cdot ")] if full else []
        for term in part.terms:
            if term.block == "diagonal":
                value = self.of(term.value)
                read = self.parts[self.circuit.owners[term.value]].name
                weight = _Piece(*symbol(f"w_{subscript}_{read}" if read else f"w_{subscript}"))
                pieces.append(_product(weight, value, " * ", " * "))
        for count, _ in enumerate(part.biases):
            pieces.append(_Piece(*symbol(f"b_{subscript}" + (f"_{count + 1}" if count else ""))))
        if len(pieces) == 1:
            return pieces[0]
        return _Piece(" + ".join(p.text for p in pieces), " + ".join(p.latex for p in pieces), SUM)

    def _other(self, part: Part, pieces: Sequence[_Piece]) -> _Piece:
        if part.op == "slice":
            (value,) = pieces
            inner = value.within(ATOM)
            return _Piece(f"{inner.text}[{part.label}]", rf"{{{inner.latex}}}_{{[{part.label}]}}")
        return _function(part.op, *pieces)


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, or the first of name_2, name_3, ... that is not taken."""
    known = set(taken)
    return next(n for n in (name, *(f"{name}_{k}" for k in range(2, len(known) + 3))) if n not in known)


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    if len(pieces) == 1:
        return pieces[0].within(ATOM)
    return _Piece(f"[{', '.join(p.text for p in pieces)}]", rf"\left[{', '.join(p.latex for p in pieces)}\right]")


def _product(a: _Piece, b: _Piece, text: str, latex: str) -> _Piece:
    a, b = a.within(PRODUCT), b.within(PRODUCT)
    return _Piece(a.text + text + b.text, a.latex + latex + b.latex, PRODUCT)


def _function(name: str, *pieces: _Piece) -> _Piece:
    text, latex = FUNCTIONS[name]
    texts, spelt = (", ".join(getattr(p, kind) for p in pieces) for kind in ("text", "latex"))
    return _Piece(f"{text}({texts})", rf"{latex}\left({spelt}\right)")


FUNCTIONS = {
    "sigmoid": ("σ", r"\sigma"),
    **{name: (name, rf"\{name}") for name in ("tanh", "exp", "log", "sin", "cos")},
    **{name: (name, rf"\mathrm{{{name}}}") for name in ("floor", "log1p", "erf", "expm1", "pad", "relu", "softmax")},
    "maximum": ("max", r"\max"),
    "minimum": ("min", r"\min"),
    "max": ("max", r"\max"),
    "sum": ("Σ", r"\sum"),
    "sqrt": ("√", r"\sqrt"),
    "root": ("√", r"\sqrt"),
    "sign": ("sgn", r"\mathrm{sgn}"),
}


def _between(text: str, latex: str, level: int, left: int, right: int) -> Callable[[list[_Piece]], _Piece]:
    """A binary operation with precedence `level`, whose operands need the precedences `left` and `right`."""

    def written(pieces: list[_Piece]) -> _Piece:
        a, b = pieces[0].within(left), pieces[1].within(right)
        return _Piece(f"{a.text} {text} {b.text}", f"{a.latex} {latex} {b.latex}", level)

    return written


COMPARED = {"lt": ("<", "<"), "le": ("≤", r"\le"), "eq": ("=", "="), "ne": ("≠", r"\ne")}


def _where(pieces: list[_Piece]) -> _Piece:
    condition, one, other = pieces
    text = f"({one.text} where {condition.text}, else {other.text})"
    cases = rf"{one.latex} & {condition.latex} \\ {other.latex} & \text{{else}}"
    return _Piece(text, rf"\begin{{cases}} {cases} \end{{cases}}")


def _negative(pieces: list[_Piece]) -> _Piece:
    inner = pieces[0].within(PRODUCT)
    return _Piece(f"−{inner.text}", f"-{inner.latex}", SUM)


def _divided(pieces: list[_Piece]) -> _Piece:
    a, b = pieces[0].within(PRODUCT), pieces[1].within(ATOM)
    return _Piece(f"{a.text} / {b.text}", rf"\frac{{{pieces[0].latex}}}{{{pieces[1].latex}}}", PRODUCT)


def _power(pieces: list[_Piece]) -> _Piece:
    a, b = pieces[0].within(ATOM), pieces[1].within(ATOM)
    return _Piece(f"{a.text}^{b.text}", f"{{{a.latex}}}^{{{pieces[1].latex}}}")


OPERATIONS: dict[str, Callable[[list[_Piece]], _Piece]] = {
    "add": _between("+", "+", SUM, SUM, SUM),
    "sub": _between("−", "-", SUM, SUM, PRODUCT),
    "mul": _between("*", "*", PRODUCT, PRODUCT, PRODUCT),
    "contract": _between("·", r"\cdot", PRODUCT, PRODUCT, PRODUCT),
    "matmul": _between("·", r"\cdot", PRODUCT, PRODUCT, PRODUCT),
    "mod": _between("mod", r"\bmod", REMAINDER, PRODUCT, ATOM),
    **{op: _between(*signs, COMPARISON, SUM, SUM) for op, signs in COMPARED.items()},
    "div": _divided,
    "pow": _power,
    "neg": _negative,
    "where": _where,
    "cat": lambda pieces: _joined(pieces),
    "abs": lambda pieces: _Piece(f"|{pieces[0].text}|", rf"\left|{pieces[0].latex}\right|"),
}
