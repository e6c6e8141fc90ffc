"""The handwritten digits of the package scikit-learn: 1,797 images of 8 x 8 pixels, by many writers."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
import zlib
from pathlib import Path

import numpy as np

from conveyor.errors import BadInput

COUNT, SIDE = 1_797, 8
CHECKSUM = "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
CURE = "pip install 'conveyor[images]'"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The images [1797, 8, 8], from 0 (paper) to 1 (ink), and their labels [1797], 0 to 9.

    Raises BadInput if scikit-learn is missing or has other images.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"the digits come from scikit-learn, which is not installed: {CURE}")
    return read(Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz")


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads scikit-learn's file: each line has 64 pixels, from 0 to 16, and the digit.

    It does not import scikit-learn, which takes a second. Raises BadInput if the file is damaged or another.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about an empty file
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise BadInput(f"the digits of scikit-learn cannot be read: {error}; reinstall it: {CURE}") from error
    found = hashlib.sha256(table.tobytes()).hexdigest()
    if table.shape != (COUNT, SIDE * SIDE + 1) or found != CHECKSUM:
        raise BadInput(f"{path} does not hold the expected {COUNT:,} digits; reinstall it: {CURE}")
    return table[:, :-1].reshape(COUNT, SIDE, SIDE) / np.float32(16), table[:, -1].astype(np.int64)
