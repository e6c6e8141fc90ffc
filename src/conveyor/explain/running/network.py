"""A network as a page has it: data, weights, and its steps in JavaScript.

`describe(model, reads, gives)` gives `data`, which goes into a page as JSON, `weights`, whose bytes do, and `script`,
the source of the module steps.js. All offsets ("at", "to", "from") count elements: of `weights` for tensors, of `kept`
of an emitted step for values. `data` holds:

    input       what it reads, as the caller says, such as {kind: "text", vocabulary}, with `embedding`, the tensor
                [vocabulary, width], or `first`, a chain
    output      what it gives, as the caller says, such as {kind: "token"}, with `head`, a chain, and `count`
                a chain is [{op: "linear", matrix, bias | null} | {op: "norm", matrix, bias, eps} | {op: "relu", ...}]
    tensors     [{name, shape, at, size, quantiles: [65 numbers] | null}]: all weights; quantiles before training
    steps       [{parts, wires, names, kept, gradient}], as in `script`; layers with equal graphs share one
        parts   [{name, kind, label, at, size, dims, sum, set, value}], as Circuit.parts; `sum`: the offset of a layer's
                sum before its activation, else -1; `at` is -1 for a parameter, which is not kept; `set` and `value`:
                the offsets in `edits` of the flags of elements that are set, and of their values
        wires   [[source, target]], as Circuit.wires
        cuts    for each wire the offset in `edits` of the flag that cuts it
        edits   the number of elements of the edits of a step
        names   {name: part}, the names of parts in edits: "f", "x", "h[t-1]"
        kept    the number of elements that a step keeps
        gradient the data of its gradients, see Backward.data
    layers      [{step, weights, states, streams, x, t, output, width, gives, forward, backward}], the lowest first
        weights [tensors], those of the step
        states  [{name, width, to, from, initial: tensor | null}]: the old state goes to `to` (-1: the step does not
                read it), the new one is at `from`
        streams [{name, to, width, source: "below" | "ground" | "number", below, of, matrix, bias, number}]: those other
                than x; `below` is the offset of the value `of` in the layer below
        x, t    their offsets, or -1; `output`, `width`, `gives`: the value for the layer above, and its name
        forward, backward  [tensors], those of the two steps for gradients

An edit is {layer, part, value, unit, source, first, last}, as conveyor.explain.running.edits.Edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.compiler.graph import Graph
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.backward import Backward
from conveyor.explain.running.edits import editable, names
from conveyor.explain.running.layers import TracedLayer, traced_layers
from conveyor.explain.running.model import Model, described
from conveyor.explain.running.untrained import fresh, named, quantiles
from conveyor.language import LanguageModel
from conveyor.targets.js.emit import emit
from conveyor.targets.js.memory_map import MemoryMap
from conveyor.tasks.text import Vocabulary


@dataclass(frozen=True)
class Described:
    """`data` for JSON, `weights` in float32, `script`: the module with the steps; and the layers themselves."""

    data: dict[str, Any]
    weights: np.ndarray
    script: str
    layers: tuple[TracedLayer, ...]


def describe(
    model: LanguageModel | Model, reads: Vocabulary | Mapping[str, Any], gives: Mapping[str, Any] | None = None
) -> Described:
    """A network for a page.

        described = describe(trained.model, trained.vocabulary)
        json.dumps(described.data), described.weights.tobytes(), described.script

    `reads`, `gives`: what goes in and what comes out; by default the tokens of a vocabulary, and the next of them.
    Raises BadInput for a cell that cannot be traced, or that needs inputs that nothing gives it here.
    """
    network = Model.of(model)
    stack, new = traced_layers(network), fresh(model)
    tensors = _Tensors()
    tensors.know(network, new)
    upward = (stack[0].output, *(name for name in network.rnn.cell.below.values() if name != stack[0].output))
    steps: dict[Graph, MemoryMap] = {}
    for layer in stack:
        steps.setdefault(layer.circuit.graph, MemoryMap(editable(layer.circuit).circuit))
    made = [Backward(step, upward) for step in steps.values()]
    of = [made[list(steps).index(layer.circuit.graph)] for layer in stack]
    layers = [_layer(k, stack, made, of, tensors) for k in range(len(stack))]
    if isinstance(reads, Vocabulary):
        reads = {"kind": "text", "vocabulary": {"kind": reads.kind, "symbols": list(reads.symbols)}}
    data = {
        "input": {**reads, **_first(network, tensors)},
        "output": {
            **(gives or {"kind": "token"}),
            "count": network.count,
            "head": _chain(network.head, "head", tensors),
        },
        "steps": [_step(step) for step in made],
        "layers": layers,
        "tensors": tensors.entries,
    }
    return Described(data, np.concatenate(tensors.values), emit([both.step for both in made], made), tuple(stack))


def _first(model: Model, tensors: _Tensors) -> dict[str, Any]:
    if isinstance(model.first, nn.Embedding):
        return {"embedding": tensors.add("embedding", model.first.weight)}
    return {"first": _chain(model.first, "first", tensors)}


def _chain(maps: nn.Sequential, name: str, tensors: _Tensors) -> list[dict[str, Any]]:
    def add(k: int) -> Callable[[str, Tensor], int]:
        return lambda part, tensor: tensors.add(f"{name}.{k}.{part}", tensor)

    return [described(each, add(k)) for k, each in enumerate(maps)]


@dataclass
class _Tensors:
    """The weights, concatenated. A weight with several uses is stored once."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # of parameters, by id
    new: dict[str, Tensor] = field(default_factory=dict)  # untrained values, by name
    size: int = 0

    def know(self, model: Model, new: Model) -> None:
        """The names of the parameters of a model, and the values that they have in an untrained one."""
        self.names = {id(parameter): name for name, parameter in named(model)}
        self.new = dict(named(new))
        for row, layer in enumerate(traced_layers(new)):
            for name, tensor in layer.weights.items():
                self.new.setdefault(f"rnn.cells.{row}.{name}", tensor)

    def add(self, name: str, tensor: Tensor, new: Tensor | None = None) -> int:
        """The index of a tensor, which is added if necessary. `new`: its untrained values, if it is no parameter."""
        if id(tensor) not in self.known:  # ids stay valid: the tensors live as long as the layers
            self.known[id(tensor)] = len(self.entries)
            value = tensor.detach().float().cpu().numpy().ravel()
            name = self.names.get(id(tensor), name)
            new = self.new.get(name, new)
            entry = {"name": name, "shape": list(tensor.shape), "at": self.size, "size": value.size}
            self.entries.append({**entry, "quantiles": None if new is None else quantiles(new)})
            self.values.append(value)
            self.size += value.size
        return self.known[id(tensor)]


def _step(both: Backward) -> dict[str, Any]:
    memory = both.step
    circuit, nodes = memory.circuit, memory.graph.nodes
    assert isinstance(circuit, Circuit)
    edits = {name: memory.at[i].at for name, i in memory.graph.inputs("edit").items()}
    parts = [
        {
            "name": part.name,
            "kind": part.kind,
            "label": part.label,
            "at": -1 if part.node in memory.parameters else memory.at[part.node].at,
            "size": nodes[part.node].size,
            "dims": list(nodes[part.node].dims),
            "sum": memory.at[part.total].at if part.total >= 0 else -1,
            "set": edits[f"set {i}"],
            "value": edits[f"value {i}"],
        }
        for i, part in enumerate(circuit.parts)
    ]
    return {
        "parts": parts,
        "wires": [[wire.source, wire.target] for wire in circuit.wires],
        "cuts": [edits[f"cut {i}"] for i in range(len(circuit.wires))],
        "names": names(circuit),
        "kept": memory.size("kept"),
        "edits": memory.size("edits"),
        "gradient": both.data(),
    }


def _layer(
    row: int, stack: Sequence[TracedLayer], made: Sequence[Backward], of: Sequence[Backward], tensors: _Tensors
) -> dict[str, Any]:
    """The data of layer `row`. `of`: for each layer, its step in `made`."""
    layer, both = stack[row], of[row]
    graph, at, nodes = both.step.graph, both.step.at, both.step.graph.nodes

    def given(kind: str, name: str) -> int:
        found = graph.inputs(kind).get(name)
        return -1 if found is None else at[found].at

    def weights(memory: MemoryMap) -> list[int]:
        return [tensors.add(f"rnn.cells.{row}.{name}", layer.weights[name]) for name in memory.weights]

    states = [
        {
            "name": name,
            "width": len(initial),
            "to": given("state", name),
            "from": at[both.step.end(name)].at,
            "initial": tensors.add(f"rnn.initial_state.{name}.{row}", initial, torch.zeros(()))
            if layer.learnt
            else None,
        }
        for name, initial in layer.initial.items()
    ]
    streams = [
        {"name": name, "to": given("stream", name), "width": nodes[i].size, **_source(name, row, stack, of, tensors)}
        for name, i in graph.inputs("stream").items()
        if name != "x"
    ]
    return {
        "step": made.index(both),
        "weights": weights(both.step),
        "forward": weights(both.forward),
        "backward": weights(both.backward),
        "states": states,
        "streams": streams,
        "x": given("stream", "x"),
        "t": given("step", "t"),
        "output": at[both.step.end(layer.output)].at,
        "width": nodes[both.step.end(layer.output)].size,
        "gives": layer.output,
    }


def _source(
    name: str, row: int, stack: Sequence[TracedLayer], steps: Sequence[Backward], tensors: _Tensors
) -> dict[str, Any]:
    """The source of a stream other than x."""
    of = stack[row].streams[name]
    found: dict[str, Any] = {"below": None, "of": None, "matrix": None, "bias": None, "number": None}
    if isinstance(of, nn.Linear):
        bias = None if of.bias is None else tensors.add(f"ground.{name}.bias", of.bias)
        return {**found, "source": "ground", "matrix": tensors.add(f"ground.{name}", of.weight), "bias": bias}
    if isinstance(of, str):
        step = steps[row - 1].step
        return {**found, "source": "below", "below": step.at[step.end(of)].at, "of": of}
    return {**found, "source": "number", "number": of}
