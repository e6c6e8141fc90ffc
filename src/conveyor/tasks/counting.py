"""Counting: strings of n times a, n times b and, in the harder language, n times c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conveyor.tasks.task import Batch, MultiLabelTask, before, between, check, one_hot


@dataclass(frozen=True)
class Counting(MultiLabelTask):
    """The languages a^n b^n (`letters=2`) and a^n b^n c^n (`letters=3`) of Gers & Schmidhuber 2001.

    A string begins with S and ends with T; n is uniform from `least` to `most`. The symbols that may come next are to
    be told after every symbol but the T, which is not put in: after S a, after an a always a and b, then what remains.
    Symbols are numbered S, a, b(, c), T. (From memory, unconfirmed: the paper's targets are these sets, too.)

    `strings([1, 2, 50])` has the strings of these n: a network that learnt n <= 10 may have learnt to count.
    """

    chance: ClassVar[float] = 1.0  # the T comes at another place in every string
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
        """The strings of these n, side by side."""
        for n in numbers:
            check("n", n, 1)
        letters = self.symbols[1:-1]
        strings = ["S" + "".join(letter * n for letter in letters) for n in numbers]
        nexts = [string[1:] + "T" for string in strings]
        targets = one_hot(nexts, self.symbols)
        a, b = self.symbols.index("a"), self.symbols.index("b")
        inputs = one_hot(strings, self.symbols)
        targets[..., a : b + 1] = targets[..., a : b + 1].maximum(inputs[..., a, None])  # after an a, both
        lengths = torch.tensor([len(string) for string in strings])
        return Batch(inputs, targets, before(lengths), lengths)

    def counted(self, right: Tensor) -> int:
        """How far it counts: the largest n up to which all are right, [n = 1, 2, ...] of bool."""
        return int(right.long().cumprod(0).sum())
