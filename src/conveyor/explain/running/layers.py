"""The layers of a language model: the traced step of each, its weights, and the sources of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.loop import location
from conveyor.cell.regularise import Regularised
from conveyor.compiler import CannotCompile
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.language import LanguageModel
from conveyor.layer import Recurrent
from conveyor.layer.tracing import Signature, traced

# The source of a stream other than x: a value of the layer below by name, a learned map of the input, or a constant.
Source = str | nn.Linear | float


@dataclass(frozen=True)
class TracedLayer:
    """A layer of a language model and its traced step.

    `weights`: those of the step, by name; `initial`: the initial states, [width] each; `learnt`: whether they are
    parameters; `streams`: the sources of streams other than x; `output`: the name of the value that is the x of the
    layer above.
    """

    circuit: Circuit
    weights: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    learnt: bool
    streams: Mapping[str, Source]
    output: str

    def end(self, name: str) -> int:
        """The traced node of an output of the step."""
        return next(output.node for output in self.circuit.graph.outputs if output.name == name)


def traced_layers(model: LanguageModel) -> list[TracedLayer]:
    """The layers of a language model in evaluation mode, without dropout.

    Raises BadInput for a cell that cannot be traced or needs inputs that a language model does not have, and for
    bidirectional layers.
    """
    rnn = model.rnn
    if rnn.bidirectional:
        raise BadInput("a bidirectional model reads the whole text before its first prediction: it has no single step")
    training = model.training
    model.eval()  # zoneout is then deterministic
    try:
        with torch.no_grad():
            return [_traced_layer(rnn, row) for row in range(rnn.num_layers)]
    finally:
        model.train(training)


def _traced_layer(rnn: Recurrent, row: int) -> TracedLayer:
    cell = rnn.cell_of(row)
    further = sorted(set(cell.arguments) - {"x", "t", *cell.state, *cell.below})
    if further:
        raise BadInput(f"{location(cell)} also takes {', '.join(further)}, which a language model does not have")
    step: Any = Regularised(cell, 0.0, rnn.zoneout) if rnn.zoneout else cell
    widths = cell.widths | {f"zone_{name}": cell.widths[name] for name in rnn.zoneout}
    given = tuple((name, (widths[name],), None) for name in step.arguments if name != "t")
    weight = next(rnn.parameters(), torch.zeros(()))
    try:
        found = traced(step, Signature(given, (), weight.dtype))
    except CannotCompile as error:
        raise BadInput(f"{location(cell)} cannot be traced: {error}") from None
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
