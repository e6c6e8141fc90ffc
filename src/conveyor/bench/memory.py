"""What a forward pass keeps for the backward one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def saved_bytes(forward: Callable[[], Any], apart_from: Iterable[Tensor]) -> int:
    """Bytes that the forward pass saves for backward, each storage once.

        saved_bytes(lambda: layer(x), [x, *layer.parameters()])

    `apart_from` are tensors that are there in any case.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    saved: dict[int, Tensor] = {}  # the tensors too, so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    total = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in known)
    del output  # up to here the graph held what it saved
    return total
