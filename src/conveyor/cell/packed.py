"""Cells that read their weights from the tensors of a layer, of which they are blocks."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.packing import Packing


class Packed:
    """The packing of one cell in one layer: the layer, and the names there of the sources."""

    def __init__(self, owner: nn.Module, names: Mapping[str, str], packing: Packing):
        self.names, self.packing = names, packing
        self.owner = weakref.ref(owner)  # which holds the cell: a cycle would keep its memory until it is searched for

    def sources(self) -> dict[str, Tensor]:
        """The tensors as they are now. Raises ReferenceError if the layer is gone."""
        owner = self.owner()
        if owner is None:
            raise ReferenceError("this cell reads its weights from a layer that is gone: keep the layer in a variable")
        return {source: getattr(owner, name) for source, name in self.names.items()}

    def blocks(self, path: str) -> list[Tensor]:
        """The blocks that a weight is the sum of, as views. Raises as `sources`."""
        names, number = self.packing.blocks[path]
        sources = self.sources()
        return [sources[name].chunk(self.packing.counts[name])[number] for name in names]

    def read(self, path: str) -> Tensor:
        """A weight, to compute with: what is held just now, else from the layer."""
        held = _held.get().get(self)
        if held is not None:
            return held[path]
        first, *further = self.blocks(path)
        return sum(further, first)

    def show(self, path: str) -> Tensor:
        """A weight for a reader: a view that can be changed in place, or a sum that cannot."""
        held = _held.get().get(self)
        if held is not None:
            return held[path]
        first, *further = self.blocks(path)
        return first if not further else sum(further, first).detach().as_subclass(Sum)

    def write(self, path: str, value: Any) -> None:
        """Sets a weight in place. Raises ValueError for another shape, TypeError for no tensor."""
        first, *further = self.blocks(path)
        if not isinstance(value, Tensor):
            raise TypeError(f"{path} is a part of the layer's tensors and can only be set to a tensor, not {value!r}")
        if value.shape != first.shape:
            raise ValueError(f"{path} has shape {list(first.shape)}, but was given {list(value.shape)}")
        with torch.no_grad():
            first.copy_(value)
            for block in further:
                block.zero_()


class Sum(Tensor):
    """A weight that is computed of two. Changing it in place would change nothing, and so raises."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place or name in ("__setitem__", "__iadd__", "__imul__") or func == Tensor.data.__get__:  # type: ignore
            raise RuntimeError(
                "this bias is the sum of two of torch.nn's, bias_ih and bias_hh, so it cannot be changed in place: "
                "assign to it (cell.forget.bias = ...), or change the layer's bias_ih"
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


# The weights of cells that run just now: split once for all steps, and from the tensors of this run, which under
# torch.func are not those that the layer holds.
_held: ContextVar[Mapping[Packed, Mapping[str, Tensor]]] = ContextVar("held", default={})  # noqa: B039 - only ever read


@contextmanager
def holding(packed: Packed | None, sources: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside, the cell reads its weights from these sources, by default from those of the layer, split once."""
    if packed is None or (sources is None and packed in _held.get()):
        yield
        return
    weights = packed.packing.split(packed.sources() if sources is None else sources)
    token = _held.set({**_held.get(), packed: weights})
    try:
        yield
    finally:
        _held.reset(token)
