"""PyTorch's own RNN, LSTM and GRU in place of a cell's loop: found however they are written, and the same numbers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, seed, settings
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import conveyor
from both import draw_inputs, results
from cases import CASES
from conveyor import zoo
from conveyor.layer import delegation
from random_cells import random_cells
from tiers import slow
from tolerance import TOLERANCE, assert_equal

X, H = 3, 4
TABLE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 3e-2}
THEIRS = {zoo.RNN: nn.RNN, zoo.ReluRNN: nn.RNN, zoo.LSTM: nn.LSTM, zoo.ProjectedLSTM: nn.LSTM, zoo.GRU: nn.GRU}


class Own(conveyor.Cell):
    """What the cells below have in common."""


class Reordered(Own):
    """An LSTM with its gates in another order, by other names, its cell state first."""

    state = ("memory", "y")
    output_name = "y"

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.d, self.a, self.c, self.b = (self.affine("x", "y") for _ in range(4))

    def step(self, x, memory, y):
        update = torch.tanh(self.c(x, y)) * torch.sigmoid(self.a(x, y))
        memory = update + memory * torch.sigmoid(self.d(x, y))
        return memory, torch.tanh(memory) * torch.sigmoid(self.b(x, y))


class Fused(Own):
    """One matrix for all gates of [x, h], cut by chunk."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.all = nn.Linear(input_size + hidden_size, 4 * hidden_size)

    def step(self, x, h, C):
        f, o, g, i = self.all(torch.cat([x, h], 1)).chunk(4, 1)
        C = f.sigmoid() * C + i.sigmoid() * g.tanh()
        return o.sigmoid() * C.tanh(), C


class Split(Own):
    """Two matrices in torch.nn's order, cut by split, two biases."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.of_x, self.of_h = nn.Linear(input_size, 4 * hidden_size), nn.Linear(hidden_size, 4 * hidden_size)

    def step(self, x, h, C):
        i, f, g, o = (self.of_x(x) + self.of_h(h)).split(self.hidden_size, -1)
        C = F.sigmoid(f) * C + F.sigmoid(i) * F.tanh(g)
        return F.sigmoid(o) * F.tanh(C), C


class Parameters(Own):
    """Matrices as x @ W, no linear maps, one bias, slices."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.W = nn.Parameter(torch.randn(input_size, 4 * hidden_size) / 3)
        self.U = nn.Parameter(torch.randn(hidden_size, 4 * hidden_size) / 3)
        self.b = nn.Parameter(torch.randn(4 * hidden_size))

    def step(self, x, h, C):
        n = self.hidden_size
        a = x @ self.W + h @ self.U + self.b
        gates = torch.sigmoid(a[:, : 3 * n])
        C = gates[:, :n] * C + gates[:, n : 2 * n] * torch.tanh(a[:, 3 * n :])
        return gates[:, 2 * n :] * torch.tanh(C), C


class ByHand(Own):
    """The logistic function written out, gates as a matrix of four rows."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.of_x = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.of_h = nn.Linear(hidden_size, 4 * hidden_size)

    def step(self, x, h, C):
        a = (self.of_x(x) + self.of_h(h)).view(len(x), 4, self.hidden_size)
        i, f, o = (1 / (1 + torch.exp(-a[:, k])) for k in range(3))
        C = f * C + i * torch.tanh(a[:, 3])
        return o * torch.tanh(C), C


class Interleaved(Own):
    """The gates of a unit beside each other, without biases."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.of_x = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.of_h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)

    def step(self, x, h, C):
        a = (self.of_x(x) + self.of_h(h)).view(len(x), self.hidden_size, 4)
        C = torch.sigmoid(a[..., 1]) * C + torch.sigmoid(a[..., 0]) * torch.tanh(a[..., 2])
        return torch.sigmoid(a[..., 3]) * torch.tanh(C), C


class Projected(Own):
    """An LSTM with a projection."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, h=2)
        self.all, self.down = nn.Linear(input_size + 2, 4 * hidden_size), nn.Linear(hidden_size, 2, bias=False)

    def step(self, x, h, C):
        i, f, g, o = torch.cat([self.all(torch.cat([h, x], 1))], 1).chunk(4, 1)
        C = torch.sigmoid(f) * C + torch.sigmoid(i) * torch.tanh(g)
        return self.down(torch.sigmoid(o) * torch.tanh(C)), C


class Gated(Own):
    """A GRU whose update gate means the opposite of torch.nn's."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.z, self.r = self.affine("h", "x"), self.affine("h", "x")
        self.W, self.U = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def step(self, x, h):
        z, r = torch.sigmoid(self.z(h, x)), torch.sigmoid(self.r(h, x))
        return (1 - z) * h + z * torch.tanh(self.W(x) + r * self.U(h))


class Mixed(Own):
    """A GRU in torch.nn's order, its mixture as a difference, by lerp's formula."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.W, self.U = nn.Linear(input_size, 3 * hidden_size), nn.Linear(hidden_size, 3 * hidden_size)

    def step(self, x, h):
        (a, b, c), (d, e, f) = self.W(x).chunk(3, 1), self.U(h).chunk(3, 1)
        new = torch.tanh(c + torch.sigmoid(a + d) * f)
        return h - torch.sigmoid(b + e) * (h - new)


class Lerped(Mixed):
    """The same with torch.lerp."""

    def step(self, x, h):
        (a, b, c), (d, e, f) = self.W(x).chunk(3, 1), self.U(h).chunk(3, 1)
        return torch.lerp(torch.tanh(c + torch.sigmoid(a + d) * f), h, torch.sigmoid(b + e))


class Plain(Own):
    """An RNN."""

    state = ("s",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.both = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, s):
        return self.both(torch.cat((s, x), -1)).tanh()


class Rectified(Plain):
    """An RNN with a rectifier."""

    def step(self, x, s):
        return F.relu(self.both(torch.cat((s, x), -1)))


OWN = {cls.__name__: cls for cls in [*Own.__subclasses__(), Lerped, Rectified]}
EVERY = {**OWN, **{cls.__name__: cls for cls in THEIRS}}
every_cell = pytest.mark.parametrize("name", EVERY)


def layer_of(name, layers=1, dtype=torch.float64, **options):
    torch.manual_seed(2)
    more = {"proj_size": 2} if name == "ProjectedLSTM" else {}
    return conveyor.Recurrent(EVERY[name], X, H, layers, dtype=dtype, **more, **options)


def assert_is_loop(layer, inputs, **keywords):
    """Everything that comes out, and every gradient."""
    with conveyor.backend("eager"):
        loop = results(layer, inputs, **keywords)
    with conveyor.backend("delegated"):
        found = results(layer, inputs, **keywords)
    assert list(found) == list(loop)
    for what, value in found.items():
        assert_equal(value, loop[what], what, TABLE)


@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_as_the_loop_however_it_is_written(name, dtype):
    layer = layer_of(name, dtype=dtype)
    assert_is_loop(layer, draw_inputs(layer, 5, 3))


@every_cell
@pytest.mark.parametrize("lengths", [None, [2, 5, 0], [0, 0, 0], [5, 5, 5], [1, 0, 5]])
def test_stacks_in_both_directions_with_lengths(name, lengths):
    layer = layer_of(name, 2, bidirectional=True)
    inputs = draw_inputs(layer, 5, 3)
    if lengths is not None:  # padding may be anything
        x = inputs["x"].detach().clone()
        for row, length in enumerate(lengths):
            x[length:, row] = torch.nan
        with conveyor.backend("delegated"), torch.no_grad():
            assert layer(x, lengths=lengths)[0].isfinite().all()
    assert_is_loop(layer, inputs, lengths=lengths)


@pytest.mark.parametrize("name", ["LSTM", "Fused", "GRU", "Plain"])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_packed_sequences(name, is_sorted):
    layer = layer_of(name, 2, bidirectional=True)
    if is_sorted:
        packed = pack_padded_sequence(torch.randn(5, 3, X).double(), [5, 3, 1])
    else:
        packed = pack_sequence([torch.randn(n, X).double() for n in (2, 5, 1)], enforce_sorted=False)
    state = tuple(torch.randn(4, 3, H).double() for _ in layer.state_names)
    found = []
    for backend in ("delegated", "eager"):
        data = packed.data.clone().requires_grad_()
        with conveyor.backend(backend):
            output, last = layer(packed._replace(data=data), state if len(state) > 1 else state[0])
        ends = last if isinstance(last, tuple) else (last,)
        gradients = torch.autograd.grad(output.data.sum() + sum(map(torch.sum, ends)), [data, *layer.parameters()])
        found.append((output.data, *ends, *gradients))
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
    for one, two in zip(*found, strict=True):
        assert_equal(one, two, "packed", TABLE)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # of torch.nn itself
@pytest.mark.parametrize("cell", THEIRS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_as_near_as_1e_6_to_torch_nn(cell, bidirectional):
    """The layers with torch.nn's weights, and so those of torch.nn: outputs and every gradient in float32."""
    torch.manual_seed(0)
    options = {"bidirectional": bidirectional, "num_layers": 2, "batch_first": True}
    options |= {"proj_size": 2} if cell is zoo.ProjectedLSTM else {}
    options |= {"nonlinearity": "relu"} if cell is zoo.ReluRNN else {}
    theirs = THEIRS[cell](X, H, **options)
    ours = getattr(conveyor, type(theirs).__name__).from_torch(theirs)
    found = []
    for module, x in zip((theirs, ours), [torch.randn(3, 6, X)] * 2, strict=True):
        given = x.clone().requires_grad_()
        with conveyor.backend("delegated"):
            output, last = module(given)
        ends = last if isinstance(last, tuple) else (last,)
        gradients = torch.autograd.grad(output.mean() + sum(map(torch.mean, ends)), [given, *module.parameters()])
        found.append((output, *ends, *gradients))
    for one, two in zip(*found, strict=True):
        assert_equal(one, two, "result", TOLERANCE)


@pytest.mark.parametrize("form", ["unbatched", "batch first"])
def test_forms_of_input_and_learnt_initial_states(form):
    layer = layer_of("LSTM", 2, batch_first=form == "batch first", learn_initial_state=True)
    for initial in layer.initial_state.values():
        nn.init.normal_(initial)
    x = torch.randn(3, 5, X).double() if form == "batch first" else torch.randn(5, X).double()
    assert_is_loop(layer, {"x": x.requires_grad_()})


@pytest.mark.parametrize("shape", [(0, 3, X), (5, 0, X), (1, 1, X)])
def test_nothing_to_compute(shape):
    layer = layer_of("GRU", 2)
    x = torch.randn(shape).double()
    with conveyor.backend("delegated"):
        output, last = layer(x)
    with conveyor.backend("eager"):
        expected, end = layer(x)
    assert_equal(output, expected, "output", TABLE)
    assert_equal(last, end, "state", TABLE)


def test_tied_layers_and_no_bias():
    torch.manual_seed(0)
    layer = conveyor.Recurrent(zoo.LSTM, H, H, 3, bias=False, tied=True, dtype=torch.float64)
    assert_is_loop(layer, draw_inputs(layer, 4, 2))


@pytest.mark.parametrize("lengths", [None, [5, 0, 2]])
def test_variational_dropout_of_the_input_has_the_same_masks(lengths):
    layer = layer_of("LSTM", 2, input_dropout=0.5, bidirectional=True)
    assert_is_loop(layer, draw_inputs(layer, 5, 3), lengths=lengths)


def test_dropout_between_layers_is_drawn_by_the_function_and_not_differentiated_twice():
    layer, x = layer_of("LSTM", 2, dropout=0.5), torch.randn(5, 3, X).double().requires_grad_()
    with conveyor.backend("delegated"):
        assert not torch.equal(layer(x)[0], layer(x)[0])
        (gradient,) = torch.autograd.grad(layer(x)[0].sum(), x)
        assert gradient.abs().sum() > 0
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
        layer.eval()
        assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("name", ["LSTM", "GRU", "Rectified", "Fused"])
@pytest.mark.parametrize("ours", [True, False])
def test_second_derivatives_are_the_loops(name, ours):
    if ours and name in ("LSTM", "GRU"):
        torch.manual_seed(2)
        layer = getattr(conveyor, name)(X, H, 2, bidirectional=True, dtype=torch.float64)
    else:
        layer = layer_of(name, 2, bidirectional=True)
    x, found = torch.randn(4, 3, X).double().requires_grad_(), []
    for backend in ("delegated", "eager"):
        with conveyor.backend(backend):
            output, _ = layer(x, lengths=[4, 0, 2])
        (first,) = torch.autograd.grad((output**2).sum(), x, create_graph=True)
        found.append(torch.autograd.grad((first**2).sum(), [x, *layer.parameters()]))
    for one, two in zip(*found, strict=True):
        assert_equal(one, two, "second derivative", TABLE)


def test_many_gradients_in_one():
    layer, x = layer_of("LSTM"), torch.randn(3, 2, X).double()
    with conveyor.backend("delegated"):
        batched = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x, vectorize=True)
        assert_equal(batched, torch.autograd.functional.jacobian(lambda x: layer(x)[0], x), "jacobian", TABLE)


def test_outputs_may_be_changed_in_place_and_a_graph_kept():
    layer, x = layer_of("LSTM"), torch.randn(3, 2, X).double().requires_grad_()
    with conveyor.backend("delegated"):
        output, _ = layer(x)
        output *= 2
        one = torch.autograd.grad(output.sum(), x, retain_graph=True)
        two = torch.autograd.grad(output.sum(), x)
    assert torch.equal(one[0], two[0])


@pytest.mark.parametrize("name", ["LSTM", "GRU", "Plain", "ProjectedLSTM"])
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_autocast_and_layers_in_bfloat16(name, lengths):
    layer = layer_of(name, 2, torch.float32)
    inputs = draw_inputs(layer, 4, 3)
    found = []
    for backend in ("delegated", "eager"):
        with conveyor.backend(backend), torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(results(layer, inputs, lengths=lengths))
    for what, value in found[0].items():
        assert_equal(value, found[1][what], what, {**TABLE, torch.float32: 6e-2})
    half = copy.deepcopy(layer).bfloat16()
    with conveyor.backend("delegated"), torch.no_grad():
        output = half(inputs["x"].bfloat16(), lengths=lengths)[0]
    with conveyor.backend("eager"), torch.no_grad():
        assert_equal(output, half(inputs["x"].bfloat16(), lengths=lengths)[0], "output", TABLE)


def layer_weights(layer, row):
    """In the order in which the step reads them."""
    found = delegation.of(layer, torch.zeros(1, 1, X).double(), False)
    return [get() for get in found.cells[row].weights.values()]


def test_weights_in_one_piece_of_memory():
    """As after flatten_parameters, the function is given memory of the layer's, and gradients are as before."""
    layer = layer_of("LSTM", 2, bidirectional=True)
    inputs = draw_inputs(layer, 4, 3)
    with conveyor.backend("delegated"):
        before = results(layer, inputs)
        layer.flatten_parameters()
        flat = delegation._flat[layer]
        assert len({p.untyped_storage().data_ptr() for p in layer.parameters()}) == 1
        after = results(layer, inputs)
        for what, value in after.items():
            assert torch.equal(value, before[what]), what
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(1.5)  # as an optimiser changes it
        every = [w for row in range(4) for w in layer_weights(layer, row)]
        assert flat.holds(every)
        changed = results(layer, inputs)
    assert not torch.equal(changed["output"], before["output"])
    assert_is_loop(layer, inputs)
    layer.cells[0].forget.bias = nn.Parameter(torch.ones(H).double())
    assert_is_loop(layer, inputs)
    assert_is_loop(copy.deepcopy(layer), inputs)


def test_what_the_functions_do_not_have_is_named_where_they_are_asked_for():
    layer, x = layer_of("LSTM"), torch.randn(4, 2, X).double()
    others = [
        (layer, {"record": True}, "recorded values"),
        (conveyor.Recurrent(zoo.LSTM, X, H, zoneout=0.1).double(), {}, "zoneout"),
        (conveyor.Recurrent(zoo.LSTM, X, H, recurrent_dropout=0.1).double(), {}, "recurrent dropout"),
        (conveyor.Recurrent(zoo.PeepholeLSTM, X, H).double(), {}, "peepholes"),
        (conveyor.Recurrent(zoo.ResetBeforeGRU, X, H).double(), {}, "reset before the product"),
    ]
    for other, keywords, reason in others:
        with conveyor.backend("delegated"), pytest.raises(conveyor.NotCompiled, match=reason):
            other(x, **keywords)
    with conveyor.backend("delegated"), pytest.raises(conveyor.NotCompiled, match=r"torch\.func"):
        torch.func.grad(lambda x: layer(x)[0].sum())(x)
    with conveyor.backend("delegated"), pytest.raises(ValueError, match="last dimension must be input_size"):
        layer(torch.randn(4, 2, X + 1).double())
    with conveyor.backend("delegated"), pytest.raises(ValueError, match="the weights are"):
        layer(x.float())


def test_where_they_are_usual_the_rest_takes_another_way(monkeypatch):
    """As on a GPU, with a processor in its place."""
    monkeypatch.setattr(delegation, "DEVICES", {"cpu"})
    used = []
    run = delegation.Delegate.run
    monkeypatch.setattr(delegation.Delegate, "run", lambda *given: used.append(given) or run(*given))
    layer, x = layer_of("Fused"), torch.randn(4, 2, X).double()
    layer(x)
    conveyor.LSTM(X, H).double()(x, lengths=[1, 4])
    assert len(used) == 2
    layer(x, record=True)
    torch.func.grad(lambda x: layer(x)[0].sum())(x)
    conveyor.Recurrent(zoo.PeepholeLSTM, X, H).double()(x)
    conveyor.Recurrent(zoo.LSTM, X, H, zoneout=0.5).double()(x)
    with conveyor.backend("eager"):
        layer(x)
    assert len(used) == 2


# LSTMs both: one begins with another bias, the other is Greff's without peepholes.
SAME = {"RNN", "ReluRNN", "LSTM", "ProjectedLSTM", "GRU", "ForgetBiasLSTM", "NoPeepholesLSTM"}


@pytest.mark.parametrize("name", CASES)
def test_no_false_hit_in_the_zoo(name):
    """What is taken for one of torch.nn's has their equations, and no other has."""
    torch.manual_seed(0)
    layer = CASES[name].layer(X, H)
    assert is_taken(layer) == (type(layer.cell).__name__ in SAME)


def is_taken(layer):
    dtype = next((p.dtype for p in layer.parameters()), torch.float32)
    x = torch.zeros(1, 1, layer.input_size, dtype=dtype)
    with conveyor.backend("delegated"):
        try:
            return delegation.of(layer, x, False) is not None
        except conveyor.NotCompiled:
            return False


@pytest.mark.parametrize("batch", range(5))
def test_no_false_hit_in_500_random_cells(batch):
    taken, seen = [], []

    @seed(batch)
    @settings(max_examples=100, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(random_cells())
    def look(cell):
        layer = conveyor.Recurrent(cell, X, H)
        seen.append(cell)
        if is_taken(layer):
            taken.append(layer)

    look()
    assert len(seen) >= 100
    for layer in taken:  # a random cell may be one of torch.nn's
        assert_is_loop(layer.double(), draw_inputs(layer.double(), 4, 2))
    assert len(taken) <= 2


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "Fused" else slow) for n in ("Fused", "LSTM", "Gated")]
)
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_under_torch_compile_it_is_one_operation(name, lengths):
    torch._dynamo.reset()
    layer = layer_of(name, bidirectional=lengths is not None)
    x = torch.randn(4, 3, X).double().requires_grad_()
    counts = None if lengths is None else torch.tensor(lengths)
    found = []
    for backend in ("delegated", "eager"):

        def run(x):
            return layer(x, lengths=counts)

        with conveyor.backend(backend):
            if backend == "delegated":
                run = torch.compile(run, fullgraph=True, backend="aot_eager")
            output, last = run(x)
        ends = last if isinstance(last, tuple) else (last,)
        loss = output.sum() + sum(map(torch.sum, ends))
        found.append((output, *ends, *torch.autograd.grad(loss, [x, *layer.parameters()])))
    for one, two in zip(*found, strict=True):
        assert_equal(one, two, "compiled", TABLE)


@pytest.mark.parametrize("rectified", [lambda a: torch.clamp(a, min=0), lambda a: torch.maximum(a, 0 * a)])
def test_a_rectifier_of_another_slope_at_zero_is_not_theirs(rectified):
    class Other(Plain):
        def step(self, x, s):
            return rectified(self.both(torch.cat((s, x), -1)))

    assert not is_taken(conveyor.Recurrent(Other, X, H))
