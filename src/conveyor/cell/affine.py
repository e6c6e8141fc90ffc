"""Learned affine maps of several values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.packed import Packed

BLOCKS = ("full", "diagonal", "zero")

# Variational dropout masks the state where an affine map reads it, not the state that is carried over, which would
# otherwise vanish or explode. So the masks are passed to the maps through this context, not through the step.
Masks = Mapping["Affine", Mapping[str, Tensor]]
_masks: ContextVar[Masks] = ContextVar("masks", default={})  # noqa: B039 - only ever read


@contextmanager
def masked(masks: Masks) -> Iterator[None]:
    """Within this context an affine map multiplies its operand `name` by `masks[map][name]`, [B, width].

    A map that reads only the last units of a state uses the last elements of the mask.
    """
    token = _masks.set(masks)
    try:
        yield
    finally:
        _masks.reset(token)


class Affine(nn.Module):
    """A learned map `W · [a, b, ...] + bias` of several values; created by `Cell.affine`.

        self.forget = self.affine("h", "x")       # in the cell's __init__
        f = sigmoid(self.forget(h, x))            # in its step: h [B, hidden], x [B, input], f [B, hidden]

    W is stored as one block per operand, in the parameters `weight_<operand>`: [out, width] if the block is full, [out]
    if it is diagonal, None if it is zero. All parameters are initially uniform in ±`bound`.

    Raises ValueError for an unknown kind of block, for a diagonal block that is not square, and for operands of other
    widths.
    """

    bias: nn.Parameter | None
    packed: Packed | None = None
    path = ""  # in the cell

    def __init__(self, out: int, widths: Mapping[str, int], blocks: Mapping[str, str], bias: bool, bound: float):
        super().__init__()
        self.out, self.widths, self.blocks, self.bound = out, dict(widths), dict(blocks), bound
        for name, width in widths.items():
            block = blocks.get(name, "full")
            if block not in BLOCKS:
                raise ValueError(f"the block of {name} is {block!r}; it can be {', '.join(BLOCKS)}")
            if block == "diagonal" and width != out:
                raise ValueError(f"a diagonal block must be square, but {name} has width {width} and the result {out}")
            shape = {"full": (out, width), "diagonal": (out,), "zero": None}[block]
            weight = None if shape is None else nn.Parameter(torch.empty(shape))
            self.register_parameter(f"weight_{name}", weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(out)) if bias else None)
        self.reset_parameters()

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the operands, in the order of the call."""
        return tuple(self.widths)

    def reset_parameters(self) -> None:
        """Draws all parameters anew, uniform in ±`bound`."""
        for parameter in self.parameters():
            if not parameter.is_meta:  # on which nothing is drawn, and which may be made under vmap
                nn.init.uniform_(parameter, -self.bound, self.bound)

    def pack(self, packed: Packed, path: str) -> None:
        """Leaves its own parameters and reads blocks of a layer's tensors in their place."""
        self.packed, self.path = packed, path
        names = list(self._parameters)
        self._parameters.clear()
        self._parameters |= {name: None for name in names if not self.packs(name)}

    def packs(self, name: str) -> bool:
        """Whether a weight is a block of a layer's tensors."""
        packed = self.packed
        return packed is not None and f"{self.path}.{name}" in packed.packing.blocks

    def read(self, name: str) -> Tensor | None:
        """A weight to compute with, or None for a block of zeros or no bias."""
        if self.packed is None:
            value: Tensor | None = getattr(self, name)
            return value
        return self.packed.read(f"{self.path}.{name}") if self.packs(name) else getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        if self.packs(name):
            assert self.packed is not None
            return self.packed.show(f"{self.path}.{name}")
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.packs(name):
            assert self.packed is not None
            self.packed.write(f"{self.path}.{name}", value)
        elif self.packed is not None and isinstance(value, Tensor):
            raise AttributeError(f"{self.path} has no {name} in its layer's parameters: make the layer with bias=True")
        else:
            super().__setattr__(name, value)

    def forward(self, *values: Tensor) -> Tensor:
        found = [value.shape[-1] for value in values]
        if found != list(self.widths.values()):
            wanted = ", ".join(f"{name}: {width}" for name, width in self.widths.items())
            raise ValueError(f"this affine map takes operands of widths ({wanted}), but got widths {found}")
        masks = _masks.get().get(self, {})
        total = self.read("bias")
        for name, value in zip(self.operands, values, strict=True):
            weight = self.read(f"weight_{name}")
            if weight is None:
                continue
            value = value * masks[name][..., -self.widths[name] :] if name in masks else value
            if weight.dim() == value.dim() == 2 and total is not None:
                total = torch.addmm(total, value, weight.t())  # one operation instead of a product and a sum
            else:
                term = value @ weight.t() if weight.dim() == 2 else value * weight
                total = term if total is None else total + term
        if total is not None and total.dim() > 1:
            return total
        # Every block is zero, or no value has a batch dimension.
        shape = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
        return values[0].new_zeros(*shape, self.out) + (0 if total is None else total)

    def extra_repr(self) -> str:
        """The operands with their kinds of block, the width of the result, and whether there is a bias."""
        blocks = [f"{name}: {self.blocks[name]}" if name in self.blocks else name for name in self.operands]
        return f"{', '.join(blocks)} -> {self.out}, bias={self.bias is not None}"
