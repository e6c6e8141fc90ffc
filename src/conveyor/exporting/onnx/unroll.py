"""One layer in ONNX: an operation of ONNX's own where the equations are its, else a Scan with the step as its body."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from conveyor.compiler.distribute import distributed
from conveyor.compiler.gates import Found, Gate, find
from conveyor.compiler.graph import Graph, Key, Output, prune
from conveyor.exporting.onnx.spelling import Values
from conveyor.exporting.onnx.writer import Writer


@dataclass
class Unrolled:
    """Values of ONNX: what each step gives [T, B, ...], and the last states [B, width], by name."""

    each: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)


def unroll(writer: Writer, graph: Graph, given: Mapping[Key, str], wanted: Sequence[str], batch: str) -> Unrolled:
    """Writes all steps of a graph.

    `given`: the values of its inputs, streams [T, B, ...] (one of them "x", read or not), states and constants
    [B, ...], weights, and the number of the first step, an int64 scalar. `wanted`: the states and streams of which each
    step's value is wanted. `batch`: the number of rows, [1].
    """
    outputs = tuple(o for o in graph.outputs if o.kind == "state" or o.name in wanted)
    graph = prune(Graph(graph.nodes, outputs))
    has_own = writer.real is np.float32  # ONNX Runtime runs its LSTM, GRU and RNN in no other type
    if has_own and len(outputs) == len(graph.states) and len(wanted) == 1:
        apart = distributed(graph)
        found = find(apart, wanted[0])
        if found is not None and found.projection is None:
            return _own(writer, apart, given, found, batch)
    return _Scan(writer, graph, given, wanted, batch).write()


def _own(writer: Writer, graph: Graph, given: Mapping[Key, str], found: Found, batch: str) -> Unrolled:
    """ONNX's operation. Its weights have the gates one below the other, and a dimension of directions before them."""
    values = Values(writer, graph, given, batch)
    hidden, width = found.hidden, graph.nodes[graph.inputs("stream").get("x", -1)].dims[-1:]
    sizes = width[0] if "x" in graph.inputs("stream") else 1

    def added(nodes: Sequence[int], shape: tuple[int, ...], negated: bool) -> str:
        total = writer.numbers(np.zeros(shape))
        for i in nodes:
            total = writer.op("Add", total, values[i])
        return writer.op("Neg", total) if negated else total

    def rows(part: Callable[[Gate], list[int]], *before: int, gates: Sequence[Gate | None] = found.gates) -> str:
        """The weights of all gates, [H, K] or [H] each; of matrices [K, H]."""
        blocks = []
        for gate in gates:
            block = added(part(gate or Gate()), (*before, hidden), bool(gate and gate.negated))
            blocks.append(writer.op("Transpose", block, perm=[1, 0]) if before else block)
        return writer.op("Concat", *blocks, axis=0)

    x = given[Key("stream", "x")]
    if "x" not in graph.inputs("stream"):  # which the step does not read
        x = writer.op("Slice", x, *(writer.whole(k) for k in (0, 1, 2)))
    bias = writer.op("Concat", rows(lambda g: g.bias), rows(lambda g: g.recalled), axis=0)
    weights = {"W": rows(lambda g: g.x, sizes), "R": rows(lambda g: g.h, hidden), "B": bias}
    if any(gate is not None and gate.C for gate in found.gates):
        weights["P"] = rows(lambda g: g.C, gates=found.gates[:3])
    w = {name: writer.op("Unsqueeze", value, writer.whole(0), name=name) for name, value in weights.items()}
    states = [writer.unsqueeze(given[Key("state", name)], 0) for name in found.states]
    inputs = [x, w["W"], w["R"], w["B"], "", *states, *([w["P"]] if "P" in w else [])]
    names = ["Y", *(f"Y_{name.lower()}" for name in found.states)]
    each, *last = writer.ops(found.op, inputs, names, hidden_size=hidden, **found.attributes)
    ends = {name: writer.squeeze(value, 0) for name, value in zip(found.states, last, strict=True)}
    return Unrolled({found.states[0]: writer.op("Squeeze", each, writer.whole(1))}, ends)


class _Scan:
    """A Scan: what is the same for all steps is computed before it."""

    def __init__(self, writer: Writer, graph: Graph, given: Mapping[Key, str], wanted: Sequence[str], batch: str):
        self.writer, self.graph, self.given, self.wanted = writer, graph, given, wanted
        self.nodes = graph.nodes
        self.streams = [n.key for n in graph.nodes if n.op == "input" and n.key.kind == "stream"]
        self.streams = self.streams or [Key("stream", "x")]  # by which the Scan knows how many steps there are
        self.states = [o for o in graph.outputs if o.kind == "state"]
        self.counts = bool(graph.inputs("step"))
        self.inner: dict[Key, str] = {}
        self.values = Values(writer, graph, self.inner, batch)

    def write(self) -> Unrolled:
        outside = [n.key for n in self.nodes if n.op == "input" and not n.time]
        self.inner |= {key: self.given[key] for key in outside}
        for i, node in enumerate(self.nodes):
            if not node.time:
                self.values[i]
        body = self._body()
        writer = self.writer
        kept = [self.given[Key("state", o.name)] for o in self.states]
        if self.counts:
            kept.append(self.given[Key("step", "t")])
        names = [f"{o.name}_last" for o in self.states] + [""] * self.counts + [f"{name}_each" for name in self.wanted]
        names = [name or "t_last" for name in names]
        inputs = [*kept, *(self.given[key] for key in self.streams)]
        results = writer.ops("Scan", inputs, names, body=body, num_scan_inputs=len(self.streams))
        each = dict(zip(self.wanted, results[len(kept) :], strict=True))
        return Unrolled(each, dict(zip([o.name for o in self.states], results, strict=False)))

    def _body(self) -> GraphProto:
        writer = self.writer
        with writer.body():
            inputs = [self._input(Key("state", o.name), self.nodes[o.node].dims) for o in self.states]
            counted: list[ValueInfoProto] = []
            if self.counts:
                counted = [helper.make_tensor_value_info(writer.name("t"), TensorProto.INT64, ())]
                self.inner[Key("step", "t")] = writer.op("Cast", counted[0].name, to=writer.type)
            dims = {n.key: n.dims for n in self.nodes if n.op == "input"}
            read = [self._input(key, dims.get(key)) for key in self.streams]
            ends = [self._output(o) for o in self.states]
            if self.counts:
                one = writer.op("Add", counted[0].name, writer.constant(np.asarray(1, np.int64)), name="t_next")
                ends.append(helper.make_tensor_value_info(one, TensorProto.INT64, ()))
            named = {o.name: o for o in self.graph.outputs}
            ends += [self._output(named[name]) for name in self.wanted]
            return writer.graph("step", [*inputs, *counted, *read], ends)

    def _input(self, key: Key, dims: tuple[int, ...] | None) -> ValueInfoProto:
        name = self.inner[key] = self.writer.name(key.name)
        shape = None if dims is None else ["batch", *dims]
        return helper.make_tensor_value_info(name, self.writer.type, shape)

    def _output(self, output: Output) -> ValueInfoProto:
        """A value under a name of its own, since it may be an input of the body, or two outputs."""
        name = self.writer.op("Identity", self.values.of_rows(output.node), name=f"{output.name}_next")
        return helper.make_tensor_value_info(name, self.writer.type, ["batch", *self.nodes[output.node].dims])
