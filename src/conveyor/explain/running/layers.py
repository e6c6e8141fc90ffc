"""The layers of a network: the traced step of each, its weights, and the sources of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from conveyor.cell.loop import location
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.model import Model
from conveyor.language import LanguageModel
from conveyor.layer import network
from conveyor.layer.network import Source

TWO_DIRECTIONS = (
    "is bidirectional: it reads the whole sequence before its first output, so it has no single step to show"
)


@dataclass(frozen=True)
class TracedLayer:
    """A layer of a network and its traced step.

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


def traced_layers(model: LanguageModel | Model) -> list[TracedLayer]:
    """The layers of a network in evaluation mode, without dropout.

    Raises BadInput for a cell that cannot be traced or needs inputs that nothing gives it here, and for
    bidirectional layers.
    """
    rnn = model.rnn
    if rnn.bidirectional:
        raise BadInput(f"the layer {TWO_DIRECTIONS}")
    further = sorted(set(rnn.cell.arguments) - {"x", "t", *rnn.cell.state, *rnn.cell.below})
    if further:
        raise BadInput(f"{location(rnn.cell)} also takes {', '.join(further)}, which nothing gives it here")
    return [
        TracedLayer(
            Circuit.of(layer.graph),
            {name: tensor for name, get in layer.weights.items() if (tensor := get()) is not None},
            network.initial_states(rnn, row),
            rnn.learn_initial_state,
            layer.streams,
            layer.output,
        )
        for row, layer in enumerate(network.traced_layers(rnn))
    ]
