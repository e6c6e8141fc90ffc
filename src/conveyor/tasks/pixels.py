"""Digits read point by point, as a sequence of 64 numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from conveyor.tasks.digits import CHECKSUM, digits
from conveyor.tasks.task import PARTS, Batch, ClassificationTask, Data, StoredTask, at


@dataclass(frozen=True)
class Pixels(StoredTask, ClassificationTask):
    """Sequential images (Le, Jaitly & Hinton 2015): which digit is it, read a point at a time?

    scikit-learn's digits, 8 x 8, by rows from the top left, or, `permuted`, in an order drawn once. Of 1,797 images a
    tenth is for validation and a tenth for testing. Departures: the papers have MNIST's 28 x 28.

    Raises BadInput where scikit-learn is missing.
    """

    permuted: bool = False
    metric: ClassVar[str] = "images wrong"
    chance: ClassVar[float] = 0.9
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 10
    data: ClassVar[Data] = Data(
        "scikit-learn (1.9.1, and others that have the same file): datasets/data/digits.csv.gz, from the UCI archive",
        "the package's is BSD 3-Clause; the file names none of its own",
        CHECKSUM,
        (1_439, 179, 179),
    )

    @property
    def parts(self) -> dict[str, Batch]:
        return parts(self.permuted)


@functools.cache
def parts(permuted: bool) -> dict[str, Batch]:
    """The images of each part, as points one after the other, and what they show."""
    images, labels = digits()
    points = torch.from_numpy(images.reshape(len(images), -1)).t()[..., None]
    if permuted:
        points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))]
    lengths = torch.full((len(labels),), len(points))
    last = at(lengths - 1, lengths)
    whole = Batch(points, torch.from_numpy(labels) * last, last, lengths)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    tenth = len(order) // 10
    cut = order.split([len(order) - 2 * tenth, tenth, tenth])
    return {name: whole.rows(part) for name, part in zip(("learn", *PARTS), cut, strict=True)}
