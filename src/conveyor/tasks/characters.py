"""A text, character by character, as one of the tasks of a comparison."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import PARTS, Batch, Classes, check, check_part
from conveyor.tasks.text import Vocabulary, read


@dataclass(frozen=True)
class Characters(Classes):
    """Language modelling: at every character of a piece of `source` the next one is to be told; bits a character.

    `source` is a file, folder or named corpus, as `conveyor train` takes it; a piece has `length` characters and begins
    with nothing known. The text's last tenth is for testing, the one before it for validation. Chance is who knows how
    frequent each character is; what is best possible is not known.

    Raises BadInput for a text that cannot be read or is too short.
    """

    source: str = "pydoc"
    length: int = 64
    metric: ClassVar[str] = "bits a character"
    optimum: ClassVar[float] = math.nan

    def __post_init__(self) -> None:
        check("the length of a piece", self.length, 1)

    @property
    def chance(self) -> float:
        symbols, text = parts(self.source)
        counts = torch.bincount(text["learn"], minlength=len(symbols)) + 1.0
        return float(-(counts / counts.sum()).log2()[text["test"]].mean())

    @property
    def input_size(self) -> int:
        return len(parts(self.source)[0])

    @property
    def output_size(self) -> int:
        return self.input_size

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.loss(outputs, batch)) / math.log(2)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        text = self.part("learn")
        return self.pieces(text, torch.randint(len(text) - self.length, (rows,), generator=generator))

    def held_out(self, part: str, rows: int) -> Batch:
        text = self.part(check_part(part))
        count = min(rows, (len(text) - 1) // self.length)
        return self.pieces(text, torch.linspace(0, len(text) - 1 - self.length, count).long())

    def part(self, name: str) -> Tensor:
        text = parts(self.source)[1][name]
        if len(text) <= self.length:
            raise BadInput(
                f"{self.source} is too short: its part for {name} has {len(text)} characters, a piece {self.length}"
            )
        return text

    def pieces(self, text: Tensor, begins: Tensor) -> Batch:
        """The pieces that begin there, side by side."""
        tokens = text[begins + torch.arange(self.length + 1)[:, None]]
        inputs = F.one_hot(tokens[:-1], self.input_size).float()
        judged = torch.ones_like(tokens[:-1], dtype=torch.bool)
        return Batch(inputs, tokens[1:], judged, torch.full((len(begins),), self.length))


@functools.cache
def parts(source: str) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The characters that there are, and the text of each part as their numbers."""
    data = read([source])
    vocabulary = Vocabulary.of(data, "char")
    tokens = vocabulary.encode(data)
    tenth = len(tokens) // 10
    cut = tokens.split([len(tokens) - 2 * tenth, tenth, tenth])
    return vocabulary.symbols, dict(zip(("learn", *PARTS), cut, strict=True))
