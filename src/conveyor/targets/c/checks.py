"""What tests ask of kernels in C."""

import math
import os

import torch
from torch import Tensor

# "nan": an element that is read before it is written spoils the result; "apart": every buffer is memory of its own, so
# that the compiler's sanitizer sees what is read or written beyond one.
CHECKS = os.environ.get("CONVEYOR_CHECKS", "").split()


def empty(dtype: torch.dtype, *shape: int, device: torch.device | None = None) -> Tensor:
    """Memory that a kernel is to fill."""
    made = torch.empty(shape, dtype=dtype, device=device)
    return made.fill_(math.nan) if "nan" in CHECKS else made
