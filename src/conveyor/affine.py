"""Learned affine maps of several values, the one thing in a step that has weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

BLOCKS = ("full", "diagonal", "zero")

# Variational dropout masks what an affine map reads of a state and leaves the state itself alone (a state that is
# carried over would otherwise fade or explode), so the masks reach the maps past the equations of the step.
Masks = Mapping["Affine", Mapping[str, Tensor]]
_masks: ContextVar[Masks] = ContextVar("masks", default={})  # noqa: B039 - only ever read


@contextmanager
def masked(masks: Masks) -> Iterator[None]:
    """Inside, an affine map multiplies its operand called `name` by `masks[map][name]`, [B, width].

    A map that reads only the last units of a state has their part of its mask.
    """
    token = _masks.set(masks)
    try:
        yield
    finally:
        _masks.reset(token)


class Affine(nn.Module):
    """A learned map `W · [a, b, ...] + bias` of several values; made by `Cell.affine`.

    The matrix is kept in one block for each operand, as the parameters `weight_<operand>`: [out, width] if the block
    is full, [out] if it is diagonal, none at all if it is zero. All start uniform in ±`bound`.
    """

    bias: nn.Parameter | None

    def __init__(self, out: int, widths: Mapping[str, int], blocks: Mapping[str, str], bias: bool, bound: float):
        super().__init__()
        self.out, self.widths, self.blocks, self.bound = out, dict(widths), dict(blocks), bound
        for name, width in widths.items():
            block = blocks.get(name, "full")
            if block not in BLOCKS:
                raise ValueError(f"the block of {name} is {block!r}; it can be {', '.join(BLOCKS)}")
            if block == "diagonal" and width != out:
                raise ValueError(f"a diagonal block needs equal widths, but {name} has {width} and the result {out}")
            shape = {"full": (out, width), "diagonal": (out,), "zero": None}[block]
            weight = None if shape is None else nn.Parameter(torch.empty(shape))
            self.register_parameter(f"weight_{name}", weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(out)) if bias else None)
        self.reset_parameters()

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(self.widths)

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -self.bound, self.bound)

    def forward(self, *values: Tensor) -> Tensor:
        found = [value.shape[-1] for value in values]
        if found != list(self.widths.values()):
            wanted = ", ".join(f"{name}: {width}" for name, width in self.widths.items())
            raise ValueError(f"this affine map takes the widths ({wanted}), but was given values of widths {found}")
        masks = _masks.get().get(self, {})
        total: Tensor | None = self.bias
        for name, value in zip(self.operands, values, strict=True):
            weight = getattr(self, f"weight_{name}")
            if weight is None:
                continue
            value = value * masks[name][..., -self.widths[name] :] if name in masks else value
            if weight.dim() == value.dim() == 2 and total is not None:
                total = torch.addmm(total, value, weight.t())  # one operation less than a product and a sum
            else:
                term = value @ weight.t() if weight.dim() == 2 else value * weight
                total = term if total is None else total + term
        if total is not None and total.dim() > 1:
            return total
        # Every block is zero, or every value is without rows.
        shape = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
        return values[0].new_zeros(*shape, self.out) + (0 if total is None else total)

    def extra_repr(self) -> str:
        blocks = [f"{name}: {self.blocks[name]}" if name in self.blocks else name for name in self.operands]
        return f"{', '.join(blocks)} -> {self.out}, bias={self.bias is not None}"
