"""The backward step of a page, with the edits of a run: the derivative of a step whose edits are inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conveyor.compiler.differentiate import Costs, Derivative, differentiate
from conveyor.compiler.graph import Graph, Key
from conveyor.explain.circuit import Circuit
from conveyor.targets.js.memory_map import MemoryMap


@dataclass(frozen=True)
class Backward:
    """The gradients of a step that can be edited: `forward` computes the values that `backward` reads.

    `upward`: the names of the values that the layer above, or the output, reads.
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
        """The memory map of the forward step, with the values that `backward` reads."""
        return _memory_of(self.derivative.forward)

    @cached_property
    def backward(self) -> MemoryMap:
        """The memory map of the backward step."""
        return _memory_of(self.derivative.backward)

    def data(self) -> dict[str, Any]:
        """How a page copies values from the step to `forward`, from there to `backward`, and out of it, as JSON.

        All offsets are in `kept`, or -1 for none; those in `edits` are in the array of edits.

        given    [[from, to, size]]: copied from the step to forward, which has the edits of the step
        read     [[from, to, size]]: copied from forward to backward
        edits    [[from, to, size]]: edits copied from forward to backward
        states   {name: [to, from, size]}: where the gradient of the new state goes, and where that of the old one is
        upward   {name: [to, size]}: where the gradients from the layer above go
        streams  {name: [from, size]}: where the gradients of the streams are
        """
        step, inner = self.step, self.forward
        assert _edits(step) == _edits(inner), "the edits of a step have the same offsets in forward"
        own = [(i, n, *n.attrs[:2]) for i, n in enumerate(step.graph.nodes) if n.op == "input"]
        copies = [
            [step.at[i].at, _offset(inner, Key(kind, name)), node.size]
            for i, node, kind, name in own
            if kind not in ("weight", "edit")
        ]
        return {
            "given": [each for each in copies if each[1] >= 0],
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
                name: [_offset(back, Key("state", name, "grad")), *ends[Key("state", name, "grad")]]
                for name in self.step.graph.states
            },
            "upward": {
                name: [_offset(back, Key("stream", name, f"grad {kinds[name]}")), sizes[name]] for name in self.upward
            },
            "streams": {
                name: ends[Key("stream", name, "grad")]
                for name in self.step.graph.inputs("stream")
                if Key("stream", name, "grad") in ends
            },
        }


def _memory_of(graph: Graph) -> MemoryMap:
    return MemoryMap(Circuit(graph, (), (), ()))  # without parts


def _edits(memory: MemoryMap) -> dict[str, int]:
    return {name: memory.at[i].at for name, i in memory.graph.inputs("edit").items()}


def _offset(memory: MemoryMap, key: Key) -> int:
    """The offset of an input, -1 if there is none."""
    return next((memory.at[i].at for i, n in enumerate(memory.graph.nodes) if n.op == "input" and n.key == key), -1)
