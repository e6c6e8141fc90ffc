"""The format onnx: a model of ONNX, run by ONNX Runtime.

spelling.py    how each operation of a step is written
writer.py      nodes and constants, each under a name of its own
unroll.py      one layer: an operation of ONNX's where compiler/gates.py finds it, or a Scan
model.py       all layers, with the inputs and outputs of the model
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.errors import BadInput
from conveyor.exporting.exported import Exported
from conveyor.exporting.format import Format, Ran, Written
from conveyor.exporting.onnx.spelling import SPELLING, WRITTEN
from conveyor.layer.network import as_evaluated

CURE = "pip install 'conveyor[onnx]'"


class Onnx(Format):
    """NAME.onnx, whose inputs and outputs are those of `conveyor.exporting.onnx.model.model`."""

    name = "onnx"
    operations = frozenset(SPELLING.keys() | WRITTEN.keys())

    def write(self, exported: Exported, folder: Path) -> Written:
        """Writes the model, in float32, after onnx.checker has found it right. Raises BadInput without onnx."""
        try:
            onnx: Any = importlib.import_module("onnx")
        except ImportError:
            raise BadInput(f"a model of ONNX is written by the package onnx, which is not installed: {CURE}") from None
        from conveyor.exporting.onnx.model import model

        given = {**exported.streams, **exported.constants}
        shapes = [(name, dims, exported.types.get(name)) for name, dims in given.items() if name != "x"]
        with as_evaluated(exported.layer):
            made = model(exported.layer, shapes, _head(exported), exported.embedding, torch.float32)
        onnx.save(made, _file(exported, folder))
        layers = [node.op_type for node in made.graph.node if node.op_type in ("LSTM", "GRU", "RNN", "Scan")]
        return Written(facts={"opset": made.opset_import[0].version, "layers": layers})

    def obstacle(self, exported: Exported, folder: Path) -> str | None:
        """None where there is ONNX Runtime."""
        try:
            importlib.import_module("onnxruntime")
        except ImportError:
            return f"ONNX Runtime is not installed: {CURE}"
        return None

    def run(
        self,
        exported: Exported,
        folder: Path,
        written: Written,
        inputs: Mapping[str, Tensor],
        cuts: Iterable[Sequence[int]],
    ) -> Iterator[Ran]:
        """By ONNX Runtime, in one thread."""
        session = _session(_file(exported, folder))
        return (self._ran(exported, session, inputs, lengths) for lengths in cuts)

    def _ran(self, exported: Exported, session: Any, inputs: Mapping[str, Tensor], lengths: Sequence[int]) -> Ran:
        outputs, known = ([v.name for v in values] for values in (session.get_outputs(), session.get_inputs()))
        learnt = [v.name for v in session.get_overridable_initializers()]  # which the first chunk starts from
        names, rows = exported.layer.state_names, range(exported.layer.num_layers)
        first = {name: torch.stack([exported.initial[f"{name}.{row}"] for row in rows]) for name in names}
        states = {f"{name}_0": value[:, None].numpy() for name, value in first.items()}
        found, start, seconds = [], 0, 0.0
        for length in lengths:
            given = {**_chunk(exported, inputs, start, length), **states, "start": np.asarray(start)}
            began = time.perf_counter()
            values = session.run(outputs, {name: value for name, value in given.items() if name in known})
            seconds += time.perf_counter() - began
            known, learnt = known + learnt, []
            result = dict(zip(outputs, map(torch.from_numpy, values), strict=True))
            states = {f"{name}_0": result.pop(f"{name}_n").numpy() for name in names}
            found.append(_by_layer(result))
            start += length
        whole = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        last = {f"{n}.{row}": torch.from_numpy(states[f"{n}_0"])[row, 0] for n in names for row in rows}
        return Ran(whole, last, seconds / start)


FORMAT = Onnx()


def _file(exported: Exported, folder: Path) -> Path:
    return folder / f"{exported.name}.onnx"


def _head(exported: Exported) -> nn.Linear | None:
    """The map after the layers."""
    if exported.model is None:
        return exported.head
    weight, bias = exported.weights["head.weight"], exported.weights["head.bias"]
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight, made.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return made


def _session(file: Path) -> Any:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # not the hints about what the optimiser leaves out
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _chunk(exported: Exported, inputs: Mapping[str, Tensor], start: int, length: int) -> dict[str, Any]:
    """Inputs of one row, with a dimension for it."""
    found: dict[str, Any] = {}
    for name, value in inputs.items():
        constant = name in exported.constants
        part = value[None] if constant else value[start : start + length, None]
        exact = name in exported.types or not part.is_floating_point()
        label = name if name != "x" else "input" if exported.model is None else "tokens"
        found[label] = (part if exact else part.float()).numpy()
    return found


def _by_layer(result: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a run gives of its one row, [T, ...], the further outputs of each layer apart."""
    found = {"output": result["output"][:, 0]}
    for name, value in result.items():
        if "." in name:
            found[name] = value[0, :, 0]
        elif name != "output":
            found |= {f"{name}.{row}": layer[0, :, 0] for row, layer in enumerate(value)}
    return found
