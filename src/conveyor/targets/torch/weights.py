"""The weights of PyTorch's functions, put together of a step's; or as they lie, in one piece of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conveyor.targets.torch.plan import Block, Joined, Plan


def joined(plan: Plan, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights of one layer in one direction, in the function's order. Differentiable."""
    like = next(iter(weights.values()))
    return [_joined(one, weights, like) for one in plan.joined]


def _joined(one: Joined, weights: Mapping[str, Tensor], like: Tensor) -> Tensor:
    first = one.blocks[0]
    if first is not None and _is_whole(one, weights[first.weight]):
        return weights[first.weight]
    parts = [like.new_zeros(one.dims) if block is None else _part(block, weights[block.weight]) for block in one.blocks]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _part(block: Block, weight: Tensor) -> Tensor:
    if not (block.offset == 0 and block.dims == tuple(weight.shape) and _is_contiguous(block)):
        weight = weight.contiguous()
        weight = weight.as_strided(block.dims, block.strides, weight.storage_offset() + block.offset)
    return -weight if block.negated else weight


def _is_contiguous(block: Block) -> bool:
    expected = 1
    for size, stride in zip(reversed(block.dims), reversed(block.strides), strict=True):
        if stride != expected and size != 1:
            return False
        expected *= size
    return True


def _is_whole(one: Joined, weight: Tensor) -> bool:
    """Whether the blocks are all of one weight in its own order."""
    count, size = len(one.blocks), 1
    for dim in one.dims:
        size *= dim
    if tuple(weight.shape) != (count * one.dims[0], *one.dims[1:]):
        return False
    first = one.blocks[0]
    wanted = (first and first._replace(offset=k * size, negated=False) for k in range(count))
    return first is not None and _is_contiguous(first) and one.blocks == tuple(wanted)


def in_one_piece(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The function's weights in one piece of memory, matrices first: where cuDNN wants them, which else says so."""
    order = sorted(range(len(tensors)), key=lambda k: -tensors[k].dim())
    whole = torch.cat([tensors[k].reshape(-1) for k in order])
    pieces = zip(order, whole.split([tensors[k].numel() for k in order]), strict=True)
    return [piece.view(tensors[k].shape) for k, piece in sorted(pieces, key=lambda one: one[0])]


@dataclass(frozen=True)
class Flat:
    """The weights of a whole layer in one piece of memory: the function's, and where the step's are within them."""

    tensors: tuple[Tensor, ...]
    places: tuple[tuple[int, int, int], ...]  # for each of the step's: which tensor, from which row, to which
    addresses: tuple[int, ...]  # of the step's, in order

    def holds(self, weights: Sequence[Tensor]) -> bool:
        """Whether the step's weights still lie there."""
        return tuple(weight.data_ptr() for weight in weights) == self.addresses


def flatten(plans: Sequence[Plan], weights: Sequence[Mapping[str, Tensor]], compact: Any) -> Flat | None:
    """Moves the weights into one piece of memory, where the function finds them without a copy.

    None if that cannot be: some of them are opposites, or parts of larger ones. `compact` is given the function's
    weights, and may move them to where it wants them.
    """
    every = [w for row in weights for w in row.values()]
    if len({id(w) for w in every}) < len(every):
        return None
    with torch.no_grad():
        sizes = [(one, row) for plan, row in zip(plans, weights, strict=True) for one in plan.joined]
        places: dict[int, tuple[int, int, int]] = {}
        for k, (one, row) in enumerate(sizes):
            for number, block in enumerate(one.blocks):
                if block is None:
                    continue
                weight = row[block.weight]
                whole = block.offset == 0 and block.dims == tuple(weight.shape) and _is_contiguous(block)
                if not whole or block.negated or id(weight) in places:
                    return None
                places[id(weight)] = (k, number * one.dims[0], (number + 1) * one.dims[0])
        if len(places) < len(every):
            return None
        shapes = [(len(one.blocks) * one.dims[0], *one.dims[1:]) for one, _ in sizes]
        buffer = every[0].new_zeros(sum(torch.Size(shape).numel() for shape in shapes))
        pieces = buffer.split([torch.Size(shape).numel() for shape in shapes])
        tensors = [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        for weight in every:
            k, start, stop = places[id(weight)]
            tensors[k][start:stop].copy_(weight)
        compact(tensors)
        for weight in every:
            k, start, stop = places[id(weight)]
            weight.data = tensors[k][start:stop]
    return Flat(tuple(tensors), tuple(places[id(w)] for w in every), tuple(w.data_ptr() for w in every))


class AsOne(torch.autograd.Function):
    """The function's weights where the step's lie, without a copy."""

    @staticmethod
    def forward(ctx: Any, flat: Flat, *_: Tensor) -> tuple[Tensor, ...]:
        """The function's weights, which share the memory of the step's."""
        ctx.places = flat.places
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for tensor in flat.tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients by the step's weights, which are parts of those by the function's."""
        found = ((gradients[k], start, stop) for k, start, stop in ctx.places)
        return None, *(None if g is None else g[start:stop] for g, start, stop in found)
