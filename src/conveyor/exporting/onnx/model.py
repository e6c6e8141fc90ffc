"""A layer, or a language model, as a model of ONNX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, nn

from conveyor.cell.loop import location
from conveyor.compiler.graph import Key
from conveyor.errors import BadInput
from conveyor.exporting.onnx.unroll import Unrolled, unroll
from conveyor.exporting.onnx.writer import IR_VERSION, OPSET, Writer
from conveyor.layer import Recurrent
from conveyor.layer.network import Getter, Source, TracedLayer, traced_layers
from conveyor.layer.tracing import Given

TYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}


def model(
    rnn: Recurrent,
    given: Iterable[Given] = (),
    head: nn.Linear | None = None,
    embedding: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> ModelProto:
    """The model of a layer in evaluation mode, of a linear map after it, and of an embedding before it.

        onnx.save(model(conveyor.LSTM(32, 128, num_layers=2)), "lstm.onnx")

    Its inputs are `input` [T, B, 32], or `tokens` [T, B] with an embedding, the cell's other streams and constants, the
    states such as `h_0` and `C_0` [layers, B, 128], zero before the first step, and, of a cell that counts its steps,
    `start`, an int64 scalar, the number of the first: exact up to 2^24 in float32, where it becomes such a number.
    States that the layer has learnt are the values of `h_0` and `C_0` where none are given. Its outputs are
    `output` [T, B, 128], the cell's further outputs [layers, 1, T, B, ...], and the last states, `h_n` and `C_n`.
    B is free, and T from one step on: for none, ONNX Runtime gives an error, arbitrary states, or ends
    the process.

    `given` are the shapes of streams and constants, as `traced_layers` takes them; `dtype` is the type of the numbers,
    that of the weights unless given. Raises BadInput as `traced_layers` does, and for types other than float32 and
    float64.
    """
    dtype = dtype or next((p.dtype for p in rnn.parameters()), torch.float32)
    if dtype not in TYPES:
        raise BadInput(f"a model of ONNX is exported in float32 or float64, not {dtype}: layer.float()")
    with torch.no_grad():
        given = list(given)
        made = _Model(rnn, given, TYPES[dtype], embedding is not None)
        made.read(embedding)
        for row, layer in enumerate(traced_layers(rnn, given)):
            made.add(row, layer)
        found = made.finished(head)
    onnx.checker.check_model(found, full_check=True)
    return found


class _Model:
    def __init__(self, rnn: Recurrent, given: list[Given], real: type[np.floating[Any]], embedded: bool):
        self.rnn, self.given, self.writer = rnn, given, Writer(real)
        self.writer.reserve(*_names(rnn, [name for name, *_ in given], embedded))
        self.inputs: list[ValueInfoProto] = []
        self.defaults: list[TensorProto] = []
        self.values: dict[Key, str] = {}
        self.last: list[Unrolled] = []
        self.dims: list[dict[str, tuple[int, ...]]] = []
        self.below: dict[str, str] = {}
        self.input_stream = ""

    def input(self, name: str, shape: list[str | int], dtype: int | None = None) -> str:
        """An input of the model, whose name is reserved, in the type of its numbers."""
        writer = self.writer
        self.inputs.append(helper.make_tensor_value_info(name, dtype or writer.type, shape))
        return writer.op("Cast", name, to=writer.type, name=name) if dtype not in (None, writer.type, INT64) else name

    def read(self, embedding: Tensor | None) -> None:
        """All inputs."""
        rnn, writer = self.rnn, self.writer
        if embedding is None:
            first = x = self.input("input", ["time", "batch", rnn.input_size])
        else:
            first = self.input("tokens", ["time", "batch"], INT64)
            x = writer.op("Gather", self.weight("embedding", embedding), first, name="embedded")
        size = writer.op("Shape", first, start=1, end=2, name="batch_size")
        self.batch, self.input_stream = size, x
        self.values[Key("stream", "x")] = x
        for name, dims, dtype in self.given:
            constant = name in rnn.cell.constant
            lead: list[str | int] = ["batch"] if constant else ["time", "batch"]
            kind = (
                None if dtype is None else helper.np_dtype_to_tensor_dtype(torch.zeros((), dtype=dtype).numpy().dtype)
            )
            value = self.input(name, [*lead, *dims], kind)
            self.values[Key("constant" if constant else "stream", name)] = value
        self.states = {}
        for name in rnn.state_names:
            self.states[name] = self._state(name)
        if "t" in rnn.cell.arguments:
            self.values[Key("step", "t")] = self.input("start", [], INT64)

    def _state(self, name: str) -> str:
        """The states of all layers [layers, B, width]; if none are given those learnt, [layers, 1, width]."""
        rnn, writer = self.rnn, self.writer
        shape: list[str | int] = [rnn.num_layers, "batch", rnn.cell.widths[name]]
        value = self.input(f"{name}_0", shape)
        if not rnn.learn_initial_state:
            return value
        learnt = rnn.initial_state[name][:, None].detach().cpu().numpy().astype(writer.real)
        self.defaults.append(numpy_helper.from_array(learnt, value))
        whole = [writer.whole(rnn.num_layers), self.batch, writer.whole(rnn.cell.widths[name])]
        return writer.op("Expand", value, writer.op("Concat", *whole, axis=0), name=name)

    def weight(self, name: str, value: Tensor) -> str:
        """A constant."""
        return self.writer.constant(value.detach().cpu().numpy().astype(self.writer.real), name)

    def add(self, row: int, layer: TracedLayer) -> None:
        """The next layer upwards."""
        given = dict(self.values)
        for name, whole in self.states.items():
            given[Key("state", name)] = self.writer.squeeze(self._row(whole, row), 0)
        known = {n.key: n for n in layer.graph.nodes if n.op == "input"}
        given |= {key: self._weight(row, key.name, layer.weights) for key in known if key.kind == "weight"}
        for name, source in layer.streams.items():
            key = Key("stream", name)
            given[key] = self._source(name, source, known[key].dims if key in known else ())
        wanted = self._wanted(row, layer)
        self.last.append(unroll(self.writer, layer.graph, given, wanted, self.batch))
        self.below = self.last[-1].each
        self.dims.append({o.name: layer.graph.nodes[o.node].dims for o in layer.graph.outputs})
        self.values[Key("stream", "x")] = self.below[layer.output]

    def _wanted(self, row: int, layer: TracedLayer) -> list[str]:
        """The outputs of a layer over time: what the layer above or the user reads."""
        above = self.rnn.cell.below.values() if row + 1 < self.rnn.num_layers else ()
        return list(dict.fromkeys([layer.output, *above, *self.rnn.cell.returned]))

    def _weight(self, row: int, name: str, weights: Mapping[str, Getter]) -> str:
        value = weights[name]()
        assert value is not None
        return self.weight(f"layers.{row}.{name}", value)

    def _row(self, whole: str, row: int) -> str:
        """A layer's part of a state, [1, B, width]."""
        if self.rnn.num_layers == 1:
            return whole
        return self.writer.op("Slice", whole, *(self.writer.whole(k) for k in (row, row + 1, 0)))

    def _source(self, name: str, source: Source, dims: tuple[int, ...]) -> str:
        """A stream that does not come from outside."""
        writer = self.writer
        if isinstance(source, str):
            return self.below[source]
        if isinstance(source, nn.Linear):
            return self._linear(f"ground.{name}", source, self.input_stream)
        shape = writer.op("Shape", self.values[Key("stream", "x")], start=0, end=2)
        return writer.op("Expand", writer.numbers(source), writer.op("Concat", shape, writer.whole(*dims), axis=0))

    def _linear(self, name: str, module: nn.Linear, x: str) -> str:
        product = self.writer.op("MatMul", x, self.weight(f"{name}.weight", module.weight.T), name=name)
        if module.bias is None:
            return product
        return self.writer.op("Add", product, self.weight(f"{name}.bias", module.bias), name=name)

    def finished(self, head: nn.Linear | None) -> ModelProto:
        """The model, with its outputs."""
        rnn, writer = self.rnn, self.writer
        x = self.values[Key("stream", "x")]
        width = rnn.output_size if head is None else head.out_features
        x = x if head is None else self._linear("head", head, x)
        outputs = [self._output("output", x, ["time", "batch", width])]
        for name in rnn.cell.returned:
            outputs += self._returned(name)
        for name in rnn.state_names:
            rows = [writer.unsqueeze(each.last[name], 0) for each in self.last]
            whole = rows[0] if len(rows) == 1 else writer.op("Concat", *rows, axis=0)
            outputs.append(self._output(f"{name}_n", whole, [len(rows), "batch", rnn.cell.widths[name]]))
        graph = writer.graph(type(rnn.cell).__name__, self.inputs, outputs)
        graph.initializer.extend(self.defaults)  # of an input: its value if none is given
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="conveyor")

    def _returned(self, name: str) -> list[ValueInfoProto]:
        """A further output of all layers, or, where their shapes differ, of each by its number."""
        writer, shapes = self.writer, [dims[name] for dims in self.dims]
        rows = [writer.unsqueeze(each.each[name], 0) for each in self.last]
        if len(set(shapes)) == 1:
            whole = writer.op("Unsqueeze", writer.op("Concat", *rows, axis=0), writer.whole(1))
            return [self._output(name, whole, [len(rows), 1, "time", "batch", *shapes[0]])]
        every = enumerate(zip(rows, shapes, strict=True))
        return [self._output(f"{name}.{k}", row, [1, "time", "batch", *dims]) for k, (row, dims) in every]

    def _output(self, name: str, value: str, shape: list[str | int]) -> ValueInfoProto:
        self.writer.result(name, value)
        return helper.make_tensor_value_info(name, self.writer.type, shape)


def _names(rnn: Recurrent, given: Iterable[str], embedded: bool) -> list[str]:
    """The names of all inputs and outputs, which nothing else has. Raises BadInput for one that is there twice."""
    states, returned, layers = rnn.state_names, rnn.cell.returned, range(rnn.num_layers)
    own = ["tokens" if embedded else "input", *(f"{name}_0" for name in states)]
    own += ["start"] if "t" in rnn.cell.arguments else []
    own += ["output", *(f"{name}_n" for name in states), *(f"{name}.{row}" for name in returned for row in layers)]
    names = [*own, *given, *returned]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"a model of ONNX would have two values called {name}: rename that of {location(rnn.cell)}")
    return names


INT64 = onnx.TensorProto.INT64
