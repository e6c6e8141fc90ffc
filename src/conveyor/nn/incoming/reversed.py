"""A layer that reads its sequences from the end."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from conveyor.layer import Recurrent
from conveyor.layer.forms import InputLayout, read, reverse


class Reversed(nn.Module):
    """A layer of one direction that reads every sequence from its end, as ONNX's direction "reverse".

        rnn = conveyor.nn.Reversed(conveyor.LSTM(32, 128))
        output, (h, C) = rnn(x)                 # x: [T, B, 32], output: [T, B, 128]; h is that of the first step of x

    It is the second direction of a bidirectional layer alone: the output at a step is of this step and all after it.
    Inputs, `lengths`, states and outputs are those of the layer, which is its attribute `layer`. It has no `step`, as
    it begins at the end. Raises TypeError for what is no layer, ValueError for one of several layers or directions.
    """

    def __init__(self, layer: Recurrent):
        super().__init__()
        if not isinstance(layer, Recurrent):
            raise TypeError(f"Reversed takes a layer such as conveyor.LSTM(32, 128), not {layer!r}")
        if layer.state_rows > 1:
            raise ValueError(f"Reversed takes one layer in one direction, not {layer}")
        self.layer = layer

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None, record: bool = False) -> Any:
        """The output and the last state, and with `record=True` the values, as of the layer."""
        layer = self.layer
        x, counts, form = read(input, lengths, layer.batch_first, layer.input_size)
        output, state, *values = layer(form.outward(reverse(x, counts)), hx, lengths=counts, record=record)
        output = form.output(reverse(form.inward(output), counts), counts)
        return output, state, *({name: _reverse(v, counts, form) for name, v in named.items()} for named in values)


def _reverse(value: Tensor, lengths: Tensor | None, form: InputLayout) -> Tensor:
    """A recorded value [1, 1, T, B, ...]."""
    return form.outward(reverse(form.inward(value[0, 0]), lengths))[None, None]
