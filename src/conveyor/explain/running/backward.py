"""One step back in time, with the edits of a run: the derivative of the step in which they are inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conveyor.compiler.differentiate import Derivative, differentiate
from conveyor.compiler.graph import Graph
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
        wanted = [("stream", name) for name in graph.inputs("stream")]
        given = [(output.kind, output.name) for output in graph.outputs if output.name in self.upward]
        return differentiate(graph, wanted, given)

    @cached_property
    def forward(self) -> MemoryMap:
        """Where the values of the step lie that `backward` reads."""
        return _memory_of(self.derivative.forward)

    @cached_property
    def backward(self) -> MemoryMap:
        """Where the values of the step back lie."""
        return _memory_of(self.derivative.backward)

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
        own = [(i, n, *n.attrs) for i, n in enumerate(step.graph.nodes) if n.op == "input"]
        copies = [
            [step.at[i].at, _offset(inner, kind, name), node.size]
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
            if node.op == "input" and wanted(node.attrs[0]) and not node.attrs[1].startswith("grad "):
                source = self._source(*node.attrs)
                found.append([self.forward.at[source].at, self.backward.at[i].at, node.size])
        return found

    def _source(self, kind: str, name: str) -> int:
        graph = self.forward.graph
        if kind in ("saved", "after"):
            return next(o.node for o in graph.outputs if o.name == name and (o.kind == "state") == (kind == "after"))
        return graph.inputs("state" if kind == "before" else kind)[name]

    def _gradients(self) -> dict[str, Any]:
        back, nodes = self.backward, self.backward.graph.nodes
        ends = {(o.kind, o.name): [back.at[o.node].at, nodes[o.node].size] for o in back.graph.outputs}
        kinds = {output.name: output.kind for output in self.step.graph.outputs}
        sizes = {output.name: self.step.graph.nodes[output.node].size for output in self.step.graph.outputs}
        return {
            "states": {
                name: [_offset(back, "state", f"grad {name}"), *ends["state", f"grad {name}"]]
                for name in self.step.graph.states
            },
            "upward": {
                name: [_offset(back, "stream", f"grad {kinds[name]} {name}"), sizes[name]] for name in self.upward
            },
            "streams": {
                name: ends["stream", f"grad {name}"]
                for name in self.step.graph.inputs("stream")
                if ("stream", f"grad {name}") in ends
            },
        }


def _memory_of(graph: Graph) -> MemoryMap:
    return MemoryMap(Circuit(graph, (), (), ()))  # of which nothing is seen


def _edits(memory: MemoryMap) -> dict[str, int]:
    return {name: memory.at[i].at for name, i in memory.graph.inputs("edit").items()}


def _offset(memory: MemoryMap, kind: str, name: str) -> int:
    found = memory.graph.inputs(kind).get(name)
    return -1 if found is None else memory.at[found].at
