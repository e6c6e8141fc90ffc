"""Bach's chorales as a task of a comparison: predict the next frame."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from conveyor.tasks import chorales
from conveyor.tasks.task import PARTS, Batch, Data, MultiLabelTask, StoredTask, before

SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # pseudo-counts; the best on validation is used


@dataclass(frozen=True)
class Music(StoredTask, MultiLabelTask):
    """Polyphonic music (Boulanger-Lewandowski et al. 2012): predict the keys that sound in the next frame of a chorale.

    The metric is the negative log-likelihood of a frame's 88 binary keys, in nats, averaged over all frames of all
    chorales except the first ones. Chance is predicting each key by its frequency, 10.69 (`constant`). A first-order
    Markov chain for each key, which uses only whether that key sounds now, has 10.28 (`markov`). The optimum is not
    known. The scores and the split are those of `chorales`, not those of the literature.

    Raises BadInput if music21 is missing.
    """

    metric: ClassVar[str] = "nats per frame"
    optimum: ClassVar[float] = math.nan
    input_size: ClassVar[int] = chorales.KEYS
    output_size: ClassVar[int] = chorales.KEYS
    data: ClassVar[Data] = Data(
        "music21 10.5.1: corpus/bach/*.mxl",
        "BSD for the package; the corpus is distributed with permission of its encoders, see its license.txt",
        chorales.DIGEST,
        (265, 42, 42),
    )

    @property
    def chance(self) -> float:
        return constant()

    @property
    def parts(self) -> dict[str, Batch]:
        return parts()

    def rules(self) -> dict[str, float]:
        return {"first-order Markov": markov()}

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.loss(outputs, batch)) * chorales.KEYS


@functools.cache
def parts() -> dict[str, Batch]:
    """The chorales of each part, as one batch."""
    read = chorales.read()
    return {
        name: _batch([chorale.roll for chorale in part])
        for name, part in zip(("learn", *PARTS), (read.train, read.valid, read.test), strict=True)
    }


def _batch(rolls: Sequence[Tensor]) -> Batch:
    lengths = torch.tensor([len(roll) - 1 for roll in rolls])
    inputs, targets = (pad_sequence([roll[cut] for roll in rolls]) for cut in (slice(-1), slice(1, None)))
    return Batch(inputs, targets, before(lengths), lengths)


@functools.cache
def constant() -> float:
    """Nats per frame on the test part when each key is predicted by its frequency in the training part."""

    def chances(learn: Batch, more: float) -> Callable[[Tensor], Tensor]:
        after = learn.targets[learn.mask]
        often = (after.sum(0) + more) / (len(after) + 2 * more)
        return lambda now: often.expand_as(now)

    return _smoothed(chances)


@functools.cache
def markov() -> float:
    """Nats per frame on the test part of a first-order Markov chain for each key, fitted to the training part."""

    def chances(learn: Batch, more: float) -> Callable[[Tensor], Tensor]:
        now, after = learn.inputs[learn.mask], learn.targets[learn.mask]
        on = ((now * after).sum(0) + more) / (now.sum(0) + 2 * more)
        off = (((1 - now) * after).sum(0) + more) / ((1 - now).sum(0) + 2 * more)
        return lambda now: torch.where(now > 0, on, off)

    return _smoothed(chances)


def _smoothed(chances: Callable[[Batch, float], Callable[[Tensor], Tensor]]) -> float:
    """Nats per frame on the test part, with the smoothing that is best on validation."""

    def nats(more: float, part: str) -> float:
        now, after = (values[parts()[part].mask] for values in (parts()[part].inputs, parts()[part].targets))
        chance = chances(parts()["learn"], more)(now)
        return float(-torch.where(after > 0, chance, 1 - chance).log().sum(-1).mean())

    return nats(min(SMOOTHING, key=lambda more: nats(more, "validation")), "test")
