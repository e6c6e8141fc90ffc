"""Language modelling, by characters or by words, as a task of a comparison."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import PARTS, Batch, ClassificationTask, Data, check, check_part
from conveyor.tasks.text import WORD, Vocabulary, read

UNITS = {"char": "characters", "word": "words"}
MOST = 1_000  # words in the vocabulary


@dataclass(frozen=True)
class Characters(ClassificationTask):
    """Character-level language modelling: predict each next character of `source`, in bits per character.

    `source` is a file, a folder or a named corpus, as for `conveyor train`. A sequence has `length` characters and
    starts from the initial state. The last tenth of the text is for testing, the tenth before it for validation. Chance
    is predicting characters by their frequency. The optimum is not known.

    Raises BadInput for a text that cannot be read or is too short.
    """

    source: str = "pydoc"
    length: int = 64
    kind: ClassVar[str] = "char"
    metric: ClassVar[str] = "bits per character"
    optimum: ClassVar[float] = math.nan
    data: ClassVar[Data] = Data(
        "Python's own module pydoc_data.topics, which differs a little from version to version",
        "PSF, that of Python",
    )

    def __post_init__(self) -> None:
        check("the length of a sequence", self.length, 1)

    @property
    def chance(self) -> float:
        symbols, text = parts(self.source, self.kind)
        counts = torch.bincount(text["learn"], minlength=len(symbols)) + 1.0
        return float(-(counts / counts.sum()).log2()[text["test"]].mean())

    @property
    def input_size(self) -> int:
        return len(parts(self.source, self.kind)[0])

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
        """The token indices of a part, [N]. Raises BadInput if it is no longer than a sequence."""
        text = parts(self.source, self.kind)[1][name]
        if len(text) <= self.length:
            raise BadInput(
                f"{self.source} is too short: its part for {name} has {len(text)} {UNITS[self.kind]}, "
                f"and a sequence needs {self.length + 1}"
            )
        return text

    def pieces(self, text: Tensor, begins: Tensor) -> Batch:
        """The batch of sequences that start at these indices, [B], of a text [N]."""
        tokens = text[begins + torch.arange(self.length + 1)[:, None]]
        inputs = F.one_hot(tokens[:-1], self.input_size).float()
        mask = torch.ones_like(tokens[:-1], dtype=torch.bool)
        return Batch(inputs, tokens[1:], mask, torch.full((len(begins),), self.length))


@dataclass(frozen=True)
class NextWords(Characters):
    """Word-level language modelling: predict each next word of `source`, in bits per word.

    Tokens are those of `conveyor train --tokens word`: words with the space before them, punctuation and line breaks.
    The vocabulary has the 1,000 most frequent tokens of the training part; one of them is `<unk>`, which replaces all
    others. Everything else is as in `Characters`.
    """

    length: int = 32
    kind: ClassVar[str] = "word"
    metric: ClassVar[str] = "bits per word"


@functools.cache
def parts(source: str, kind: str = "char") -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The vocabulary of a text, and the token indices of each part, [N]."""
    data = read([source])
    known = data if kind == "char" else _beginning(data)
    vocabulary = Vocabulary.of(known, kind, MOST)
    tokens = vocabulary.encode(data)
    return vocabulary.symbols, dict(zip(("learn", *PARTS), tokens.split(_cut(len(tokens))), strict=True))


def _beginning(data: bytes) -> bytes:
    """The training part of a text that is split by words."""
    words = WORD.findall(data.decode())
    return "".join(words[: _cut(len(words))[0]]).encode()


def _cut(count: int) -> list[int]:
    """The sizes of the three parts of `count` tokens."""
    tenth = count // 10
    return [count - 2 * tenth, tenth, tenth]
