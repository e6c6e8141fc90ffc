"""Handwritten digits that the package scikit-learn carries: 1,797 images of 8 x 8 points, from many hands."""

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
    """The images [1797, 8, 8], from 0 for paper to 1 for ink, and what they show [1797], 0 to 9.

    Raises BadInput where scikit-learn is missing, or carries other images.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"the digits are in scikit-learn, which is not installed: {CURE}")
    return read(Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz")


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits of the file that scikit-learn carries, 64 points from 0 to 16 and the digit in each line.

    It is read without scikit-learn, which takes a second to import.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of a file with nothing in it
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise BadInput(f"the digits of scikit-learn cannot be read: {error}; install it anew, {CURE}") from error
    found = hashlib.sha256(table.tobytes()).hexdigest()
    if table.shape != (COUNT, SIDE * SIDE + 1) or found != CHECKSUM:
        raise BadInput(f"{path} does not have the {COUNT:,} digits that are known: install it anew, {CURE}")
    return table[:, :-1].reshape(COUNT, SIDE, SIDE) / np.float32(16), table[:, -1].astype(np.int64)
