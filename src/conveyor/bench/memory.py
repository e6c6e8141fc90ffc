"""The memory that a forward pass saves for backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def saved_bytes(forward: Callable[[], Any], apart_from: Iterable[Tensor]) -> int:
    """Bytes that the forward pass saves for backward, counting each storage once.

        saved_bytes(lambda: layer(x), [x, *layer.parameters()])

    `apart_from` are tensors that exist anyway and are not counted.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    saved: dict[int, Tensor] = {}  # keeps the tensors, so that no address is reused

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    total = sum(tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in known)
    del output  # the graph must live until here
    return total
