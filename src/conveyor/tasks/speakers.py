"""Who speaks? The utterances of JapaneseVowels as one of the tasks of a comparison."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence

from conveyor.errors import BadInput
from conveyor.tasks import vowels
from conveyor.tasks.task import PARTS, Batch, ClassificationTask, Data, StoredTask, at

SPEAKERS = 9


@dataclass(frozen=True)
class Speakers(StoredTask, ClassificationTask):
    """Speaker recognition (Kudo, Toyama & Shimbo 1999): which of nine men said the vowels a and e?

    12 coefficients for each of 7 to 29 frames, normalised; judged at the last frame. The test part is the data's own,
    with other numbers of utterances of each man than the part to learn from. Chance is who guesses. `folder`: where
    the files are, if not in aeon.

    Raises BadInput where aeon is missing, and for a speaker that is none of 1 to 9.
    """

    folder: Path | None = None
    metric: ClassVar[str] = "utterances wrong"
    chance: ClassVar[float] = 1 - 1 / SPEAKERS
    input_size: ClassVar[int] = vowels.COEFFICIENTS
    output_size: ClassVar[int] = SPEAKERS
    data: ClassVar[Data] = Data(
        "aeon 1.6.0: datasets/data/JapaneseVowels, from the UCI archive",
        "the package's is BSD 3-Clause; the files name none of their own",
        " and ".join(checksum for _, checksum in vowels.CHECKED.values()),
        (240, 30, 370),
    )

    @property
    def parts(self) -> dict[str, Batch]:
        return parts(self.folder)


@functools.cache
def parts(folder: Path | None) -> dict[str, Batch]:
    """The utterances of each part, side by side."""
    read = vowels.read(folder)
    return {
        name: _batch(part) for name, part in zip(("learn", *PARTS), (read.train, read.valid, read.test), strict=True)
    }


def _batch(utterances: Sequence[vowels.Utterance]) -> Batch:
    lengths = torch.tensor([len(utterance.frames) for utterance in utterances])
    last = at(lengths - 1, lengths)
    speakers = torch.tensor([_number(utterance.speaker) for utterance in utterances])
    return Batch(pad_sequence([utterance.frames for utterance in utterances]), speakers * last, last, lengths)


def _number(speaker: str) -> int:
    names = [str(number + 1) for number in range(SPEAKERS)]
    if speaker not in names:
        raise BadInput(f"the speakers of JapaneseVowels are 1 to {SPEAKERS}, and one is called {speaker!r}")
    return names.index(speaker)
