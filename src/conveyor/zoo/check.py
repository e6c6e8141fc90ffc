"""Checks of a network's inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from conveyor.cell.loop import is_autocast


def check_tensor(name: str, value: Tensor, shape: tuple[int | str, ...], weight: Tensor) -> None:
    """Checks that a tensor has this shape, in which a name stands for any size, and the dtype of the weights.

        check_tensor("x", x, ("T", "B", 88), weight)             # x must be [T, B, 88], not [5, 88]

    Raises TypeError if it is not a tensor, and ValueError for another shape or dtype.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        isinstance(wanted, str) or size == wanted for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must be [{', '.join(map(str, shape))}], not {list(value.shape)}")
    cast = value.is_floating_point() and is_autocast(value.device)
    if value.dtype != weight.dtype and not cast:
        raise ValueError(f"{name} is {value.dtype}, but the weights are {weight.dtype}: give {name}.to({weight.dtype})")


def check_probabilities(name: str, value: Tensor) -> None:
    """Raises ValueError unless all elements lie between 0 and 1. Not checked under torch.compile and torch.func."""
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return
    if not ((value >= 0) & (value <= 1)).all():
        raise ValueError(
            f"{name} must lie between 0 and 1, but its elements lie between {value.min():g} and {value.max():g}"
        )
