"""Layers as models of ONNX, run by ONNX Runtime: the same as in PyTorch, whole, in chunks and by single steps."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch

import conveyor
from cases import CASES, extra_inputs, random_state, tensors
from conveyor import zoo
from conveyor.errors import BadInput
from conveyor.exporting.onnx.model import model
from conveyor.language import LanguageModel
from op_cells import OPS, SHAPED, driven, op_cell

STEPS, BOUND = 200, 1e-5
OWN = {
    "rnn": "RNN",
    "rnn-relu": "RNN",
    "lstm": "LSTM",
    "lstm-peephole": "LSTM",
    "lstm-coupled": "LSTM",
    "gru": "GRU",
    "gru-reset-before": "GRU",
    "lstm-forget-bias": "LSTM",
    "lstm-vanilla": "LSTM",
    "lstm-np": "LSTM",
    "lstm-cifg": "LSTM",
}


def session(made):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def given_of(further, cell):
    """The shapes of streams and constants, as the tracing takes them."""
    return [(name, tuple(v.shape[1 if name in cell.constant else 2 :]), None) for name, v in further.items()]


def run(made, names, x, states, further, constant, counts, cut):
    """What chunks of these lengths give, each from the states of the last: outputs and last states."""
    running, found, start = session(made), [], 0
    states = {f"{name}_0": value.numpy() for name, value in zip(names, states, strict=True)}
    outputs = [output.name for output in made.graph.output]
    for length in cut:
        rows = slice(start, start + length)
        given = {"input": x[rows].numpy(), **states}
        given |= {name: (v if name in constant else v[rows]).numpy() for name, v in further.items()}
        if counts:
            given["start"] = np.asarray(start)
        wanted = {value.name for value in made.graph.input}
        result = dict(zip(outputs, running.run(None, {n: v for n, v in given.items() if n in wanted}), strict=True))
        states = {f"{name}_0": result.pop(f"{name}_n") for name in names}
        found.append(result)
        start += length
    whole = {n: np.concatenate([f[n] for f in found], 0 if n == "output" else 2 - ("." in n)) for n in found[0]}
    return whole, list(states.values())


def assert_near(actual, wanted, what):
    actual = torch.as_tensor(actual)
    assert actual.shape == wanted.shape, f"{what}: {list(actual.shape)}, not {list(wanted.shape)}"
    error = (actual - wanted).abs().max().item() / max(1.0, wanted.abs().max().item())
    assert error <= BOUND, f"{what}: off by {error:.3g}"


def assert_exported(rnn, steps=STEPS, cuts=((STEPS,), (1, 7, 64, 128), (1,) * STEPS), shapes=None, change=None):
    batch = 3
    further = extra_inputs(rnn, steps, batch, torch.float32, shapes)
    further = {name: change(value) if change else value for name, value in further.items()}
    x, state = torch.randn(steps, batch, rnn.input_size), random_state(rnn, batch, torch.float32)
    made = model(rnn, given_of(further, rnn.cell))
    rnn.eval()
    with torch.no_grad(), conveyor.backend("eager"):
        output, last, *values = rnn(x, state, **further)
    for cut in cuts:
        counts = "t" in rnn.cell.arguments
        found, ends = run(made, rnn.state_names, x, tensors(state), further, rnn.cell.constant, counts, cut)
        assert_near(found["output"], output, "output")
        for name, end, wanted in zip(rnn.state_names, ends, tensors(last), strict=True):
            assert_near(end, wanted, name)
        for name, wanted in (values[0] if values else {}).items():
            if isinstance(wanted, list):
                for k, one in enumerate(wanted):
                    assert_near(found[f"{name}.{k}"], one, name)
            else:
                assert_near(found[name], wanted, name)
    return made


def operations(made):
    return [node.op_type for node in made.graph.node if node.op_type in ("LSTM", "GRU", "RNN", "Scan")]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_every_cell_is_the_same_whole_in_chunks_and_step_by_step(name, layers):
    rnn = CASES[name].layer(3, 6, num_layers=layers)
    made = assert_exported(rnn)
    assert operations(made) == [OWN.get(name, "Scan")] * rnn.num_layers


class Joined(conveyor.Cell):
    """An LSTM as many write it: one matrix for [x, h] and all gates, and names of its own."""

    state = ("shown", "memory")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.all = torch.nn.Linear(input_size + hidden_size, 4 * hidden_size)

    def step(self, x, shown, memory):
        u, v, w, y = self.all(torch.cat([x, shown], 1)).chunk(4, 1)
        memory = torch.tanh(w) * torch.sigmoid(v) + memory * torch.sigmoid(u)
        return torch.tanh(memory) * torch.sigmoid(y), memory


class Lerped(conveyor.Cell):
    """A GRU by interpolation, with its reset gate before the product."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.gates = torch.nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.new = torch.nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, h):
        a, b = torch.sigmoid(self.gates(torch.cat([h, x], 1))).chunk(2, 1)
        return h + a * (torch.tanh(self.new(torch.cat([b * h, x], 1))) - h)


def changed(cell, body):
    """A cell with another step."""
    return type(cell.__name__, (cell,), {"step": body})


def lstm_that_shows(f):
    def step(self, x, h, C):
        i, o = torch.sigmoid(self.input(h, x)), torch.sigmoid(self.output(h, x))
        C = f(torch.sigmoid(self.forget(h, x)), C) + i * torch.tanh(self.candidate(h, x))
        return o * torch.tanh(C), C

    return changed(zoo.LSTM, step)


def foreign(module):
    return conveyor.Recurrent.of(module(3, 6))


@pytest.mark.parametrize(
    ("make", "operation"),
    [
        (lambda: conveyor.LSTM(3, 6), "LSTM"),
        (lambda: conveyor.LSTM(3, 6, bias=False), "LSTM"),
        (lambda: conveyor.GRU(3, 6), "GRU"),
        (lambda: conveyor.RNN(3, 6, nonlinearity="relu"), "RNN"),
        (lambda: foreign(torch.nn.LSTMCell), "LSTM"),
        (lambda: foreign(torch.nn.GRUCell), "GRU"),
        (lambda: conveyor.Recurrent(Joined, 3, 6), "LSTM"),
        (lambda: conveyor.Recurrent(Lerped, 3, 6), "GRU"),
        (lambda: conveyor.Recurrent(lstm_that_shows(lambda f, C: f * C), 3, 6), "LSTM"),
        (lambda: conveyor.Recurrent(lstm_that_shows(lambda f, C: (1 - f) * C), 3, 6), "LSTM"),
        (lambda: conveyor.Recurrent(zoo.LSTM, 3, 6, zoneout=0.2), "Scan"),
        (lambda: conveyor.Recurrent(lstm_that_shows(lambda f, C: f * f * C), 3, 6), "Scan"),
        (lambda: conveyor.Recurrent(lstm_that_shows(lambda f, C: f * torch.tanh(C)), 3, 6), "Scan"),
        (lambda: conveyor.Recurrent(lstm_that_shows(lambda f, C: (2 - f) * C), 3, 6), "Scan"),
        (lambda: conveyor.LSTM(3, 6, proj_size=2), "Scan"),
    ],
)
def test_an_operation_of_onnx_is_found_by_the_equations(make, operation):
    made = assert_exported(make(), steps=20, cuts=((20,), (1, 19)))
    assert operations(made) == [operation]
    if operation != "Scan":
        assert not {node.op_type for node in made.graph.node} & {"Transpose", "Concat"}  # weights are as they are read


@pytest.mark.parametrize("tie", [True, False])
def test_a_language_model(tie):
    network = LanguageModel(11, zoo.GRU, 6, num_layers=2, tie=tie).eval()
    tokens = torch.randint(11, (20, 3))
    head = torch.nn.Linear(6, 11)
    with torch.no_grad():
        head.weight.copy_(network.embedding.weight if tie else network.output)
        head.bias.copy_(network.bias)
        wanted, state = network(tokens)
    made = model(network.rnn, head=head, embedding=network.embedding.weight)
    given = {"tokens": tokens.numpy(), "h_0": np.zeros((2, 3, 6), np.float32)}
    found, last = session(made).run(["output", "h_n"], given)
    assert_near(found, wanted, "logits")
    assert_near(last, state, "h")
    assert operations(made) == ["GRU", "GRU"]


POSITIVE = {"log", "sqrt", "one by sqrt", "power 1.5"}  # those that are defined for positive numbers only


@pytest.mark.parametrize("operation", OPS)
def test_every_operation_is_the_same(operation):
    shapes = {name: (*size, 13) for name, size in SHAPED.items()}
    change = torch.abs if operation in POSITIVE else None
    for spelling in OPS[operation]:
        rnn = conveyor.Recurrent(op_cell(spelling), 3, 13)
        if operation in POSITIVE:  # its operand is a stream times this map
            torch.nn.init.zeros_(rnn.cell.a.weight_h)
            torch.nn.init.zeros_(rnn.cell.a.weight_x)
        assert_exported(rnn, 6, ((6,),), shapes, change)


def test_what_has_no_single_step_or_another_type_says_so():
    with pytest.raises(BadInput, match="bidirectional"):
        model(conveyor.LSTM(3, 6, bidirectional=True))
    with pytest.raises(BadInput, match="float32 or float64"):
        model(conveyor.Recurrent(zoo.LSTM, 3, 6).bfloat16())


@pytest.mark.parametrize("cell", [zoo.LSTM, zoo.MUT1])
def test_learnt_states_are_those_that_are_not_given(cell, tmp_path):
    rnn = conveyor.Recurrent(cell, 3, 6, num_layers=2, learn_initial_state=True).eval()
    for value in rnn.initial_state.values():
        torch.nn.init.normal_(value)
    running = session(model(rnn))
    for rows in (1, 3):
        x = torch.randn(5, rows, 3)
        with torch.no_grad():
            output, state = rnn(x)
            further, _ = rnn(x, state)
        states = {f"{name}_0": v.numpy() for name, v in zip(rnn.state_names, tensors(state), strict=True)}
        for given, wanted in (({}, output), (states, further)):
            found, *_ = running.run(None, {"input": x.numpy(), **given})
            assert_near(found, wanted, "output")
    conveyor.export(rnn, tmp_path / "learnt", to="onnx")


def test_the_format_proves_what_it_wrote(tmp_path):
    report = conveyor.export(conveyor.Recurrent(zoo.MUT1, 3, 6, num_layers=2), tmp_path / "mut1", to="onnx")
    assert (tmp_path / "mut1" / "mut1.onnx").exists()
    assert report is not None


@pytest.mark.parametrize("cell", [CASES["own, with extra outputs"].cell, CASES["own, with streams"].cell])
def test_the_format_has_further_inputs_and_outputs(cell, tmp_path):
    conveyor.export(conveyor.Recurrent(cell, 3, 6, num_layers=2), tmp_path / "own", to="onnx")


@pytest.mark.parametrize("name", ["batch_size", "shape", "Add", "tokens", "embedding"])
def test_values_of_the_model_give_way_to_the_names_of_streams(name, tmp_path):
    layer = conveyor.Recurrent(driven(name), 3, 6, num_layers=2)
    assert conveyor.export(layer, tmp_path / "own", to="onnx").proof.error <= BOUND


@pytest.mark.parametrize("name", ["h_0", "h_n"])
def test_a_stream_that_is_called_as_an_input_or_output_of_the_model_is_refused(name, tmp_path):
    with pytest.raises(BadInput, match=f"two values called {name}: rename that of Driven"):
        conveyor.export(conveyor.Recurrent(driven(name), 3, 6, num_layers=2), tmp_path / "own", to="onnx")
    assert not [*tmp_path.iterdir()]


def test_the_format_writes_a_language_model(tmp_path):
    conveyor.export(LanguageModel(11, zoo.GRU, 6, num_layers=2), tmp_path / "model", to="onnx")


def test_without_the_package_it_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[onnx\]'"):
        conveyor.export(conveyor.Recurrent(zoo.LSTM, 3, 6), tmp_path / "model", to="onnx")
    assert not [*tmp_path.iterdir()]
