"""Sequential images: digits read pixel by pixel, as sequences of 64 numbers."""

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
    """Sequential images (Le, Jaitly & Hinton 2015): classify a digit that is read one pixel at a time.

    The images are scikit-learn's digits of 8 x 8 pixels, read row by row from the top left, or, with `permuted`, in a
    fixed random order. Of 1,797 images, a tenth is for validation and a tenth for testing. Departures from the paper:
    it uses MNIST's 28 x 28 pixels.

    Raises BadInput if scikit-learn is missing.
    """

    permuted: bool = False
    metric: ClassVar[str] = "image error rate"
    chance: ClassVar[float] = 0.9
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 10
    data: ClassVar[Data] = Data(
        "scikit-learn (1.9.1, or any version with the same file): datasets/data/digits.csv.gz, from the UCI archive",
        "BSD 3-Clause for the package; the file names no licence of its own",
        CHECKSUM,
        (1_439, 179, 179),
    )

    @property
    def parts(self) -> dict[str, Batch]:
        return parts(self.permuted)


@functools.cache
def parts(permuted: bool) -> dict[str, Batch]:
    """The images of each part as sequences of pixels, with their labels."""
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
