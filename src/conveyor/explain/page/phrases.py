"""Phrases about the parts of a step, for the tour. Symbols of values are between backquotes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.explain.circuit import Circuit
from conveyor.explain.formula import equations, symbol

SQUASHED = {
    "sigmoid": "its σ gives each unit a value between 0 and 1",
    "tanh": "its tanh gives each unit a value between −1 and 1",
    "relu": "negative values become 0",
    "softmax": "its values are between 0 and 1 and add up to 1",
}


def listed(words: Sequence[str]) -> str:
    """The words as a list in a sentence: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


class Phrases:
    """Phrases about the parts of a circuit."""

    def __init__(self, circuit: Circuit):
        self.circuit, self.parts = circuit, circuit.parts
        self.equations = {e.part: e for e in equations(circuit)}

    def symbol(self, i: int, name: str = "") -> str:
        """The symbol of the value of a part, as text: "C̃_t"; the label of the part if it has no name."""
        part = self.parts[i]
        name = name or part.name or (self.equations[i].name if i in self.equations else "")
        time = {"state": "t-1", "parameter": "", "constant": "", "clock": ""}.get(part.kind, "t")
        return symbol(name, time)[0] if name else part.label

    def bare(self, i: int, name: str = "") -> str:
        """The symbol without a time: "C̃"."""
        name = name or self.parts[i].name or (self.equations[i].name if i in self.equations else "")
        return symbol(name)[0] if name else self.parts[i].label

    def described(self, i: int) -> str:
        """A value as an operand: its symbol, or a description of how it is computed."""
        part = self.parts[i]
        if part.name or i in self.equations or part.kind not in ("layer", "op"):
            return f"`{self.symbol(i)}`"
        sources = self.circuit.sources(i)
        if self.is_squashed(i):
            return f"the {part.label} of {self.described(sources[0])}"
        what = "a learned map of" if part.kind == "layer" else "a value computed from"
        return f"{what} {listed(self.roots(sources))}"

    def is_squashed(self, i: int) -> bool:
        """Whether a circle is an activation function of one value, which is then named."""
        return self.parts[i].op in ("tanh", "relu", "sigmoid") and len(self.circuit.sources(i)) == 1

    def roots(self, parts: Iterable[int]) -> list[str]:
        """These values as operands. A circle without a name is replaced by its own operands."""
        found: list[str] = []
        for i in parts:
            bare = self.parts[i].kind == "op" and not self.parts[i].name and i not in self.equations
            into = self.circuit.sources(i)
            found += self.roots(into) if bare and into and not self.is_squashed(i) else [self.described(i)]
        return list(dict.fromkeys(found))

    def made(self, i: int) -> str:
        """A sentence about how a value is computed."""
        part = self.parts[i]
        read = listed(self.roots(self.read(i)))
        named = part.name or i in self.equations
        if part.kind == "layer":
            how = SQUASHED.get(part.op, "it has no squashing function")
            what = f"`{self.symbol(i)}` is a learned layer that" if named else "A learned layer"
            return f"{what} reads {read}; {how}."
        if part.kind != "op":
            return f"`{self.symbol(i)}` is passed on unchanged."
        return f"`{self.symbol(i)}` is computed from {read}." if named else f"A value is computed from {read}."

    def used(self, i: int) -> str:
        """A sentence about the readers of a value."""
        goes = [j for j in self.circuit.targets(i) if self.parts[j].name]
        return f"It is an input of {listed([f'`{self.symbol(j)}`' for j in goes])}." if goes else ""

    def read(self, i: int) -> list[int]:
        """The values that the equation of a part reads."""
        parts = self.equations[i].parts if i in self.equations else (i,)
        return list(dict.fromkeys(j for at in parts for j in self.circuit.sources(at) if j not in parts))
