"""ONNX's LSTM, by its reference evaluator and by ONNX Runtime: peepholes, and a forget gate coupled to the input gate.

The reference evaluator takes no notice of `input_forget`, so there the coupled gates are two of opposite weights, as
σ(-a) = 1 - σ(a). ONNX Runtime has it, f = 1 - i, in float32.
"""

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import conveyor
from conveyor import zoo
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 5, 3, 4, 6
TYPES = {torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE}
CELLS = [zoo.LSTM, zoo.PeepholeLSTM, zoo.VanillaLSTM, zoo.NoPeepholesLSTM, zoo.CoupledLSTM, zoo.CoupledPeepholeLSTM]
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)


def model(dtype, **attributes):
    """One LSTM, all that it takes, but lengths, given from outside."""
    takes, gives = ("X", "W", "R", "B", "", "initial_h", "initial_c", "P"), ("Y", "Y_h", "Y_c")
    node = helper.make_node("LSTM", takes, gives, hidden_size=HIDDEN, **attributes)
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TYPES[dtype], None) for name in names if name] for names in (takes, gives)
    )
    graph = helper.make_graph([node], "lstm", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def weights(cell):
    """In ONNX's order of gates; a coupled gate is one of opposite weights, and a peephole that is not there is zero."""
    maps = [(1, getattr(cell, name, None)) for name in ("input", "output", "forget", "candidate")]
    (_, one), _, (_, other), _ = maps
    maps[0], maps[2] = (1, one) if one else (-1, other), (1, other) if other else (-1, one)

    def rows(name, *missing):
        blocks = [getattr(affine, name, None) for _, affine in maps]
        signed = [s * b for (s, _), b in zip(maps, blocks, strict=True) if b is not None]
        return torch.cat(signed or [cell.candidate.bias.new_zeros(missing)])[None]

    bias = rows("bias")
    return {
        "W": rows("weight_x"),
        "R": rows("weight_h"),
        "B": torch.cat([bias, torch.zeros_like(bias)], 1),
        "P": rows("weight_C", 3 * HIDDEN),
    }


def assert_is_onnx(run, cell, dtype, **attributes):
    layer = conveyor.Recurrent(cell, INPUT, HIDDEN, dtype=dtype)
    x, h, C = (torch.randn(steps, B, width, dtype=dtype) for steps, width in ((T, INPUT), (1, HIDDEN), (1, HIDDEN)))
    given = {"X": x, "initial_h": h, "initial_c": C, **weights(layer.cell)}
    expected = run(model(dtype, **attributes), {name: value.detach().numpy() for name, value in given.items()})
    output, last = layer(x, (h, C))
    assert_equal(output[:, None], torch.as_tensor(expected[0]), "output")
    for value, wanted, symbol in zip(last, expected[1:], "hC", strict=True):
        assert_equal(value, torch.as_tensor(wanted), symbol)


@every_cell
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_cell_is_that_of_onnxs_reference(cell, dtype):
    assert_is_onnx(lambda model, values: ReferenceEvaluator(model).run(None, values), cell, dtype)


@every_cell
def test_the_cell_is_that_of_onnx_runtime(cell):
    def run(model, values):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, values)

    coupled = {zoo.CoupledLSTM, zoo.CoupledPeepholeLSTM}
    assert_is_onnx(run, cell, torch.float32, **({"input_forget": 1} if cell in coupled else {}))
