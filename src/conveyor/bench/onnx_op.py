"""ONNX Runtime's LSTM operator with the weights of one of our cells. Inference only: it has no gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from conveyor import zoo
from conveyor.bench.contenders import Run, Work

OPSET, IR_VERSION = 14, 8  # the first with the current version of the operator; later ONNX Runtimes read them
GATES = ("input", "output", "forget", "candidate")  # the order of the operator's blocks


def run(work: Work) -> Run | None:
    """None in training, and for cells that the operator does not support."""
    if work.gradient is not None or work.cell not in (zoo.LSTM, zoo.PeepholeLSTM, zoo.CoupledLSTM):
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Otherwise its threads keep spinning after a call and slow down the next contender.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(_model(work), options, providers=["CPUExecutionProvider"])
    given = {"X": work.x.numpy()}

    def once() -> Any:
        output, *_ = session.run(None, given)  # also computes both final states, as our layer does
        return output[:, 0]  # [T, directions, B, H] -> [T, B, H]

    return once


def _model(work: Work) -> bytes:
    weights = _weights(work)
    names = ["X", "W", "R", "B", "", "", "", "P" if "P" in weights else ""]
    hidden = work.layer.hidden_size
    coupled = {"input_forget": 1} if work.cell is zoo.CoupledLSTM else {}
    node = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=hidden, **coupled)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(work.x.shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def _weights(work: Work) -> dict[str, np.ndarray]:
    """W [1, 4H, I], R [1, 4H, H], B [1, 8H] with a second bias of zero, P [1, 3H] for input, output, forget."""
    ours = {name: value.detach().numpy() for name, value in work.layer.cell.named_parameters()}
    if work.cell is zoo.CoupledLSTM:
        # The operator computes i and takes f = 1 - i; our f is 1 - σ(-(W_f · [h, x] + b_f)).
        ours |= {name.replace("forget", "input"): -value for name, value in ours.items() if "forget" in name}
    W, R, b = (
        np.concatenate([ours[f"{gate}.{kind}"] for gate in GATES])[None] for kind in ("weight_x", "weight_h", "bias")
    )
    weights = {"W": W, "R": R, "B": np.concatenate([b, np.zeros_like(b)], axis=1)}
    if work.cell is zoo.PeepholeLSTM:
        weights["P"] = np.concatenate([ours[f"{gate}.weight_C"] for gate in GATES[:3]])[None]
    return weights
