"""Cells that read their weights from the tensors of a layer, of which they are blocks."""

from __future__ import annotations

import copy
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

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        """That of the copied layer, which may be copied in one go with a module that refers to its cell."""
        return Packed(copy.deepcopy(self.owner(), memo), self.names, self.packing)  # type: ignore[arg-type]

    def __reduce__(self) -> Any:
        raise TypeError("this cell reads its weights from its layer and cannot be pickled alone: pickle the layer")

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
        if not further and not self._computed(path):
            return first
        found = sum(further, first).detach()
        return found.as_subclass(Computed) if type(found) is Tensor else found

    def _computed(self, path: str) -> list[str]:
        """The layer's names of those sources of a weight that are no parameters but computed of some."""
        parameters = self.owner()._parameters  # type: ignore[union-attr]
        return [
            name for name in map(self.names.__getitem__, self.packing.blocks[path].sources) if name not in parameters
        ]

    def write(self, path: str, value: Any) -> None:
        """Sets a weight in place. Raises ValueError for another shape, TypeError for no tensor."""
        first, *further = self.blocks(path)
        if names := self._computed(path):
            raise RuntimeError(
                f"{path} is a part of {names[0]}, which is computed (a norm, pruning): set what it is of"
            )
        if not isinstance(value, Tensor):
            raise TypeError(f"{path} is a part of the layer's tensors and can only be set to a tensor, not {value!r}")
        if value.shape != first.shape:
            raise ValueError(f"{path} has shape {list(first.shape)}, but was given {list(value.shape)}")
        with torch.no_grad():
            first.copy_(value)
            for block in further:
                block.zero_()


class Computed(Tensor):
    """A weight that is computed of parameters. Changing it in place would change nothing, and so raises."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        changed = in_place or (kwargs or {}).get("out") is not None
        if changed or name in ("__setitem__", "__iadd__", "__imul__") or func == Tensor.data.__get__:  # type: ignore
            raise RuntimeError(
                "this weight is computed of the layer's parameters (a bias is torch.nn's bias_ih + bias_hh) and so "
                "cannot be changed in place: assign to a bias (cell.forget.bias = ...), or change the parameters"
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
