"""Models that hold a layer, by torch.onnx.export: the same as in PyTorch, for any time and batch."""

import io

import onnxruntime
import pytest
import torch
from torch import nn

import conveyor
from cases import CASES, extra_inputs, tensors
from conveyor import zoo
from conveyor.language import LanguageModel
from tiers import quick

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # PyTorch's own

BOUND = 1e-5
SIZES = ((5, 2), (1, 1), (9, 3))  # steps and rows; the first are those of the export
T, B = torch.export.Dim("T"), torch.export.Dim("B")
OWN = ("LSTM", "GRU", "RNN", "Scan")


class Model(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(rnn.output_size, 2)

    def forward(self, x, lengths=None):
        output, state = self.rnn(x, lengths=lengths)
        return self.out(output), *tensors(state)


class Several(nn.Module):
    """Layers side by side, each with further inputs of its own."""

    def __init__(self, names):
        super().__init__()
        self.layers = nn.ModuleList(CASES[name].layer(3, 6, num_layers=2) for name in names)

    def forward(self, x, further):
        results = []
        for layer, given in zip(self.layers, further, strict=True):
            output, state, *values = layer(x, **given)
            results += [output, *tensors(state), *(one for named in values for one in each(named))]
        return results


def each(named):
    return (one for value in named.values() for one in (value if isinstance(value, list) else [value]))


def exported(model, given, shapes=None, **options):
    """The model of ONNX; in all given tensors the dimensions are time and batch."""
    shapes = shapes or tuple({0: T, 1: B} for _ in given)
    options = {"custom_translation_table": conveyor.onnx_translations(), **options}
    return torch.onnx.export(model, given, dynamo=True, dynamic_shapes=shapes, verbose=False, **options).model_proto


def session(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def assert_same(running, model, given, bound=BOUND):
    """ONNX Runtime gives what the loop over the step does. `given`: arguments, in lists and dictionaries."""
    with torch.no_grad(), conveyor.backend("eager"):
        wanted = torch.utils._pytree.tree_leaves(model(*given))
    names, values = [i.name for i in running.get_inputs()], torch.utils._pytree.tree_leaves(given)
    found = running.run(None, {name: v.numpy() for name, v in zip(names, values, strict=True)})
    for k, (value, other) in enumerate(zip(found, wanted, strict=True)):
        assert value.shape == other.shape, f"result {k}"
        assert (torch.from_numpy(value) - other).abs().max() <= bound * max(1.0, other.abs().max()), f"result {k}"


MAKES = {
    "two layers": (lambda: conveyor.Recurrent(zoo.LSTM, 3, 6, num_layers=2), ["LSTM", "LSTM"]),
    "torch.nn's": (lambda: conveyor.LSTM(3, 6), ["LSTM"]),
    "bidirectional": (lambda: conveyor.GRU(3, 6, bidirectional=True), ["GRU", "GRU"]),
    "learnt": (lambda: conveyor.Recurrent(zoo.RNN, 3, 6, learn_initial_state=True), ["RNN"]),
    "regularised": (lambda: conveyor.Recurrent(zoo.GRU, 3, 6, zoneout=0.2), ["Scan"]),
}


@pytest.mark.parametrize("name", quick(MAKES, of=["two layers"]))
def test_a_model_is_the_same_in_onnx_for_any_time_and_batch(name):
    make, operations = MAKES[name]
    model = Model(make()).eval()
    if name == "learnt":
        nn.init.normal_(model.rnn.initial_state["h"])
    made = exported(model, (torch.randn(5, 2, 3),))
    assert [node.op_type for node in made.graph.node if node.op_type in OWN] == operations
    running = session(made.SerializeToString())
    for steps, rows in SIZES:
        assert_same(running, model, (torch.randn(steps, rows, 3),))


FEW = ("own, with streams", "own, counted", "own, with extra outputs")
REST = [name for name in CASES if name not in FEW]
GROUPS = [FEW, *(tuple(REST[k::5]) for k in range(5))]  # since each call of torch.onnx.export takes seconds


@pytest.mark.filterwarnings("ignore:# ONNX model has different number of inputs:UserWarning")  # of a layer with none
@pytest.mark.parametrize("names", [pytest.param(g, marks=[pytest.mark.slow] * (g is not FEW), id=g[0]) for g in GROUPS])
def test_every_cell_is_the_same_in_onnx(names):
    model = Several(names).eval()

    def given(steps, rows):
        return torch.randn(steps, rows, 3), [extra_inputs(one, steps, rows, torch.float32) for one in model.layers]

    x, further = given(*SIZES[0])
    free = [
        {name: {0: B} if name in one.cell.constant else {0: T, 1: B} for name in tensors_}
        for one, tensors_ in zip(model.layers, further, strict=True)
    ]
    made = exported(model, (x, further), ({0: T, 1: B}, free))
    running = session(made.SerializeToString())
    for steps, rows in SIZES:
        assert_same(running, model, given(steps, rows))


def test_a_language_model_is_the_same_in_onnx():
    model = LanguageModel(11, zoo.GRU, 6, num_layers=2).eval()
    running = session(exported(model, (torch.randint(11, (5, 2)),)).SerializeToString())
    for sizes in SIZES:
        assert_same(running, model, (torch.randint(11, sizes),))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [zoo.LSTM, zoo.GRU, zoo.RNN, zoo.MUT1])
def test_in_float64_it_is_exact(cell):
    model = Model(conveyor.Recurrent(cell, 3, 6)).double().eval()
    running = session(exported(model, (torch.randn(5, 2, 3).double(),)).SerializeToString())
    for steps, rows in SIZES:
        assert_same(running, model, (torch.randn(steps, rows, 3).double(),), bound=1e-13)


@pytest.mark.parametrize("table", [None, {}])
def test_without_the_table_the_error_names_it(table):
    conveyor.onnx_translations()  # that it has been made is not enough
    model, given = Model(conveyor.Recurrent(zoo.LSTM, 3, 6)).eval(), (torch.randn(5, 2, 3),)
    with pytest.raises(Exception, match=r"conveyor\.onnx_translations\(\)"):
        exported(model, given, custom_translation_table=table)


def test_lengths_are_refused():
    model, given = Model(conveyor.Recurrent(zoo.LSTM, 3, 6)).eval(), (torch.randn(5, 2, 3), torch.tensor([5, 3]))
    with pytest.raises(Exception, match="lengths= has no translation to ONNX"):
        exported(model, given, ({0: T, 1: B}, {0: B}))


class Bessel(conveyor.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        return torch.special.i1(self.candidate(h, x))


@pytest.mark.filterwarnings("ignore:.*it runs slowly:RuntimeWarning")
def test_a_cell_without_a_kernel_is_exported_for_the_steps_of_the_example_only():
    """Else torch.onnx.export would fix their number, and say nothing."""
    model, x = Model(conveyor.Recurrent(Bessel, 3, 6)).eval(), torch.randn(5, 2, 3)
    with pytest.raises(Exception, match=r"special_i1 has no rule(.|\n)*leave the dimension of time out"):
        exported(model, (x,))
    with pytest.raises(conveyor.NotCompiled, match="leave the dimension of time out"):
        torch.export.export(model, (x,), dynamic_shapes=({0: T, 1: B},))
    program = torch.export.export(model, (x,), dynamic_shapes=({1: B},)).module()
    more = torch.randn(5, 4, 3)
    torch.testing.assert_close(program(more), model(more))


def traced_to_onnx(module, given, axes):
    file, names = io.BytesIO(), [f"input_{k}" for k in range(len(given))]
    axes = dict(zip(names, axes, strict=True))
    torch.onnx.export(module, given, file, dynamo=False, input_names=names, dynamic_axes=axes)
    return session(file.getvalue())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:Exporting a model:UserWarning")
def test_the_older_export_refuses_loops_and_writes_what_torch_nn_would():
    time_and_batch = [{0: "T", 1: "B"}]
    layers = [conveyor.Recurrent(zoo.LSTM, 3, 6), conveyor.LSTM(3, 6, zoneout=0.1), conveyor.GRU(3, 3, 2, tied=True)]
    for layer in layers:
        with pytest.raises(RuntimeError, match=r"cuts longer inputs short(.|\n)*conveyor\.onnx_translations\(\)"):
            traced_to_onnx(layer.eval(), (torch.randn(5, 2, 3),), time_and_batch)
    for make in (conveyor.LSTM, conveyor.GRU, conveyor.RNN):
        layer = make(3, 6, learn_initial_state=True).eval()
        for value in layer.initial_state.values():
            nn.init.normal_(value)
        running = traced_to_onnx(layer, (torch.randn(5, 2, 3),), time_and_batch)
        for steps, rows in SIZES:
            assert_same(running, layer, (torch.randn(steps, rows, 3),))
    for make in (conveyor.LSTMCell, conveyor.GRUCell, conveyor.RNNCell):
        cell = make(3, 6).eval()
        running = traced_to_onnx(cell, (torch.randn(2, 3),), [{0: "B"}])
        assert_same(running, cell, (torch.randn(7, 3),))


def test_a_layer_takes_by_position_its_input_and_state_only():
    with pytest.raises(TypeError, match="name the others: lengths, record, start"):
        conveyor.Recurrent(zoo.GRU, 3, 6)(torch.randn(5, 2, 3), None, [5, 3])
