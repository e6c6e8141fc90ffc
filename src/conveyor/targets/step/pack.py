"""The weights of a step as one array of bytes, as a plan lays them out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from conveyor.targets.step.plan import LINE, Matrix, Plan
from conveyor.targets.target import CannotBuild


def pack(plan: Plan, weights: Mapping[str, Tensor]) -> Tensor:
    """The bytes that a step reads, from the weights of its graph by name.

    Raises CannotBuild for a matrix that is not finite and is to be stored in less.
    """
    values = {name: value.detach().to(plan.dtype) for name, value in plan.folded.compute(weights).items()}
    found = {
        plan.program.input_buffers[key]: values[key.name] for key, _ in plan.program.inputs if key.kind == "weight"
    }
    made = torch.zeros(max(plan.size, 1) + LINE, dtype=torch.uint8)
    made = made[-made.data_ptr() % LINE :][: max(plan.size, 1)]

    def put(at: int, tensor: Tensor) -> None:
        data = tensor.contiguous().view(torch.uint8).flatten()
        made[at : at + len(data)] = data

    for buffer, at in plan.vectors.items():
        if found[buffer].numel():
            put(at, found[buffer].reshape(-1))
    for buffer, matrix in plan.matrices.items():
        whole = torch.zeros(matrix.depth, matrix.width, dtype=plan.dtype)
        for one in plan.packs:
            if one.target == buffer:
                (k, n), (row, column) = one.size, one.start
                source = found[one.source.buffer].reshape(-1)
                start = int(source.storage_offset()) + one.source.offset
                whole[row : row + k, column : column + n] = source.as_strided((k, n), one.source.strides, start)
        if plan.weights != "float32" and not whole.isfinite().all():  # its neighbours in a word would change too
            raise CannotBuild(f"{plan.weights} is for finite weights, and some are infinite or NaN: take float32")
        if matrix.scales >= 0:
            scale = whole.abs().amax(0) / 127 if matrix.depth else whole.sum(0)
            put(matrix.scales, scale / 2**24)
            whole = whole / torch.where(scale > 0, scale, 1)
        put(matrix.at, STORE[plan.weights](in_panels(plan, matrix, whole)))
    return made


def _as_bfloat16(values: Tensor) -> Tensor:
    """Two in each word, as products.h says: the lower one is rounded, then the higher one with it in mind."""
    low, high = values.view(-1, 2, 8).unbind(1)
    digits = low.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    below = ((digits + 0x8000) >> 16) & 0xFFFF
    wanted = high.contiguous().view(torch.int32).long()
    sign, size = wanted & 0x80000000, wanted & 0x7FFFFFFF
    above = ((size - below + 0x8000) >> 16).clamp(0, 0x7F7F)  # the largest finite one
    return _words(sign | above << 16 | below)


def _as_int8(values: Tensor) -> Tensor:
    """Four in each word, as products.h says: each is rounded with those below it in mind."""
    made = torch.zeros(values.numel() // 32, 8, dtype=torch.int64)
    for k, value in enumerate(values.view(-1, 4, 8).double().unbind(1)):
        digit = (value - made / 2 ** (8 * k)).round().clamp(-128, 127).long()
        made = made | (digit & 0xFF) << 8 * k
    return _words(made)


def _words(values: Tensor) -> Tensor:
    """The lower 32 bits of each."""
    return (values - ((values >> 31 & 1) << 32)).to(torch.int32)


STORE = {"float32": lambda values: values, "bfloat16": _as_bfloat16, "int8": _as_int8}


def in_panels(plan: Plan, matrix: Matrix, whole: Tensor) -> Tensor:
    """A matrix in panels, as products.h reads it."""
    wide, narrow = plan.panels
    missing = -matrix.width % narrow
    whole = torch.cat([whole, whole.new_zeros(matrix.depth, missing)], 1)
    cut = matrix.width // wide * wide
    parts = [whole[:, :cut].reshape(matrix.depth, -1, wide), whole[:, cut:].reshape(matrix.depth, -1, narrow)]
    return torch.cat([part.transpose(0, 1).reshape(-1) for part in parts])
