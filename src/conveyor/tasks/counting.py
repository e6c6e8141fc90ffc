"""Counting: the formal languages a^n b^n and a^n b^n c^n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.tasks.task import Batch, MultiLabelTask, before, between, check, one_hot


@dataclass(frozen=True)
class Counting(MultiLabelTask):
    """The languages a^n b^n (`letters=2`) and a^n b^n c^n (`letters=3`) of Gers & Schmidhuber 2001.

    A string starts with S and ends with T; n is uniform from `least` to `most`. At each step the target is the set of
    symbols that may come next: after S an a, after each a either a or b, and from the first b on the one symbol that is
    left. T is a target only, never an input. The symbols have the indices 0, 1, ... in the order S, a, b, (c,) T. (From
    memory, unconfirmed: the paper's targets are these sets, too.)

    `strings([1, 2, 50])` returns the strings for these n, to test whether a network trained on n <= 10 generalises.
    """

    chance: ClassVar[float] = 1.0  # the position of T differs from string to string
    letters: int = 3
    least: int = 1
    most: int = 10

    def __post_init__(self) -> None:
        check("letters", self.letters, 2)
        check("the least n", self.least, 1)
        check("the largest n", self.most, self.least)

    @property
    def symbols(self) -> str:
        """The alphabet: the start S, the letters, the end T."""
        return "S" + "".join(chr(ord("a") + letter) for letter in range(self.letters)) + "T"

    @property
    def input_size(self) -> int:
        return len(self.symbols)

    @property
    def output_size(self) -> int:
        return len(self.symbols)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.strings(between(self.least, self.most, rows, generator).tolist())

    def strings(self, numbers: list[int]) -> Batch:
        """The strings for these n, as one batch. Raises BadInput for an n below 1."""
        for n in numbers:
            check("n", n, 1)
        letters = self.symbols[1:-1]
        strings = ["S" + "".join(letter * n for letter in letters) for n in numbers]
        nexts = [string[1:] + "T" for string in strings]
        targets = one_hot(nexts, self.symbols)
        a, b = self.symbols.index("a"), self.symbols.index("b")
        inputs = one_hot(strings, self.symbols)
        targets[..., a : b + 1] = targets[..., a : b + 1].maximum(inputs[..., a, None])  # after an a, a and b
        lengths = torch.tensor([len(string) for string in strings])
        return Batch(inputs, targets, before(lengths), lengths)

    def counted(self, right: Tensor) -> int:
        """The largest n up to which all strings are correct; `right` is bool, for n = 1, 2, ..."""
        return int(right.long().cumprod(0).sum())
