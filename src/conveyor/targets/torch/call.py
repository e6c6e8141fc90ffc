"""A call of PyTorch's RNN, LSTM or GRU, and the rows of sequences of different lengths as it wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

FUNCTIONS: dict[str, Any] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}


@dataclass(frozen=True)
class Sequences:
    """Sequences as the function takes them: [T, B, width], or, if lengths differ, their steps [N, width], packed.

    `rows`: which rows of the batch the packed ones are, the longest first, if not all in order; a row of length 0 is
    not among them.
    """

    data: Tensor
    steps: int
    batch: int
    batch_sizes: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, lengths: Tensor | None) -> Sequences:
        """Of padded sequences [T, B, width], lengths [B]."""
        steps, batch = x.shape[:2]
        lengths = None if lengths is None else lengths.cpu()  # which waits for the GPU if they are there
        if lengths is None or int(lengths.min()) == steps:
            return cls(x, steps, batch)
        found, order = lengths.sort(descending=True, stable=True)
        rows = order[: int((found > 0).sum())].to(x.device)
        packed = pack_padded_sequence(x.index_select(1, rows), found[: len(rows)])
        return cls(packed.data, steps, batch, packed.batch_sizes, rows)

    @classmethod
    def of_packed(cls, packed: PackedSequence) -> Sequences:
        """Of packed ones."""
        sizes = packed.batch_sizes
        return cls(packed.data, len(sizes), int(sizes[0]), sizes, packed.sorted_indices)

    def inward(self, value: Tensor) -> Tensor:
        """A state [layers, B, width] of the rows that the function is given."""
        return (value if self.rows is None else value.index_select(1, self.rows)).contiguous()

    def state(self, value: Tensor, before: Tensor) -> Tensor:
        """The last state of all rows of the batch: that before, of those that take no step."""
        return value if self.rows is None else before.to(value.dtype).index_copy(1, self.rows, value)

    def padded(self, value: Tensor) -> Tensor:
        """An output as [T, B, width], zero past the end of a row."""
        if self.batch_sizes is None:
            return value
        found, _ = pad_packed_sequence(PackedSequence(value, self.batch_sizes), total_length=self.steps)
        if self.rows is None:
            return found
        return value.new_zeros(self.steps, self.batch, value.shape[-1]).index_copy(1, self.rows, found)

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """x times a mask [B, width], the same at each step."""
        if self.batch_sizes is None:
            return x * mask
        mask = mask if self.rows is None else mask.index_select(0, self.rows)
        rows = torch.cat([torch.arange(size) for size in self.batch_sizes.tolist()])
        return x * mask.index_select(0, rows.to(mask.device))


@dataclass(frozen=True)
class Call:
    """A function and what it is told: some layers, all directions."""

    mode: str
    has_bias: bool
    layers: int
    bidirectional: bool
    dropout: float
    training: bool

    def __call__(
        self, x: Tensor, batch_sizes: Tensor | None, states: Sequence[Tensor], weights: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """The output, and the last states [layers, B, width], h first; of inputs as in `Sequences`."""
        states = tuple(states)
        steps, batch = (len(x), states[0].shape[1]) if batch_sizes is None else (0, 0)
        special = x.dtype not in (torch.float32, torch.float64) or states[0].shape != states[-1].shape
        if batch_sizes is None and x.device.type == "cpu" and special:
            # oneDNN has no projections, and on few processors such numbers; packed sequences are run without it.
            batch_sizes, x = torch.full((steps,), batch), x.reshape(steps * batch, -1)
        told = self.has_bias, self.layers, self.dropout, self.training, self.bidirectional
        hx: Any = states if self.mode == "LSTM" else states[0]
        if batch_sizes is None:
            output, *last = FUNCTIONS[self.mode](x, hx, weights, *told, False)
        else:
            output, *last = FUNCTIONS[self.mode](x, batch_sizes, hx, weights, *told)
        return (output.view(steps, batch, -1) if steps else output, *last)
