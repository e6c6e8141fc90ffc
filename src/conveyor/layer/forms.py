"""Converts a layer's input (packed, padded, unbatched, batch first) to [T, B, ...], and the result back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from conveyor.cell.loop import is_readable
from conveyor.errors import Mismatch


@dataclass(frozen=True)
class InputLayout:
    """The layout of the caller's sequences; internally all are [T, B, ...]."""

    batched: bool = True
    batch_first: bool = False
    packed: PackedSequence | None = None
    lengths: Tensor | None = None  # [B], where they were given: a GPU would have to be waited for

    def inward(self, value: Tensor) -> Tensor:
        """A stream in the caller's layout as [T, B, ...]."""
        if not self.batched:
            return value.unsqueeze(1)
        return value.transpose(0, 1) if self.batch_first else value

    def outward(self, value: Tensor, time: int = 0) -> Tensor:
        """A value [..., T, B, ...], with time at dimension `time`, in the caller's layout."""
        if not self.batched:
            return value.squeeze(time + 1)
        return value.transpose(time, time + 1) if self.batch_first else value

    def output(self, value: Tensor, lengths: Tensor | None) -> Tensor | PackedSequence:
        """The output [T, B, ...] in the layout of the input."""
        if self.packed is None:
            return self.outward(value)
        assert lengths is not None
        order = self.packed.sorted_indices
        if order is not None:
            value, lengths = value.index_select(1, order), lengths.index_select(0, order)
        data = pack_padded_sequence(value, lengths.cpu()).data
        return PackedSequence(data, self.packed.batch_sizes, order, self.packed.unsorted_indices)

    def state(self, value: Tensor) -> Tensor:
        """A state [layers * directions, B, width] in the caller's layout."""
        return value if self.batched else value.squeeze(1)


def read(
    input: Tensor | PackedSequence,
    lengths: Tensor | Sequence[int] | None,
    batch_first: bool,
    width: int,
    padded: bool = True,
) -> tuple[Tensor, Tensor | None, InputLayout]:
    """The input as [T, B, width], the lengths [B] or None, and the layout of the input.

    Of a PackedSequence that need not be `padded` it is the first step alone.
    Raises TypeError and ValueError for inputs and lengths of another type or shape.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ValueError("a PackedSequence has its own lengths: omit lengths=")
        form = InputLayout(batch_first=batch_first, packed=input)
        _check_width(input.data, width)
        if not padded:
            return input.data[None, : int(input.batch_sizes[0])], None, form
        x, lengths = pad_packed_sequence(input)
        return x, lengths.to(x.device), form
    if not isinstance(input, Tensor):
        raise TypeError(f"the input must be a tensor or a PackedSequence, not {type(input).__name__}")
    if input.dim() not in (2, 3):
        raise Mismatch(f"the input must have 3 dimensions, or 2 if unbatched, but its shape is {list(input.shape)}")
    _check_width(input, width)
    form = InputLayout(batched=input.dim() == 3, batch_first=batch_first)
    x = form.inward(input)
    if lengths is None:
        return x, None, form
    if not form.batched:
        raise ValueError("lengths= requires a batch: truncate an unbatched sequence instead, input[:length]")
    counts = _lengths(lengths, *x.shape[:2])
    return x, counts.to(x.device), replace(form, lengths=counts)


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, ...] with the first `lengths` steps of each row in reverse order, and the padding in place."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device)[:, None]
    source = torch.where(t < lengths, lengths - 1 - t, t)  # [T, B]
    return x.gather(0, source.reshape(*source.shape, *[1] * (x.dim() - 2)).expand(x.shape))


def _check_width(x: Tensor, width: int) -> None:
    if x.shape[-1] != width:
        raise Mismatch(f"the input's last dimension must be input_size = {width}, but its shape is {list(x.shape)}")


def _lengths(lengths: Any, steps: int, batch: int) -> Tensor:
    try:
        counts = torch.as_tensor(lengths if isinstance(lengths, Tensor) else list(lengths) or torch.zeros(0).long())
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"lengths must be a list or tensor of integers, not {lengths!r}") from error
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, not {counts.dtype}")
    if counts.shape != (batch,):
        raise ValueError(f"lengths has shape {list(counts.shape)}, but the batch has {batch} rows")
    known = not torch.compiler.is_compiling() and is_readable(counts)  # whether the elements can be read
    if batch and known and (int(counts.min()) < 0 or int(counts.max()) > steps):
        raise ValueError(f"lengths must lie between 0 and the {steps} steps of the input, not {counts.tolist()}")
    return counts.long()
