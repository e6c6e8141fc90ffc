"""Digits read point by point, as a sequence of 64 numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from conveyor.tasks.digits import digits
from conveyor.tasks.task import PARTS, Batch, Classes, at, check, check_part


@dataclass(frozen=True)
class Pixels(Classes):
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

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        images, labels = parts()["learn"]
        return self.batch(images, labels, torch.randint(len(images), (rows,), generator=generator))

    def held_out(self, part: str, rows: int) -> Batch:
        images, labels = parts()[check_part(part)]
        return self.batch(images, labels, torch.arange(min(rows, len(images))))

    def batch(self, images: Tensor, labels: Tensor, which: Tensor) -> Batch:
        order = torch.randperm(images.shape[1], generator=torch.Generator().manual_seed(0))
        points = images[which][:, order if self.permuted else slice(None)]
        lengths = torch.full((len(which),), points.shape[1])
        last = at(lengths - 1, lengths)
        return Batch(points.t()[..., None], labels[which] * last, last, lengths)


@functools.cache
def parts() -> dict[str, tuple[Tensor, Tensor]]:
    """The images [N, 64] and what they show [N], of each part."""
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(labels))
    tenth = len(order) // 10
    cut = np.split(order, [-2 * tenth, -tenth])
    return {
        name: (torch.from_numpy(images[part].reshape(len(part), -1)), torch.from_numpy(labels[part]))
        for name, part in zip(("learn", *PARTS), cut, strict=True)
    }
