"""A language model taken apart: of each layer the step, its weights, and where what it reads comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.loop import place
from conveyor.cell.regularise import Regularised
from conveyor.compiler import CannotCompile
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.language import LanguageModel
from conveyor.layer import Recurrent
from conveyor.layer.tracing import Signature, traced

# Where a stream besides x comes from: a value of the layer below by its name, a learned map of the input, or a number.
Source = str | nn.Linear | float


@dataclass(frozen=True)
class TracedLayer:
    """A layer.

    `weights`: of the traced step, by name; `initial`: the states before the first step, [width] each, which are
    parameters if they are `learnt`; `streams`: where those besides x come from; `output`: the name of what goes to the
    layer above, as its x.
    """

    circuit: Circuit
    weights: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    learnt: bool
    streams: Mapping[str, Source]
    output: str

    def end(self, name: str) -> int:
        """The traced node of a value that the step gives."""
        return next(output.node for output in self.circuit.graph.outputs if output.name == name)


def traced_layers(model: LanguageModel) -> list[TracedLayer]:
    """The layers of a language model, as it computes in evaluation, without dropout.

    Raises BadInput, which names the line and the cause, for a cell that has no graph or that takes what a language
    model does not give, and for layers that read the text backwards.
    """
    rnn = model.rnn
    if rnn.bidirectional:
        raise BadInput("a bidirectional model reads the whole text before its first prediction: it has no single step")
    training = model.training
    model.eval()  # in which zoneout is a mean, and nothing is drawn
    try:
        with torch.no_grad():
            return [_traced_layer(rnn, row) for row in range(rnn.num_layers)]
    finally:
        model.train(training)


def _traced_layer(rnn: Recurrent, row: int) -> TracedLayer:
    cell = rnn.cell_of(row)
    further = sorted(set(cell.arguments) - {"x", "t", *cell.state, *cell.below})
    if further:
        raise BadInput(f"{place(cell)} also takes {', '.join(further)}, which a language model does not give it")
    step: Any = Regularised(cell, 0.0, rnn.zoneout) if rnn.zoneout else cell
    widths = cell.widths | {f"zone_{name}": cell.widths[name] for name in rnn.zoneout}
    given = tuple((name, (widths[name],), None) for name in step.arguments if name != "t")
    weight = next(rnn.parameters(), torch.zeros(()))
    try:
        found = traced(step, Signature(given, (), weight.dtype))
    except CannotCompile as error:
        raise BadInput(f"{place(cell)} cannot be taken apart: {error}") from None
    weights = {name: tensor for name, get in found.weights.items() if (tensor := get()) is not None}
    streams: dict[str, Source] = {f"zone_{name}": rate for name, rate in rnn.zoneout.items()}
    for name, value in cell.below.items():
        streams[name] = value if row else rnn.ground[0][name]  # type: ignore[index]
    initial, learnt = _initial(rnn, row, weight), rnn.learn_initial_state
    circuit, output = Circuit.of(found.graph), cell.output_name or cell.state[0]
    return TracedLayer(circuit, weights, initial, learnt, streams, output)


def _initial(rnn: Recurrent, row: int, like: Tensor) -> dict[str, Tensor]:
    if rnn.learn_initial_state:
        return {name: rnn.initial_state[name][row] for name in rnn.state_names}
    return {name: like.new_zeros(rnn.cell.widths[name]) for name in rnn.state_names}
