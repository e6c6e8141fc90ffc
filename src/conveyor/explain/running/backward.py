"""One step back in time, with the changes of a run: a derivative of the graph in which they are inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conveyor.compiler.differentiate import Derivative, differentiate
from conveyor.compiler.graph import Builder, Graph, Node, Output
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.edits import crossings
from conveyor.explain.running.places import Places


@dataclass(frozen=True)
class Backward:
    """How gradients go back through a step: `forward` computes what `backward` reads.

    `upward` are the names of the values that the layer above reads, or the output. The forward graph has an input for
    each possible change: "set 3" is 1 where a number of part 3 is set, "value 3" is what to, "cut 5" is 1 where wire 5
    is cut; "held 7" is the value of part 7, a parameter.
    """

    step: Places
    upward: tuple[str, ...]

    @cached_property
    def derivative(self) -> Derivative:
        graph = editable(self.step.circuit)
        wanted = [("stream", name) for name in self.step.graph.inputs("stream")]
        given = [(output.kind, output.name) for output in graph.outputs if output.name in self.upward]
        return differentiate(graph, wanted, given)

    @cached_property
    def forward(self) -> Places:
        return _places(self.derivative.forward)

    @cached_property
    def backward(self) -> Places:
        return _places(self.derivative.backward)

    def data(self) -> dict[str, Any]:
        """How a page brings numbers from the step to `forward`, from there to `backward`, and out of it.

        All are places in `kept`, or -1 where there is none. Into forward: `given` [[from, to, size]] of the step's own,
        `held` [[part, to]], `sets` [[part, to, to of the values, size]], `cuts` [[wire, to]]. From there into backward:
        `read` [[from, to, size]]. Gradients: by the states `states` {name: [to, from, size]}: where that by what the
        step hands on goes to, and where that by what it was handed is; from the layer above `upward`
        {name: [to, size]}; by the streams `streams` {name: [from, size]}.
        """
        step, inner = self.step, self.forward
        nodes, parts = step.graph.nodes, range(len(step.circuit.parts))
        sizes = [nodes[part.node].size for part in step.circuit.parts]
        own = [(i, *n.attrs) for i, n in enumerate(nodes) if n.op == "input" and n.attrs[0] != "weight"]
        places = [(step.at[i].at, _place(inner, kind, name), nodes[i].size) for i, kind, name in own]
        held = [(part, _place(inner, "stream", f"held {part}")) for part in parts]
        sets = [[k, *(_place(inner, "stream", f"{what} {k}") for what in ("set", "value")), sizes[k]] for k in parts]
        cuts = [(wire, _place(inner, "stream", f"cut {wire}")) for wire in range(len(step.circuit.wires))]
        return {
            "given": [list(each) for each in places if each[1] >= 0],
            "held": [list(each) for each in held if each[1] >= 0],
            "sets": [each for each in sets if each[1] >= 0 or each[2] >= 0],
            "cuts": [list(each) for each in cuts if each[1] >= 0],
            "read": self._read(),
            **self._gradients(),
        }

    def _read(self) -> list[list[int]]:
        found = []
        for i, node in enumerate(self.backward.graph.nodes):
            if node.op == "input" and node.attrs[0] != "weight" and not node.attrs[1].startswith("grad "):
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
                name: [_place(back, "state", f"grad {name}"), *ends["state", f"grad {name}"]]
                for name in self.step.graph.states
            },
            "upward": {
                name: [_place(back, "stream", f"grad {kinds[name]} {name}"), sizes[name]] for name in self.upward
            },
            "streams": {
                name: ends["stream", f"grad {name}"]
                for name in self.step.graph.inputs("stream")
                if ("stream", f"grad {name}") in ends
            },
        }


def _places(graph: Graph) -> Places:
    return Places(Circuit(graph, (), (), ()))  # of which nothing is seen


def _place(places: Places, kind: str, name: str) -> int:
    found = places.graph.inputs(kind).get(name)
    return -1 if found is None else places.at[found].at


def editable(circuit: Circuit) -> Graph:
    """The step with its changes as inputs, "set", "value", "cut" and "held"."""
    b, new = Builder(), list[int]()
    wires, parts = crossings(circuit), {part.node: i for i, part in enumerate(circuit.parts)}
    zero = b.const(0.0)

    def change(kind: str, number: int, dims: tuple[int, ...]) -> int:
        return b.input("stream", f"{kind} {number}", dims, True, True)

    def read(i: int, j: int) -> int:
        wire = wires.get((i, j))
        return new[j] if wire is None else b.pointwise("where", change("cut", wire, ()), zero, new[j])

    for i, node in enumerate(circuit.graph.nodes):
        part = parts.get(i)
        if part is not None and circuit.parts[part].kind == "parameter":
            new.append(change("held", part, node.dims))
            continue
        inputs = [read(i, j) for j in node.inputs]
        like = _like(node, (b.nodes[j] for j in inputs))
        made = b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, like=like)
        if part is not None:
            made = b.pointwise("where", change("set", part, node.dims), change("value", part, node.dims), made)
        new.append(made)
    return b.graph([Output(output.kind, output.name, new[output.node]) for output in circuit.graph.outputs])


def _like(node: Node, inputs: Iterable[Node]) -> Node:
    """Its rows and steps; what hangs on weights alone has those of the changes to it."""
    read = [node, *inputs]
    return Node("", rows=any(n.rows for n in read), time=any(n.time for n in read))
