"""Brings a new layer to a device and a type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor


def move(module: nn.Module, device: Any, dtype: torch.dtype | None) -> None:
    """`module.to(device, dtype)`, if there is anything to do; under FakeTensorMode, too, where PyTorch has no such."""
    if device is None and dtype is None:
        return
    if not any(isinstance(tensor, FakeTensor) for tensor in (*module.parameters(), *module.buffers())):
        module.to(device=device, dtype=dtype)
        return
    moved: dict[int, Tensor] = {}  # a tensor that is held in two places stays one
    for owner in module.modules():
        for held in (owner._parameters, owner._buffers):
            for name, old in held.items():
                if old is not None:
                    held[name] = moved.setdefault(id(old), _moved(old, device, dtype))  # type: ignore[assignment]


def _moved(old: Tensor, device: Any, dtype: torch.dtype | None) -> Tensor:
    new = old.detach().to(device=device, dtype=dtype if old.is_floating_point() else None)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
