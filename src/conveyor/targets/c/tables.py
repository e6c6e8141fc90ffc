"""A text without sizes: it finds them, and the numbers of a step, in tables, so that one kernel serves all sizes."""

from __future__ import annotations

from dataclasses import dataclass

LITERAL = (0.0, 1.0, -1.0, 2.0, 0.5)  # what a compiler can make more of than a number that it does not know


@dataclass(frozen=True)
class Source:
    """`text` in C, the `numbers` that it finds in d, and the `constants` that it finds in k."""

    text: str
    numbers: tuple[int, ...]
    constants: tuple[float, ...]


class Tables:
    """The numbers that a text has asked for so far."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.constants: list[float] = []

    def number(self, value: int) -> str:
        """A size, a stride or an offset."""
        self.numbers.append(value)
        return f"d[{len(self.numbers) - 1}]"

    def constant(self, value: float) -> str:
        """A number of the step. Like sizes, numbers such as an epsilon or a count are not in the text."""
        if value in LITERAL:
            return f"(real){value!r}"
        if value not in self.constants:
            self.constants.append(value)
        return f"k[{self.constants.index(value)}]"

    def source(self, text: str) -> Source:
        """A text with the numbers that it finds in the tables."""
        return Source(text, tuple(self.numbers), tuple(self.constants))
