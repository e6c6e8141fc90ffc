"""Pairs of English and Spanish sentences for translation, in training, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyor.errors import BadInput
from conveyor.tasks import numbers, verses

Pairs = list[tuple[str, str]]
DATA = ("auto", "numbers", "verses")


@dataclass(frozen=True)
class Translation:
    """Sentence pairs for training, validation and test; no English sentence is in two parts."""

    name: str
    learnt: Pairs
    validation: Pairs
    test: Pairs


def choose(data: str) -> str:
    """Resolves "auto": the verses if they are installed, otherwise the numbers."""
    return ("verses" if verses.find() else "numbers") if data == "auto" else data


def translation(data: str, longest: int = 15, held_out: int = 500, count: int = 20_000) -> Translation:
    """The verses of at most `longest` words, or `count` numbers in words; equal arguments give equal data.

    `held_out` pairs are for validation and as many for testing. Raises BadInput if the verses are missing or too few.
    """
    pairs = verses.short(verses.verses(), longest) if data == "verses" else number_pairs(count)
    if len(pairs) < 3 * held_out:
        raise BadInput(
            f"holding out {held_out:,} pairs for validation and {held_out:,} for testing leaves too few of "
            f"{len(pairs):,} for training: hold out {len(pairs) // 3:,} at most"
        )
    order = np.random.default_rng(0).permutation(len(pairs))
    mixed = [pairs[i] for i in order]
    return Translation(data, mixed[2 * held_out :], mixed[:held_out], mixed[held_out : 2 * held_out])


def number_pairs(count: int) -> Pairs:
    """Pairs for distinct numbers of one to six digits, about equally many of each length as far as there are enough."""
    drawn = 10 ** np.random.default_rng(0).uniform(0, 6, 9 * count)
    found = dict.fromkeys(int(n) for n in drawn if n < numbers.LIMIT)
    return [(numbers.english(n), numbers.spanish(n)) for n in list(found)[:count]]
