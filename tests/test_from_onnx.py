"""`conveyor.from_onnx` computes what the node computes: ONNX's own tests, ONNX Runtime, the reference evaluator."""

import importlib
import io
import sys
import warnings
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import conveyor
from conveyor import zoo
from conveyor.errors import BadInput
from tiers import quick
from tolerance import assert_equal

T, B, INPUT, H = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": ["initial_h", "initial_c"], "GRU": ["initial_h"], "RNN": ["initial_h"]}
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
OPSET, IR_VERSION = 14, 8


def weights(op, directions=1, dtype=np.float32, biased=True, peepholes=False, seed=0):
    random = np.random.default_rng(seed)
    shapes = {"W": (GATES[op] * H, INPUT), "R": (GATES[op] * H, H)}
    shapes |= {"B": (2 * GATES[op] * H,)} if biased else {}
    shapes |= {"P": (3 * H,)} if peepholes else {}
    return {n: (0.5 * random.standard_normal((directions, *shape))).astype(dtype) for n, shape in shapes.items()}


def model(op, stored, given=("X",), outputs=None, name="", **attributes):
    """A model of one node, with some inputs stored and the others given."""
    inputs = INPUTS if op == "LSTM" else INPUTS[:6]
    outputs = outputs or ["Y", "Y_h", "Y_c"][: len(STATES[op]) + 1]
    names = [one if one in stored or one in given else "" for one in inputs]
    node = helper.make_node(op, names, outputs, name=name, **{"hidden_size": H, **attributes})
    kind = numpy_helper.from_array(stored["W"]).data_type if "W" in stored else TensorProto.FLOAT
    kinds = dict.fromkeys(inputs, kind) | {"sequence_lens": TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info(one, kinds[one], None) for one in given],
        [helper.make_tensor_value_info(one, kind, None) for one in outputs],
        [numpy_helper.from_array(value, one) for one, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def by_runtime(model, values):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, values), strict=True))


def by_reference(model, values):
    return dict(zip([o.name for o in model.graph.output], ReferenceEvaluator(model).run(None, values), strict=True))


def by_layer(layer, values, batch_first=False):
    """The layer's outputs as the operator has them."""
    swapped = (lambda value: np.swapaxes(value, 0, 1)) if batch_first else (lambda value: value)
    states = [torch.tensor(swapped(values[name])) for name in ("initial_h", "initial_c") if name in values]
    lengths = torch.tensor(values["sequence_lens"]) if "sequence_lens" in values else None
    with torch.no_grad():
        output, state = layer(torch.tensor(values["X"]), (tuple(states) or None) if states else None, lengths=lengths)
    found = dict(zip(["Y_h", "Y_c"], [state] if isinstance(state, torch.Tensor) else state, strict=False))
    output = output.unflatten(-1, (len(found["Y_h"]), -1))  # [T, B, directions, H], or [B, T, directions, H]
    found = {name: torch.as_tensor(swapped(value)) for name, value in found.items()}
    return {"Y": output if batch_first else output.transpose(1, 2), **found}


def assert_same(layer, wanted, values, **options):
    found = by_layer(layer, values, **options)
    for name, value in wanted.items():
        assert_equal(found[name], torch.as_tensor(value), name)


def random_values(op, directions=1, states=True, dtype=np.float32, seed=1):
    random = np.random.default_rng(seed)
    values = {"X": random.standard_normal((T, B, INPUT)).astype(dtype)}
    if states:
        values |= {n: random.standard_normal((directions, B, H)).astype(dtype) for n in STATES[op]}
    return values


def backend_tests():
    """The node tests of the three operators that ONNX has its backends pass, by name."""
    for op in GATES:
        importlib.import_module(f"onnx.backend.test.case.node.{op.lower()}")  # which makes the tests
    cases = importlib.import_module("onnx.backend.test.case.node")._NodeTestCases
    return {case.name: case for case in cases if case.model.graph.node[0].op_type in GATES}


BACKEND = backend_tests()


def test_onnx_has_the_tests_that_are_named_here():
    """Else one that is gone would not be missed."""
    kinds = ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")
    names = {f"test_{op}_{kind}" for op, kind in product(("lstm", "gru", "simple_rnn"), kinds)}
    assert names | {"test_lstm_with_peepholes", "test_gru_seq_length", "test_rnn_seq_length"} <= BACKEND.keys()


@pytest.mark.parametrize("name", BACKEND)
def test_a_test_of_onnx(name):
    """With its weights, which the tests give as inputs, stored in the model, and the rest given to the layer."""
    case = BACKEND[name]
    (node,) = case.model.graph.node
    ((inputs, outputs),) = case.data_sets
    values = dict(zip(filter(None, node.input), inputs, strict=True))
    kept = onnx.ModelProto()
    kept.CopyFrom(case.model)
    kept.graph.initializer.extend(
        numpy_helper.from_array(values.pop(n), n) for n in ("W", "R", "B", "P") if n in values
    )
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    found = by_layer(conveyor.from_onnx(kept), values, batch_first=attributes.get("layout") == 1)
    for output, wanted in zip(filter(None, node.output), outputs, strict=True):
        assert_equal(found[output], torch.as_tensor(wanted), output)


# What an operator is made with, and the class that its layer or cell is to be.
EACH = [
    ("LSTM", {}, conveyor.LSTM),
    ("LSTM", {"peepholes": True}, zoo.PeepholeLSTM),
    ("LSTM", {"input_forget": 1}, zoo.CoupledLSTM),
    ("LSTM", {"input_forget": 1, "peepholes": True}, zoo.CoupledPeepholeLSTM),
    ("LSTM", {"clip": 0.5}, "ActivatedLSTM"),
    ("LSTM", {"clip": 0.5, "peepholes": True}, "ActivatedLSTM"),
    ("LSTM", {"clip": 0.5, "input_forget": 1}, "ActivatedCoupledLSTM"),
    ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"], "input_forget": 1, "peepholes": True}, None),
    ("LSTM", {"activations": ["Tanh", "Sigmoid", "Elu"]}, "ActivatedLSTM"),
    ("GRU", {}, zoo.ResetBeforeGRU),
    ("GRU", {"linear_before_reset": 1}, conveyor.GRU),
    ("GRU", {"clip": 0.5}, "ActivatedResetBeforeGRU"),
    ("GRU", {"clip": 0.5, "linear_before_reset": 1}, "ActivatedGRU"),
    ("GRU", {"activations": ["HardSigmoid", "Softplus"]}, None),
    ("RNN", {}, conveyor.RNN),
    ("RNN", {"activations": ["Relu"]}, conveyor.RNN),
    ("RNN", {"activations": ["Sigmoid"]}, "ActivatedRNN"),
    ("RNN", {"clip": 0.5}, "ActivatedRNN"),
]
every_operator = pytest.mark.parametrize(
    ("op", "options", "made"), EACH, ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None
)


def assert_is_runtimes(op, options, biased=True, given=(), states=True, **attributes):
    """The layer of a random node computes what ONNX Runtime does. Returns the layer."""
    options = dict(options)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    stored = weights(op, directions, biased=biased, peepholes=options.pop("peepholes", False))
    values = random_values(op, directions, states) | dict(given)
    if directions == 2 and "activations" in options:
        options["activations"] = options["activations"] * 2
    made = model(op, stored, list(values), **options, **attributes)
    layer = conveyor.from_onnx(made)
    assert_same(layer, by_runtime(made, values), values)
    return layer


@every_operator
def test_a_random_node_is_that_of_onnx_runtime(op, options, made):
    layer = assert_is_runtimes(op, options)
    if made is not None:
        wanted = made if isinstance(made, str) else made.__name__
        assert wanted in (type(layer).__name__, type(layer.cell).__name__)


@every_operator
@pytest.mark.parametrize(
    ("direction", "biased"), quick([("bidirectional", True), ("reverse", False)], [("bidirectional", True)])
)
def test_directions_lengths_and_no_bias(op, options, made, direction, biased):
    del made
    lengths = {"sequence_lens": np.array([5, 2, 3], dtype=np.int32)}
    layer = assert_is_runtimes(op, options, biased, lengths, direction=direction)
    assert isinstance(layer, conveyor.nn.Reversed) == (direction == "reverse")


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_in_float64_it_is_that_of_the_reference_evaluator(op, direction):
    directions = 2 if direction == "bidirectional" else 1
    stored = weights(op, directions, np.float64, peepholes=op == "LSTM")
    values = random_values(op, directions, dtype=np.float64)
    made = model(op, stored, list(values), direction=direction)
    layer = conveyor.from_onnx(made)
    assert next(layer.parameters()).dtype == torch.float64
    assert_same(layer, by_reference(made, values), values)


PARAMETERS = {"Affine": (0.7, 0.3), "ScaledTanh": (0.7, 1.3), "HardSigmoid": (0.3, 0.4), "Elu": (0.6,)}
PARAMETERS |= {"LeakyRelu": (0.2,), "ThresholdedRelu": (0.5,)}


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", ["Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", *PARAMETERS])
def test_every_activation(name, given):
    if not given and name in ("Affine", "ScaledTanh", "ThresholdedRelu"):
        with pytest.raises(BadInput, match=f"{name} needs activation_alpha"):
            assert_is_runtimes("RNN", {"activations": [name]})
        return
    lists = dict(zip(("activation_alpha", "activation_beta"), PARAMETERS.get(name, ()) if given else (), strict=False))
    assert_is_runtimes("RNN", {"activations": [name]}, **{key: [value] for key, value in lists.items()})


def test_alpha_and_beta_are_those_of_the_functions_that_take_them():
    lists = {"activation_alpha": [0.3, 0.6], "activation_beta": [0.4]}
    assert_is_runtimes("LSTM", {"activations": ["HardSigmoid", "Tanh", "Elu"]}, **lists)


def test_each_direction_has_its_activations():
    for op, names in {"RNN": ["Tanh", "Relu"], "GRU": ["Sigmoid", "Tanh", "HardSigmoid", "Softsign"]}.items():
        stored, values = weights(op, 2), random_values(op, 2)
        made = model(op, stored, list(values), activations=names, direction="bidirectional")
        assert_same(conveyor.from_onnx(made), by_runtime(made, values), values)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layout_1_is_batch_first(op, direction):
    directions = 2 if direction == "bidirectional" else 1
    stored, values = weights(op, directions), random_values(op, directions)
    values = {name: np.ascontiguousarray(value.swapaxes(0, 1)) for name, value in values.items()}
    made = model(op, stored, list(values), layout=1, direction=direction)  # which ONNX Runtime lacks
    assert_same(conveyor.from_onnx(made), by_reference(made, values), values, batch_first=True)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_stored_initial_state_is_learnt(op, direction):
    directions = 2 if direction == "bidirectional" else 1
    rows = {n: np.random.default_rng(3).standard_normal((directions, 1, H)) for n in STATES[op][:1]}
    stored = weights(op, directions) | {n: row.repeat(B, 1).astype(np.float32) for n, row in rows.items()}
    values = random_values(op, directions, states=False)
    made = model(op, stored, ["X"], direction=direction)
    layer = conveyor.from_onnx(made)
    assert any("initial_state" in name for name, _ in layer.named_parameters())
    assert_same(layer, by_runtime(made, values), values)


def test_stored_zeros_are_no_parameters():
    stored = weights("LSTM") | {n: np.zeros((1, B, H), np.float32) for n in STATES["LSTM"]}
    assert not conveyor.from_onnx(model("LSTM", stored)).learn_initial_state


def test_weights_that_are_computed_of_what_is_stored():
    """As exporters leave them: W of a product, B of a constant and a concatenation, all in a function of the model."""
    stored, values = weights("GRU"), random_values("GRU")
    made = model("GRU", stored, list(values))
    wanted = by_runtime(made, values)
    graph = made.graph
    kept = [value for value in graph.initializer if value.name == "R"]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    halves = np.split(stored["B"], 2, 1)
    graph.initializer.extend(
        [numpy_helper.from_array(stored["W"] / 2, "half"), numpy_helper.from_array(halves[0], "B1")]
    )
    graph.initializer.append(numpy_helper.from_array(np.float32(2), "two"))
    nodes = [
        helper.make_node("Mul", ["half", "two"], ["W"]),
        helper.make_node("Constant", [], ["B2"], value=numpy_helper.from_array(halves[1])),
        helper.make_node("Concat", ["B1", "B2"], ["B"], axis=1),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    assert_same(conveyor.from_onnx(made), wanted, values)


def test_a_node_inside_a_function_of_the_model():
    stored, values = weights("LSTM"), random_values("LSTM")
    made = model("LSTM", stored, list(values))
    wanted = by_runtime(made, values)
    (node,) = made.graph.node
    takes, opsets = [name for name in node.input if name], [helper.make_opsetid("", OPSET)]
    function = helper.make_function("own", "Encoder", takes, list(node.output), [node], opsets)
    made.functions.append(function)
    del made.graph.node[:]
    made.graph.node.append(helper.make_node("Encoder", takes, list(node.output), domain="own"))
    made.opset_import.append(helper.make_opsetid("own", 1))
    assert_same(conveyor.from_onnx(made), wanted, values)


@pytest.mark.parametrize("kind", [np.float16, "bfloat16"])
def test_weights_in_half_precision(kind):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
    stored = {name: value.astype(kind) for name, value in weights("LSTM").items()}
    layer = conveyor.from_onnx(model("LSTM", stored))
    assert layer.weight_ih_l0.dtype == (torch.float16 if kind is np.float16 else torch.bfloat16)
    wide = conveyor.from_onnx(model("LSTM", {name: value.astype(np.float32) for name, value in stored.items()}))
    assert torch.equal(layer.weight_hh_l0.float(), wide.weight_hh_l0)


def test_a_path_bytes_and_a_file_with_its_weights_beside_it(tmp_path):
    stored, values = weights("LSTM"), random_values("LSTM")
    made = model("LSTM", stored, list(values))
    wanted = by_runtime(made, values)
    onnx.save(made, tmp_path / "one.onnx")
    for given in (tmp_path / "one.onnx", str(tmp_path / "one.onnx"), made.SerializeToString()):
        assert_same(conveyor.from_onnx(given), wanted, values)
    onnx.save(made, tmp_path / "two.onnx", save_as_external_data=True, location="two.data", size_threshold=0)
    assert_same(conveyor.from_onnx(tmp_path / "two.onnx"), wanted, values)
    with pytest.raises(BadInput, match=r"stores . in another file: give from_onnx the model's path"):
        conveyor.from_onnx((tmp_path / "two.onnx").read_bytes())
    (tmp_path / "two.data").unlink()
    with pytest.raises(BadInput, match=r"two\.(onnx|data)"):
        conveyor.from_onnx(tmp_path / "two.onnx")


def test_what_torch_exports_comes_back():
    """By PyTorch's own exporter, which leaves the initial state to be computed of the input's shape."""
    ours = torch.nn.LSTM(INPUT, H, bidirectional=True)
    x = torch.randn(T, B, INPUT)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(ours, (x,), file, dynamo=False, dynamic_axes={})
    back = conveyor.from_onnx(file.getvalue())
    assert isinstance(back, conveyor.LSTM)
    output, _ = back(x)
    assert_equal(output.detach(), ours(x)[0].detach())


def test_several_nodes_are_told_apart():
    first, second = model("LSTM", weights("LSTM"), name="encoder/lstm"), model("GRU", weights("GRU", seed=5))
    both = onnx.ModelProto()
    both.CopyFrom(first)
    for node in second.graph.node:
        both.graph.node.append(node)
        both.graph.node[-1].input[1:4] = ["gru.W", "gru.R", "gru.B"]
        both.graph.node[-1].output[:] = ["summary", "last"]
    for value in second.graph.initializer:
        both.graph.initializer.append(value)
        both.graph.initializer[-1].name = f"gru.{value.name}"
    with pytest.raises(BadInput, match=r"2 recurrent nodes: .*'encoder/lstm' \(LSTM\), 'summary' \(GRU\)"):
        conveyor.from_onnx(both)
    with pytest.raises(BadInput, match="2 recurrent nodes, and none of the name 'decoder'"):
        conveyor.from_onnx(both, "decoder")
    assert isinstance(conveyor.from_onnx(both, "encoder/lstm"), conveyor.LSTM)
    assert conveyor.from_onnx(both, node="summary").cell.state == ("h",)


SMALL = {"W": np.zeros((1, 4 * H, INPUT), np.float32), "R": np.zeros((1, 4 * H, H), np.float32)}
DIFFERENT = {"initial_h": np.arange(B * H, dtype=np.float32).reshape(1, B, H)}
BAD = {
    "an attribute that it lacks": ({"op": "RNN", "input_forget": 1}, "attribute input_forget is unknown"),
    "a direction": ({"direction": "sideways"}, "direction is 'sideways'; there are forward"),
    "an activation": ({"activations": ["Sigmoid", "Tanh", "Sine"]}, "activation Sine is unknown; there are Relu"),
    "too few activations": ({"activations": ["Sigmoid"]}, "1 times 3 activations, but names 1"),
    "too many parameters": ({"activation_alpha": [0.1]}, "have 1 values more than Sigmoid, Tanh, Tanh take"),
    "a clip of zero": ({"clip": 0.0}, "clip is 0.0, and must be above zero"),
    "a layout": ({"layout": 2}, "layout is 2; there are 0 and 1"),
    "another hidden_size": ({"hidden_size": 7}, r"hidden_size is 7, but R has shape \[1, 24, 6\]"),
    "W of another height": ({"W": np.zeros((1, 23, INPUT), np.float32)}, r"W must have shape \[1, 24, 4\]"),
    "R that is a matrix": ({"R": np.zeros((24, H), np.float32)}, "R must have shape"),
    "W of two dimensions": ({"W": np.zeros((24, INPUT), np.float32)}, "W and R must have three dimensions"),
    "one direction of two": ({"direction": "bidirectional"}, r"W must have shape \[2, 24, 4\], but has \[1, 24, 4\]"),
    "B of one bias": ({"B": np.zeros((1, 24), np.float32)}, r"B must have shape \[1, 48\]"),
    "P of two gates": ({"P": np.zeros((1, 12), np.float32)}, r"P must have shape \[1, 18\]"),
    "two types": ({"R": np.zeros((1, 24, H))}, "the weights must be of one type, but W is torch.float32, R is"),
    "whole numbers": (
        {"W": np.zeros((1, 24, INPUT), np.int64)},
        "W must be an array of real numbers, but its type is int64",
    ),
    "stored lengths": ({"sequence_lens": np.full(B, T, np.int32)}, "stores sequence_lens, for one batch only"),
    "a state for each row": (DIFFERENT, "initial_h, which differs between the rows of a batch: make it an input"),
    "a state of another width": (
        {"initial_h": np.ones((1, B, 7), np.float32)},
        "a row of the initial h must have shape",
    ),
    "half of a state": (
        {"initial_h": np.ones((1, B, H), np.float32), "given": ("X", "initial_c")},
        "stores initial_h alone, and another state comes from outside",
    ),
    "weights from outside": ({"W": None, "given": ("X", "W")}, "W is 'W', which comes from outside the model"),
    "no weights": ({"R": None}, "it has no R, which holds its weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_nodes_are_refused_by_name(case):
    changes, message = BAD[case]
    arrays = {n: v for n, v in (SMALL | changes).items() if isinstance(v, np.ndarray)}
    rest = {n: v for n, v in changes.items() if n not in INPUTS}
    op, given = rest.pop("op", "LSTM"), rest.pop("given", ("X",))
    if op == "RNN":
        arrays = weights("RNN")
    with pytest.raises(BadInput, match=f"{op} 'encoder': .*{message}"):
        conveyor.from_onnx(model(op, arrays, given, name="encoder", **rest))


def test_bad_files(tmp_path):
    whole = model("LSTM", weights("LSTM")).SerializeToString()
    path = tmp_path / "model.onnx"
    for content in (whole[: len(whole) // 2], b"no model at all\n", b"PK\x03\x04", bytes(1000), b""):
        path.write_bytes(content)
        for given in (path, content):
            with pytest.raises(BadInput, match="is no ONNX model"):
                conveyor.from_onnx(given)
    with pytest.raises(BadInput, match=r"other\.onnx: no such file"):
        conveyor.from_onnx(tmp_path / "other.onnx")
    with pytest.raises(TypeError, match=r"takes a path, bytes or an onnx.ModelProto, not int"):
        conveyor.from_onnx(3)


def test_a_model_without_such_a_node_says_what_it_has():
    made = model("LSTM", weights("LSTM"))
    made.graph.node[0].op_type, made.graph.node[0].domain = "DynamicQuantizeLSTM", "com.microsoft"
    with pytest.raises(BadInput, match=r"no LSTM, GRU, RNN among its nodes, which are com\.microsoft\.Dynamic"):
        conveyor.from_onnx(made)


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[onnx\]'"):
        conveyor.from_onnx("model.onnx")
