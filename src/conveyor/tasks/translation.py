"""Pairs of sentences to learn translation from, English and Spanish, and those that are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyor.errors import BadInput
from conveyor.tasks import numbers, verses

Pairs = list[tuple[str, str]]
DATA = ("auto", "numbers", "verses")


@dataclass(frozen=True)
class Translation:
    """Sentences to learn from and sentences that are held out; no English one is in both."""

    name: str
    learnt: Pairs
    held_out: Pairs


def choose(data: str) -> str:
    """What "auto" stands for: the verses where they are installed, else the numbers."""
    return ("verses" if verses.find() else "numbers") if data == "auto" else data


def translation(data: str, longest: int = 15, held_out: int = 500, count: int = 20_000) -> Translation:
    """The verses of at most `longest` words, or `count` numbers in words; always the same ones for the same arguments.

    Raises BadInput where the verses are missing, or too few for what is to be held out.
    """
    pairs = verses.short(verses.verses(), longest) if data == "verses" else number_pairs(count)
    if len(pairs) < 2 * held_out:
        raise BadInput(f"there are {len(pairs)} pairs of sentences, of which {held_out} cannot be held out")
    order = np.random.default_rng(0).permutation(len(pairs))
    mixed = [pairs[i] for i in order]
    return Translation(data, mixed[held_out:], mixed[:held_out])


def number_pairs(count: int) -> Pairs:
    """Numbers of one to six digits, each length about as often as the numbers of it allow; none comes twice."""
    drawn = 10 ** np.random.default_rng(0).uniform(0, 6, 9 * count)
    found = dict.fromkeys(int(n) for n in drawn if n < numbers.LIMIT)
    return [(numbers.english(n), numbers.spanish(n)) for n in list(found)[:count]]
