"""Scenes with captions: several handwritten digits on a canvas, and a caption that names each and its position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.digits import SIDE, digits
from conveyor.tasks.words import WordVocabulary

NAMES = ("a zero", "a one", "a two", "a three", "a four", "a five", "a six", "a seven", "an eight", "a nine")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
PLACES = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
FIELD = 9  # a digit of 8 x 8 pixels may lie anywhere in its field
CANVAS = 28  # three fields and one more pixel, since the captioner needs a multiple of 4
WORDS = WordVocabulary.of([*NAMES, *PLACES, "and"])  # the order does not depend on the scenes drawn


@dataclass(frozen=True)
class Scenes:
    """Canvases [N, 28, 28], from 0 (paper) to 1 (ink), and the caption of each."""

    canvases: Tensor
    captions: tuple[str, ...]

    @classmethod
    def draw(cls, images: np.ndarray, labels: np.ndarray, count: int, most: int, rng: np.random.Generator) -> Scenes:
        """Draws `count` scenes of one to `most` digits, each in a different place.

        `images` are [N, 8, 8], `labels` [N]. Raises BadInput for another image size, and for more digits than places.
        """
        if images.shape[1:] != (SIDE, SIDE):
            raise BadInput(f"the digits must be {SIDE} x {SIDE} pixels, not {' x '.join(map(str, images.shape[1:]))}")
        if not 1 <= most <= len(PLACES):
            raise BadInput(f"a scene must have from 1 to {len(PLACES)} digits, not {most}")
        scenes = [_scene(images, labels, int(rng.integers(1, most + 1)), rng) for _ in range(count)]
        return cls(torch.from_numpy(np.stack([canvas for canvas, _ in scenes])), tuple(said for _, said in scenes))


def _scene(images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A canvas and its caption, in reading order: top to bottom, left to right."""
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    said = []
    for place in np.sort(rng.permutation(len(PLACES))[:count]):
        which = rng.integers(len(images))
        y, x = FIELD * np.array(divmod(place, 3)) + rng.integers(0, FIELD - SIDE + 1, 2)
        canvas[y : y + SIDE, x : x + SIDE] = images[which]
        said.append(f"{NAMES[labels[which]]} {PLACES[place]}")
    return canvas, " and ".join(said)


def split() -> list[tuple[np.ndarray, np.ndarray]]:
    """The digits for training, validation and test, in the proportions 8 : 1 : 1, as pairs of images and labels.

    The split is always the same, and the parts are disjoint.
    """
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(labels))
    tenth = len(order) // 10
    return [(images[part], labels[part]) for part in np.split(order, [-2 * tenth, -tenth])]
