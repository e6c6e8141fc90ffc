"""An ONNX model: the node that is asked for, and what the model stores of its inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conveyor.errors import BadInput

if TYPE_CHECKING:
    import onnx

OPERATORS = ("LSTM", "GRU", "RNN")


def load(model: Any) -> onnx.ModelProto:
    """A model from a path, bytes, or as it is. Raises BadInput for files that are none, TypeError for other values."""
    onnx = package()
    if isinstance(model, onnx.ModelProto):
        found = model
    elif isinstance(model, bytes | str | os.PathLike):
        found = _read(model)
    else:
        raise TypeError(f"from_onnx takes a path, bytes or an onnx.ModelProto, not {type(model).__name__}")
    if not found.graph.node:
        raise BadInput(f"{_named(model)} is no ONNX model: it has no graph with nodes")
    if found.functions:
        return onnx.inliner.inline_local_functions(found)
    return found


def package() -> Any:
    """The package onnx. Raises BadInput if it is not installed."""
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
    except ImportError as error:
        raise BadInput("from_onnx needs the package onnx: pip install 'conveyor[onnx]'") from error
    return onnx


def find(model: onnx.ModelProto, name: str | None) -> onnx.NodeProto:
    """The recurrent node of a model; that of the name, or with an output of the name, if there is one."""
    nodes = [node for node in model.graph.node if node.op_type in OPERATORS and node.domain in ("", "ai.onnx")]
    if not nodes:
        kinds = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node})
        raise BadInput(
            f"the model has no {', '.join(OPERATORS)} among its nodes, which are {', '.join(kinds)}; those inside a "
            "Loop, Scan or If are not read"
        )
    chosen = [node for node in nodes if name is None or name in (node.name, *node.output)]
    if len(chosen) != 1:
        names = ", ".join(f"{label(node)!r} ({node.op_type})" for node in nodes)
        asked = "" if name is None else f", and {len(chosen) or 'none'} of the name {name!r}"
        raise BadInput(f"the model has {len(nodes)} recurrent nodes{asked}: give one as node=, of {names}")
    return chosen[0]


def label(node: onnx.NodeProto) -> str:
    """The node's name, or that of its first output, by which it can be asked for."""
    return node.name or next(name for name in node.output if name)


def stored(model: onnx.ModelProto, name: str) -> np.ndarray | None:
    """The value of a tensor that is computed of nothing but what the model stores, or None."""
    onnx, graph = package(), model.graph
    kept = {value.name: value for value in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output if output}
    needed: set[str] = set()
    wanted = [name]
    while wanted:
        one = wanted.pop()
        if one in kept or one in needed or not one:
            continue
        if one not in makers or _is_open(makers[one]):
            return None
        needed.update(filter(None, makers[one].output))
        wanted += makers[one].input
    far = [one for one in {name, *_read_by(makers, needed)} if one in kept and _is_elsewhere(kept[one])]
    if far:
        raise BadInput(f"the model stores {far[0]} in another file: give from_onnx the model's path")
    if name in kept:
        return np.asarray(onnx.numpy_helper.to_array(kept[name]))
    return _evaluated(model, [node for node in graph.node if needed & set(node.output)], name)


def _evaluated(model: onnx.ModelProto, nodes: list[onnx.NodeProto], name: str) -> np.ndarray:
    onnx = package()
    read = {one for node in nodes for one in node.input}
    kept = [value for value in model.graph.initializer if value.name in read]
    result = onnx.helper.make_empty_tensor_value_info(name)
    graph = onnx.helper.make_graph(nodes, "stored", [], [result], kept)
    small = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        (value,) = onnx.reference.ReferenceEvaluator(small).run(None, {})
    except Exception as error:  # of any operator
        kinds = ", ".join(sorted({node.op_type for node in nodes}))
        raise BadInput(f"the model computes {name} by {kinds}, which failed ({error}): simplify the model") from error
    return np.asarray(value)


def _read(model: bytes | str | os.PathLike[str]) -> onnx.ModelProto:
    onnx = package()
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename or error}: no such file") from error
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BadInput(f"{_named(model)} is no ONNX model, or only a part of one: {error}") from error


def _named(model: Any) -> str:
    return str(Path(model)) if isinstance(model, str | os.PathLike) else "what was given"


def _read_by(makers: dict[str, onnx.NodeProto], outputs: Iterable[str]) -> set[str]:
    return {one for output in outputs for one in makers[output].input}


def _is_open(node: onnx.NodeProto) -> bool:
    """Whether it may give another value than it did: it has a graph in it, or draws random numbers."""
    return node.op_type.startswith("Random") or any(a.HasField("g") or a.graphs for a in node.attribute)


def _is_elsewhere(value: onnx.TensorProto) -> bool:
    return bool(value.data_location == package().TensorProto.EXTERNAL)
