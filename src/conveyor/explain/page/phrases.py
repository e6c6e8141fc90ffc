"""What is said of the parts of a step. A value's symbol stands between backquotes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.explain.circuit import Circuit
from conveyor.explain.formula import equations, symbol

SQUASHED = {
    "sigmoid": "its σ gives a number between 0 and 1 for each unit",
    "tanh": "its tanh gives a number between −1 and 1 for each unit",
    "relu": "what is below 0 becomes 0",
    "softmax": "its numbers are between 0 and 1 and make 1 together",
}


def listed(words: Sequence[str]) -> str:
    """ "a, b and c" """
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


class Phrases:
    """Of one circuit."""

    def __init__(self, circuit: Circuit):
        self.circuit, self.parts = circuit, circuit.parts
        self.equations = {e.part: e for e in equations(circuit)}

    def symbol(self, i: int, name: str = "") -> str:
        """What a part's value is called, as text: "C̃_t"; of one without a name what is written on it."""
        part = self.parts[i]
        name = name or part.name or (self.equations[i].name if i in self.equations else "")
        time = {"state": "t-1", "parameter": "", "constant": "", "clock": ""}.get(part.kind, "t")
        return symbol(name, time)[0] if name else part.label

    def bare(self, i: int, name: str = "") -> str:
        """The same without a time: "C̃"."""
        name = name or self.parts[i].name or (self.equations[i].name if i in self.equations else "")
        return symbol(name)[0] if name else self.parts[i].label

    def described(self, i: int) -> str:
        """A value where it is read: by its symbol, or by what it is made of."""
        part = self.parts[i]
        if part.name or i in self.equations or part.kind not in ("layer", "op"):
            return f"`{self.symbol(i)}`"
        sources = self.circuit.sources(i)
        if self.is_squashed(i):
            return f"the {part.label} of {self.described(sources[0])}"
        what = "what a learned map makes of" if part.kind == "layer" else "what is made of"
        return f"{what} {listed(self.roots(sources))}"

    def is_squashed(self, i: int) -> bool:
        """Whether a circle is a function of one value, which is then named."""
        return self.parts[i].op in ("tanh", "relu", "sigmoid") and len(self.circuit.sources(i)) == 1

    def roots(self, parts: Iterable[int]) -> list[str]:
        """These values as they are read; in the place of a circle without a name stands what goes into it."""
        found: list[str] = []
        for i in parts:
            bare = self.parts[i].kind == "op" and not self.parts[i].name and i not in self.equations
            into = self.circuit.sources(i)
            found += self.roots(into) if bare and into and not self.is_squashed(i) else [self.described(i)]
        return list(dict.fromkeys(found))

    def made(self, i: int) -> str:
        """A sentence on how a value is made."""
        part = self.parts[i]
        read = listed(self.roots(self.read(i)))
        named = part.name or i in self.equations
        if part.kind == "layer":
            how = SQUASHED.get(part.op, "nothing squashes it")
            what = f"`{self.symbol(i)}` is a learned layer that" if named else "A learned layer"
            return f"{what} looks at {read}; {how}."
        if part.kind != "op":
            return f"`{self.symbol(i)}` is handed on as it is."
        return f"`{self.symbol(i)}` is made of {read}." if named else f"A value is made of {read}."

    def used(self, i: int) -> str:
        """A sentence on where a value goes."""
        goes = [j for j in self.circuit.targets(i) if self.parts[j].name]
        return f"It goes into {listed([f'`{self.symbol(j)}`' for j in goes])}." if goes else ""

    def read(self, i: int) -> list[int]:
        """The values that its equation reads."""
        parts = self.equations[i].parts if i in self.equations else (i,)
        return list(dict.fromkeys(j for at in parts for j in self.circuit.sources(at) if j not in parts))
