"""Bach's chorales, frame after frame, as one of the tasks of a comparison."""

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

SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # what is added to a count, one of which is best on validation


@dataclass(frozen=True)
class Music(StoredTask, MultiLabelTask):
    """Polyphonic music (Boulanger-Lewandowski et al. 2012): at every frame of a chorale, which keys sound in the next?

    The loss and the metric are the nats that a frame's 88 keys, 0 or 1, take together, of all frames but the first; the
    mean over the frames of all chorales. Chance is who knows how often each key sounds, 10.69 (`constant`); who knows
    of each key whether it sounds now, a first-order Markov chain, has 10.28 (`markov`). What is best possible is not
    known. The scores and the split are those of `chorales`, and not the literature's.

    Raises BadInput where music21 is missing.
    """

    metric: ClassVar[str] = "nats a frame"
    optimum: ClassVar[float] = math.nan
    input_size: ClassVar[int] = chorales.KEYS
    output_size: ClassVar[int] = chorales.KEYS
    data: ClassVar[Data] = Data(
        "music21 10.5.1: corpus/bach/*.mxl",
        "the package's is BSD; the corpus is distributed by permission of the encoders, see its license.txt",
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
    """The chorales of each part, side by side."""
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
    """Nats a frame of the test part, if each key sounds as often as in the part to learn from, whatever came before."""

    def chances(learn: Batch, more: float) -> Callable[[Tensor], Tensor]:
        after = learn.targets[learn.mask]
        often = (after.sum(0) + more) / (len(after) + 2 * more)
        return lambda now: often.expand_as(now)

    return _smoothed(chances)


@functools.cache
def markov() -> float:
    """Nats a frame of the test part, if each key sounds as often as where it sounded, or did not, in the frame before.

    This is all that a first-order Markov chain of each key alone can know.
    """

    def chances(learn: Batch, more: float) -> Callable[[Tensor], Tensor]:
        now, after = learn.inputs[learn.mask], learn.targets[learn.mask]
        on = ((now * after).sum(0) + more) / (now.sum(0) + 2 * more)
        off = (((1 - now) * after).sum(0) + more) / ((1 - now).sum(0) + 2 * more)
        return lambda now: torch.where(now > 0, on, off)

    return _smoothed(chances)


def _smoothed(chances: Callable[[Batch, float], Callable[[Tensor], Tensor]]) -> float:
    """Nats a frame of the test part, with the smoothing of the counts that is best on validation."""

    def nats(more: float, part: str) -> float:
        now, after = (values[parts()[part].mask] for values in (parts()[part].inputs, parts()[part].targets))
        chance = chances(parts()["learn"], more)(now)
        return float(-torch.where(after > 0, chance, 1 - chance).log().sum(-1).mean())

    return nats(min(SMOOTHING, key=lambda more: nats(more, "validation")), "test")
