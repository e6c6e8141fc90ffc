"""The operator of a layer in ONNX, for torch.onnx.export: a function, which that inlines where it optimises."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnx import FunctionProto, helper
from onnxscript import evaluator

from conveyor.compiler.graph import Key
from conveyor.errors import BadInput
from conveyor.exporting.onnx.unroll import unroll
from conveyor.exporting.onnx.writer import OPSET, Writer
from conveyor.layer import operator

DOMAIN = "conveyor"
TYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}


def forward(
    tensors: Sequence[Any],
    lengths: Any,
    graph: str,
    steps: Any,
    batch: Any,
    start: Any,
    wanted: Sequence[bool],
) -> Sequence[Any]:
    """`conveyor.layer.operator.forward` in ONNX, but for what only backward reads. Whole numbers may be values."""
    if lengths is not None:
        raise BadInput("lengths= has no translation to ONNX: export the layer without it, and cut the rows outside")
    numbers = {"steps": steps, "start": start}
    given = {name: value for name, value in numbers.items() if isinstance(value, onnx_ir.Value)}
    known = {name: value for name, value in numbers.items() if isinstance(value, int)}
    recorder: Any = evaluator.default()
    function = _function(graph, list(given), known)
    call = onnx_ir.Node(DOMAIN, function.name, [*tensors, *given.values()], num_outputs=len(function.output), version=1)
    recorder.nodes.append(call)
    made = onnx_ir.serde.deserialize_function(function)
    recorder.functions[made.identifier()] = made
    return call.outputs


def _function(text: str, given: Sequence[str], known: dict[str, int]) -> FunctionProto:
    """The function of a graph. `given`: the names of those numbers that it takes as inputs; `known`: the others."""
    entry = operator.entry_of(text)
    graph, writer = entry.step.graph, Writer(TYPES[entry.step.dtype])
    inputs = {key: writer.name(key.name) for key in entry.sources}
    numbers = {name: writer.name(name) for name in given}
    numbers |= {name: writer.constant(np.asarray(value, np.int64), name) for name, value in known.items()}
    state = next(name for key, name in inputs.items() if key.kind == "state")
    rows = writer.op("Shape", state, start=0, end=1, name="batch_size")
    values = {**inputs, Key("step", "t"): numbers["start"]}
    if not graph.inputs("stream"):  # something that says how many steps there are
        shape = writer.op("Concat", writer.unsqueeze(numbers["steps"], 0), rows, writer.whole(1), axis=0)
        values[Key("stream", "x")] = writer.op("Expand", writer.numbers(0), shape)
    each = [graph.states[0], *graph.streams]
    made = unroll(writer, graph, values, each, rows)
    results = [made.each[each[0]], *(made.last[name] for name in graph.states), *(made.each[name] for name in each[1:])]
    outputs = [writer.op("Identity", result, name="result") for result in results]
    body = writer.graph(DOMAIN, [], [helper.make_tensor_value_info(name, writer.type, None) for name in outputs])
    constants = [helper.make_node("Constant", [], [value.name], value=value) for value in body.initializer]
    digest = hashlib.sha1(repr((text, given, known)).encode(), usedforsecurity=False).hexdigest()[:12]
    return helper.make_function(
        DOMAIN,
        f"layer_{digest}",
        [*inputs.values(), *(numbers[name] for name in given)],
        outputs,
        [*constants, *body.node],
        [helper.make_opsetid("", OPSET)],
    )
