"""Interprets the traced graph of a step node by node, with edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conveyor.compiler.graph import Graph
from conveyor.compiler.ops import OPS
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.edits import Changes, Edit, edited, find
from conveyor.explain.running.layers import Source, TracedLayer, traced_layers
from conveyor.explain.running.model import Model
from conveyor.language import LanguageModel


def interpret(circuit: Circuit, given: Mapping[tuple[str, str], Tensor], edits: Sequence[Edit] = ()) -> list[Tensor]:
    """The values of all nodes of one step, [B, ...] each, or [1, ...] if all rows share it.

        values = interpret(circuit, {("stream", "x"): x, ("state", "h"): h, ("weight", "hidden.bias"): b, ...}, edits)
        h = values[circuit.graph.outputs[0].node]

    `given`: the inputs of the graph by kind and name, [B, ...], or without rows for weights and the step number. All
    edits apply, whatever their steps and layer. The result is differentiable. Raises BadInput for an edit of something
    that the circuit does not have.
    """
    if not edits:
        return _values(circuit.graph, given)
    changes = Changes.of(circuit, edits)
    step = edited(circuit, changes.sets, changes.cuts)
    values = _values(step.circuit.graph, {**given, **changes.given(circuit)})
    return [values[i] for i in step.of]


def _values(graph: Graph, given: Mapping[tuple[str, str], Tensor]) -> list[Tensor]:
    dtype = next(tensor.dtype for (kind, _), tensor in given.items() if kind in ("stream", "state"))
    values: list[Tensor] = []
    for node in graph.nodes:
        if node.op == "input":
            tensor = given[node.attrs[0], node.attrs[1]].to(dtype)
            values.append(tensor if node.rows else tensor[None])
        else:
            value = OPS[node.op].value
            assert value is not None, f"{node.op} sums over steps: one step cannot compute it"
            values.append(value(node, [values[j] for j in node.inputs]).to(dtype))
    return values


@dataclass(frozen=True)
class Record:
    """A run: `values[layer][part]` and `sums[layer][part]` [T, ...], `logits` [T, outputs].

    `sums`: those of layers before their activation; None for other parts.
    """

    circuits: tuple[Circuit, ...]
    values: tuple[tuple[Tensor, ...], ...]
    sums: tuple[tuple[Tensor | None, ...], ...]
    logits: Tensor

    def value(self, layer: int, part: int | str) -> Tensor:
        """The values [T, ...] of a part, given by index or name as in an Edit."""
        return self.values[layer][find(self.circuits[layer], part)]


def run(model: LanguageModel | Model, inputs: Tensor, edits: Sequence[Edit] = ()) -> Record:
    """A network over one sequence, step by step and node by node, with edits.

        record = run(model, vocabulary.encode(b"to be or not"), [Edit(0, "f", 0.0, first=5)])
        record.value(0, "C")                                 # [12, 256]
        record.logits.log_softmax(-1)                        # [12, vocabulary]

    `inputs`: tokens [T], or vectors [T, channels]. Without edits, the logits are those of
    `model.eval()(tokens[:, None])`.
    Raises BadInput for a cell that cannot be traced, and for an edit of something that does not exist.
    """
    model = Model.of(model)
    stack = traced_layers(model)
    check(stack, edits)
    states = [{name: tensor[None] for name, tensor in layer.initial.items()} for layer in stack]
    history: list[list[list[Tensor]]] = []
    logits = []
    for t, embedded in enumerate(model.embed(inputs)):
        now = [edit for edit in edits if edit.acts(t)]
        first = x = embedded[None]
        computed: list[list[Tensor]] = []
        for k, layer in enumerate(stack):
            below = (stack[k - 1], computed[-1]) if k else None
            streams = {name: _stream(source, first, below) for name, source in layer.streams.items()}
            given = _given(layer, {"x": x, **streams}, states[k], t)
            values = interpret(layer.circuit, given, [edit for edit in now if edit.layer == k])
            states[k] = {name: values[layer.end(name)] for name in layer.initial}
            x = values[layer.end(layer.output)]
            computed.append(values)
        history.append(computed)
        logits.append(model.head(x)[0])
    return _record(stack, history, logits)


def check(stack: Sequence[TracedLayer], edits: Sequence[Edit]) -> None:
    """Raises BadInput for an edit of a layer, part, unit or line that does not exist."""
    for edit in edits:
        if not 0 <= edit.layer < len(stack):
            raise BadInput(f"the model has the layers 0 to {len(stack) - 1}, and no layer {edit.layer}")
        Changes.of(stack[edit.layer].circuit, [edit])


def _stream(source: Source, x: Tensor, below: tuple[TracedLayer, list[Tensor]] | None) -> Tensor:
    if isinstance(source, nn.Linear):
        return source(x)
    if isinstance(source, str):
        assert below is not None
        layer, values = below
        return values[layer.end(source)]
    return torch.full((1, 1), source, dtype=x.dtype)


def _given(
    layer: TracedLayer, streams: Mapping[str, Tensor], states: Mapping[str, Tensor], t: int
) -> dict[tuple[str, str], Tensor]:
    graph = layer.circuit.graph
    kinds = {"stream": streams, "state": states, "weight": layer.weights, "step": {"t": torch.tensor(t)}}
    given = {}
    for node in graph.nodes:
        if node.op == "input":
            kind, name, _ = node.key
            value = kinds[kind][name]
            given[kind, name] = value.expand(1, *node.dims) if node.rows else value
    return given


def _record(
    stack: Sequence[TracedLayer], history: Sequence[Sequence[Sequence[Tensor]]], logits: list[Tensor]
) -> Record:
    def over_time(layer: int, node: int) -> Tensor:
        return torch.stack([computed[layer][node][0] for computed in history])

    parts = [layer.circuit.parts for layer in stack]
    values = tuple(tuple(over_time(k, part.node) for part in own) for k, own in enumerate(parts))
    sums = tuple(tuple(over_time(k, p.total) if p.total >= 0 else None for p in own) for k, own in enumerate(parts))
    return Record(tuple(layer.circuit for layer in stack), values, sums, torch.stack(logits))
