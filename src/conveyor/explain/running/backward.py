"""One step back in time, with the edits of a run: the derivative of the step in which they are inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conveyor.compiler.differentiate import Costs, Derivative, differentiate
from conveyor.compiler.graph import Graph, Key
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.memory_map import MemoryMap


@dataclass(frozen=True)
class Backward:
    """How gradients go back through a step that can be edited: `forward` computes what `backward` reads.

    `upward` are the names of the values that the layer above reads, or the output.
    """

    step: MemoryMap
    upward: tuple[str, ...]

    @cached_property
    def derivative(self) -> Derivative:
        """The graphs of both directions."""
        graph = self.step.graph
        wanted = [Key("stream", name) for name in graph.inputs("stream")]
        given = [output.key for output in graph.outputs if output.name in self.upward]
        return differentiate(graph, wanted, given, Costs(recompute=24))

    @cached_property
    def forward(self) -> MemoryMap:
        """Where the values of the step lie that `backward` reads."""
        return _places(self.derivative.forward)

    @cached_property
    def backward(self) -> MemoryMap:
        """Where the values of the step back lie."""
        return _places(self.derivative.backward)

    def data(self) -> dict[str, Any]:
        """How a page brings numbers from the step to `forward`, from there to `backward`, and out of it.

        All are places in `kept`, or -1 where there is none. Into forward: `given` [[from, to, size]] of the step's own;
        its edits are those of the step. From there into backward: `read` [[from, to, size]], and the same of edits,
        `edits`, which are places in `edits`. Gradients: by the states `states` {name: [to, from, size]}: where that by
        what the step hands on goes to, and where that by what it was handed is; from the layer above `upward`
        {name: [to, size]}; by the streams `streams` {name: [from, size]}.
        """
        step, inner = self.step, self.forward
        assert _edits(step) == _edits(inner), "the edits of a step lie alike in both of its forms"
        own = [(i, n, *n.attrs[:2]) for i, n in enumerate(step.graph.nodes) if n.op == "input"]
        places = [
            [step.at[i].at, _place(inner, Key(kind, name)), node.size]
            for i, node, kind, name in own
            if kind not in ("weight", "edit")
        ]
        return {
            "given": [each for each in places if each[1] >= 0],
            "read": self._read(lambda kind: kind not in ("weight", "edit")),
            "edits": self._read(lambda kind: kind == "edit"),
            **self._gradients(),
        }

    def _read(self, wanted: Callable[[str], bool]) -> list[list[int]]:
        found = []
        for i, node in enumerate(self.backward.graph.nodes):
            if node.op == "input" and wanted(node.attrs[0]) and not node.key.role:
                source = self._source(node.key)
                found.append([self.forward.at[source].at, self.backward.at[i].at, node.size])
        return found

    def _source(self, key: Key) -> int:
        graph = self.forward.graph
        if key.kind == "saved":
            return next(o.node for o in graph.outputs if (o.name, o.role) == (key.name, "saved"))
        if key.kind == "after":
            return next(o.node for o in graph.outputs if o.key == Key("state", key.name))
        return graph.inputs("state" if key.kind == "before" else key.kind)[key.name]

    def _gradients(self) -> dict[str, Any]:
        back, nodes = self.backward, self.backward.graph.nodes
        ends = {o.key: [back.at[o.node].at, nodes[o.node].size] for o in back.graph.outputs}
        kinds = {output.name: output.kind for output in self.step.graph.outputs}
        sizes = {output.name: self.step.graph.nodes[output.node].size for output in self.step.graph.outputs}
        return {
            "states": {
                name: [_place(back, Key("state", name, "grad")), *ends[Key("state", name, "grad")]]
                for name in self.step.graph.states
            },
            "upward": {
                name: [_place(back, Key("stream", name, f"grad {kinds[name]}")), sizes[name]] for name in self.upward
            },
            "streams": {
                name: ends[Key("stream", name, "grad")]
                for name in self.step.graph.inputs("stream")
                if Key("stream", name, "grad") in ends
            },
        }


def _places(graph: Graph) -> MemoryMap:
    return MemoryMap(Circuit(graph, (), (), ()))  # of which nothing is seen


def _edits(places: MemoryMap) -> dict[str, int]:
    return {name: places.at[i].at for name, i in places.graph.inputs("edit").items()}


def _place(places: MemoryMap, key: Key) -> int:
    """Where an input is, -1 if there is none."""
    return next((places.at[i].at for i, n in enumerate(places.graph.nodes) if n.op == "input" and n.key == key), -1)
