"""A vocabulary of words, and batches of sentences as token indices."""

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
class WordVocabulary:
    """A vocabulary of words, with tokens for the start and the end of a sentence.

        words = WordVocabulary.of(["a three top left", "a seven top right"])
        words.encode("a seven top left")                    # [2, 3, 6, 4]
        words.decode([2, 3, 6, 4, 0])                       # "a seven top left"

    An unknown word is an error, or `<unk>` if the vocabulary has it.
    """

    symbols: tuple[str, ...]  # by index: <end> is 0, <start> is 1, and <unk>, if present, is 2
    end = 0
    start = 1

    @classmethod
    def of(cls, sentences: Iterable[str], limit: int | None = None, unknown: bool = False) -> WordVocabulary:
        """The vocabulary of these sentences, by descending frequency: the `limit` most frequent words, or all."""
        counts = Counter(word for sentence in sentences for word in sentence.split())
        found = sorted(counts, key=lambda word: (-counts[word], word))[:limit]
        return cls((*MARKS[: 2 + unknown], *(word for word in found if word not in MARKS)))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The index of each word."""
        return {word: number for number, word in enumerate(self.symbols)}

    def encode(self, sentence: str) -> list[int]:
        """The indices of the words, without start and end. Raises BadInput for unknown words."""
        words, numbers = sentence.split(), self.numbers
        strange = [word for word in words if word not in numbers or word in MARKS[:2]]
        if strange and UNKNOWN not in numbers:
            near = suggest(strange[0], self.symbols[2:])
            raise BadInput(f"the sentence {sentence!r} has unknown words, {', '.join(strange)}: {near}")
        return [numbers[UNKNOWN] if word in strange else numbers[word] for word in words]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words before the first <end>."""
        return " ".join(self.labels(numbers)).partition(END)[0].strip()

    def labels(self, numbers: Iterable[int]) -> list[str]:
        """The words of these indices, special tokens included."""
        return [self.symbols[number] for number in numbers]


@dataclass(frozen=True)
class TokenBatch:
    """A batch of sentences for a decoder with teacher forcing, [T, B].

    `inputs` begin with <start>; `targets` end with <end> and are padded with -100; `lengths`, [B], count <end>.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sentences: Sequence[Sequence[int]]) -> TokenBatch:
        """The batch of these sentences, given as word indices."""
        inputs = columns([[WordVocabulary.start, *sentence] for sentence in sentences])[0]
        targets, lengths = columns([[*sentence, WordVocabulary.end] for sentence in sentences], -100)
        return cls(inputs, targets, lengths)

    @property
    def count(self) -> int:
        """The number of target tokens, <end> included."""
        return int(self.lengths.sum())

    def to(self, device: torch.device) -> TokenBatch:
        """The batch with inputs and targets on this device."""
        return TokenBatch(self.inputs.to(device), self.targets.to(device), self.lengths)


def columns(sentences: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Sentences as columns, [T, B], padded to the longest, and their lengths, [B]."""
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    found = torch.full((int(lengths.max()), len(sentences)), padding)
    for column, sentence in enumerate(sentences):
        found[: len(sentence), column] = torch.tensor(sentence, dtype=torch.long)
    return found, lengths
