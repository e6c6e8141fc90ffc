"""Speaker recognition on the utterances of JapaneseVowels, as a task of a comparison."""

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
    """Speaker recognition (Kudo, Toyama & Shimbo 1999): which of nine men spoke two Japanese vowels, a and e.

    An utterance has 7 to 29 frames of 12 normalised coefficients; the target is at the last frame. The test part is
    that of the data set, in which the speakers are not as frequent as in the training part. Chance is guessing.
    `folder` is the folder of the files, by default that in aeon.

    Raises BadInput if aeon is missing, and for a speaker other than 1 to 9.
    """

    folder: Path | None = None
    metric: ClassVar[str] = "utterance error rate"
    chance: ClassVar[float] = 1 - 1 / SPEAKERS
    input_size: ClassVar[int] = vowels.COEFFICIENTS
    output_size: ClassVar[int] = SPEAKERS
    data: ClassVar[Data] = Data(
        "aeon 1.6.0: datasets/data/JapaneseVowels, from the UCI archive",
        "BSD 3-Clause for the package; the files name no licence of their own",
        " and ".join(checksum for _, checksum in vowels.CHECKED.values()),
        (240, 30, 370),
    )

    @property
    def parts(self) -> dict[str, Batch]:
        return parts(self.folder)


@functools.cache
def parts(folder: Path | None) -> dict[str, Batch]:
    """The utterances of each part, as one batch."""
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
        raise BadInput(f"the speakers of JapaneseVowels must be 1 to {SPEAKERS}, not {speaker!r}")
    return names.index(speaker)
