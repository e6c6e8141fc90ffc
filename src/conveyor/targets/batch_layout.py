"""The rows of a batch of sequences: how many steps each has, and where each of their steps lies in a buffer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BatchLayout:
    """How many steps the sequences of a batch have, and from that where each step lies in a stream.

    Sequences of different lengths lie as in a PackedSequence: the longest first, each step with as many rows as there
    are sequences still running.
    """

    steps: int
    batch: int
    rows: int  # of all steps of all sequences
    at: Tensor  # for each step, its first row in a stream
    before: Tensor  # for each step, the first row of a history that holds the states before it
    count: Tensor  # for each step, the sequences that are still running
    map: Tensor | None = None  # rows of a history before each row of a stream, if they are not the same
    row: Tensor | None = None  # the sequence of each row of a stream
    order: Tensor | None = None  # the sequences by length, the longest first
    index: Tensor | None = None  # the place of each row of a stream among [steps * batch]
    lengths: Tensor | None = None  # in that order

    def on(self, device: torch.device) -> BatchLayout:
        """The same rows, for tensors on this device."""
        return self if self.at.device == device else _moved(self, device)

    def pack(self, stream: Tensor) -> Tensor:
        """[T, B, ...] as rows."""
        flat = stream.reshape(self.steps * self.batch, *stream.shape[2:])
        return flat.contiguous() if self.index is None else flat.index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows as [T, B, ...], zero in the padding."""
        if self.index is not None:
            whole = rows.new_zeros(self.steps * self.batch, *rows.shape[1:])
            rows = whole.index_copy_(0, self.index, rows)
        return rows.view(self.steps, self.batch, *rows.shape[1:])

    def sort(self, values: Tensor) -> Tensor:
        """[B, ...] in the order of the rows."""
        return values if self.order is None else values.index_select(0, self.order)

    def unsort(self, values: Tensor) -> Tensor:
        """`sort` undone."""
        return values if self.order is None else torch.empty_like(values).index_copy_(0, self.order, values)


@lru_cache(maxsize=256)
def _moved(layout: BatchLayout, device: torch.device) -> BatchLayout:
    moved: dict[str, Any] = {}
    for field in fields(layout):
        value = getattr(layout, field.name)
        moved[field.name] = value.to(device) if isinstance(value, Tensor) else value
    return BatchLayout(**moved)


@lru_cache(maxsize=256)
def equal_lengths(steps: int, batch: int) -> BatchLayout:
    """The rows of sequences that are all of one length."""
    at = torch.arange(steps, dtype=torch.int64) * batch
    count = torch.full((steps,), batch, dtype=torch.int64)
    return BatchLayout(steps, batch, steps * batch, at, at, count)


@lru_cache(maxsize=64)
def different_lengths(steps: int, lengths: tuple[int, ...]) -> BatchLayout:
    """The rows of sequences of these lengths. The last few are kept: the layers of a stack have the same."""
    batch = len(lengths)
    ordered, order = torch.tensor(lengths, dtype=torch.int64).sort(descending=True, stable=True)
    t = torch.arange(steps)
    count = (t[:, None] < ordered).sum(1)
    at = count.cumsum(0) - count
    before = torch.cat([torch.zeros(1, dtype=torch.int64), batch + at])[:steps]
    running = (t[:, None] < ordered).flatten()
    step, row = t.repeat_interleave(batch)[running], torch.arange(batch).repeat(steps)[running]
    index = step * batch + order[row]
    return BatchLayout(
        steps, batch, int(count.sum()), at, before, count, before[step] + row, row, order, index, ordered
    )


def layout_of(steps: int, batch: int, lengths: Tensor | None) -> BatchLayout:
    """The rows of a batch whose sequences have these lengths, or all steps."""
    return equal_lengths(steps, batch) if lengths is None else different_lengths(steps, tuple(lengths.tolist()))
