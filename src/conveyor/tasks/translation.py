"""Pairs of sentences to learn translation from, English and Spanish, and those to validate and to test on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyor.errors import BadInput
from conveyor.tasks import numbers, verses

Pairs = list[tuple[str, str]]
DATA = ("auto", "numbers", "verses")


@dataclass(frozen=True)
class Translation:
    """Sentences to learn from, to validate on and to test on; no English one is in two parts."""

    name: str
    learnt: Pairs
    validation: Pairs
    test: Pairs


def choose(data: str) -> str:
    """What "auto" stands for: the verses where they are installed, else the numbers."""
    return ("verses" if verses.find() else "numbers") if data == "auto" else data


def translation(data: str, longest: int = 15, held_out: int = 500, count: int = 20_000) -> Translation:
    """The verses of at most `longest` words, or `count` numbers in words; always the same ones for the same arguments.

    `held_out` are to validate on, and as many to test on. Raises BadInput where the verses are missing, or too few.
    """
    pairs = verses.short(verses.verses(), longest) if data == "verses" else number_pairs(count)
    if len(pairs) < 3 * held_out:
        raise BadInput(
            f"of {len(pairs):,} pairs of sentences {held_out:,} are to validate and {held_out:,} to test on, which "
            f"leaves too few to learn from: hold out {len(pairs) // 3:,} at most"
        )
    order = np.random.default_rng(0).permutation(len(pairs))
    mixed = [pairs[i] for i in order]
    return Translation(data, mixed[2 * held_out :], mixed[:held_out], mixed[held_out : 2 * held_out])


def number_pairs(count: int) -> Pairs:
    """Numbers of one to six digits, each length about as often as the numbers of it allow; none comes twice."""
    drawn = 10 ** np.random.default_rng(0).uniform(0, 6, 9 * count)
    found = dict.fromkeys(int(n) for n in drawn if n < numbers.LIMIT)
    return [(numbers.english(n), numbers.spanish(n)) for n in list(found)[:count]]
