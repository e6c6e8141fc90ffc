"""Sentences as the numbers of their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest

END, START, UNKNOWN = "<end>", "<start>", "<unk>"
MARKS = (END, START, UNKNOWN)


@dataclass(frozen=True)
class Words:
    """The words that a model knows, with marks for the start and the end of a sentence.

        words = Words.of(["a three top left", "a seven top right"])
        words.encode("a seven top left")                    # [2, 3, 6, 4]
        words.decode([2, 3, 6, 4, 0])                       # "a seven top left"

    A word that is not among them is an error, or `<unk>` where that is one of them.
    """

    symbols: tuple[str, ...]  # <end> is number 0, <start> number 1, <unk>, where there is one, number 2
    end = 0
    start = 1

    @classmethod
    def of(cls, sentences: Iterable[str], limit: int | None = None, unknown: bool = False) -> Words:
        """The words of sentences, by how frequent they are: the `limit` most frequent, or all."""
        counts = Counter(word for sentence in sentences for word in sentence.split())
        found = sorted(counts, key=lambda word: (-counts[word], word))[:limit]
        return cls((*MARKS[: 2 + unknown], *(word for word in found if word not in MARKS)))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.symbols)}

    def encode(self, sentence: str) -> list[int]:
        """The numbers of the words, without marks. Raises BadInput for words that the model does not know."""
        words, numbers = sentence.split(), self.numbers
        strange = [word for word in words if word not in numbers or word in MARKS[:2]]
        if strange and UNKNOWN not in numbers:
            near = suggest(strange[0], self.symbols[2:])
            raise BadInput(f"the sentence {sentence!r} has words that are not known, {', '.join(strange)}: {near}")
        return [numbers[UNKNOWN] if word in strange else numbers[word] for word in words]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words up to the first end."""
        return " ".join(self.labels(numbers)).partition(END)[0].strip()

    def labels(self, numbers: Iterable[int]) -> list[str]:
        return [self.symbols[number] for number in numbers]


@dataclass(frozen=True)
class Said:
    """Sentences side by side, as a decoder reads them and is to say them, [T, B].

    `inputs` begin with the start, `targets` end with the end and are -100 behind it; `lengths` [B] counts the end.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sentences: Sequence[Sequence[int]]) -> Said:
        inputs = columns([[Words.start, *sentence] for sentence in sentences])[0]
        targets, lengths = columns([[*sentence, Words.end] for sentence in sentences], -100)
        return cls(inputs, targets, lengths)

    @property
    def count(self) -> int:
        """How many words there are to say, the ends among them."""
        return int(self.lengths.sum())

    def to(self, device: torch.device) -> Said:
        return Said(self.inputs.to(device), self.targets.to(device), self.lengths)


def columns(sentences: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Sentences side by side, [T, B], padded to the longest, and their lengths [B]."""
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    found = torch.full((int(lengths.max()), len(sentences)), padding)
    for column, sentence in enumerate(sentences):
        found[: len(sentence), column] = torch.tensor(sentence, dtype=torch.long)
    return found, lengths
