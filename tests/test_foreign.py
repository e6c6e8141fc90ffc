"""Cells that exist as modules, as layers by `Recurrent.of`: the layer, its kernel and a plain loop over the module."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import conveyor
from both import assert_kernel_is_loop, draw_inputs, results
from tolerance import KERNEL, assert_equal

D, H = 3, 5


class Spoken(nn.Module):
    """An output besides the state, of another width."""

    def __init__(self, input_size=D, hidden_size=H):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.read = nn.Linear(input_size + hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 4)

    def forward(self, x, h):
        mixed = self.read(torch.cat([x, h], -1))
        h = torch.tanh(mixed)
        return torch.relu(self.out(h)), h


class Apart(nn.Module):
    """Each state an argument; the states come back nested; without attributes for its sizes."""

    def __init__(self, inputs=D, units=H):
        super().__init__()
        self.of_x = nn.Linear(inputs, 4 * units)
        self.of_h = nn.Linear(units, 4 * units, bias=False)

    def forward(self, x, h, c):
        i, f, g, o = (self.of_x(x) + self.of_h(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class Normal(nn.Module):
    """A layer norm; the step is a method of another name."""

    def __init__(self, input_size=D, hidden_size=H):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.of_x, self.of_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def one_step(self, x, h):
        return torch.tanh(self.norm(self.of_x(x) + self.of_h(h)))


class Together(nn.Module):
    """Two states of different widths as one tuple; the memory is returned first, and the input's mean last."""

    def __init__(self, input_size=D, hidden_size=H):
        super().__init__()
        self.write = nn.Linear(input_size + hidden_size, 2)
        self.read = nn.Linear(2, hidden_size)

    def forward(self, x, state):
        h, m = state
        m = 0.5 * m + torch.tanh(self.write(torch.cat([x, h], -1)))
        return m, torch.tanh(self.read(m)), x.mean(-1)


class Reduced(nn.RNNCell):
    """A subclass of torch.nn's, with an attribute of the class for its sizes and its own equations around it."""

    def forward(self, input, hx=None):
        return 0.5 * hx + 0.5 * super().forward(input, hx)


# How each is made and called, and the plain call: from x and the states to the output and the states.
OWN = {
    "spoken": (Spoken, {"state": ("h",), "output": "y", "widths": {"y": 4}}, lambda m, x, h: m(x, h)),
    "apart": (
        Apart,
        {"state": ("h", "c"), "output": "y", "input_size": D, "hidden_size": H},
        lambda m, x, h, c: (lambda y, s: (y, *s))(*m(x, h, c)),
    ),
    "normal": (Normal, {"state": ["h"], "call": "one_step"}, lambda m, x, h: (m.one_step(x, h),) * 2),
    "together": (
        Together,
        {"state": ("h", "m"), "returns": ("m", "h", "mean"), "widths": {"m": 2}, "input_size": D, "hidden_size": H},
        lambda m, x, h, s: (lambda s, h, _: (h, h, s))(*m(x, (h, s))),
    ),
}
THEIRS = {
    "LSTMCell": (nn.LSTMCell, {}, lambda m, x, h, c: (lambda h, c: (h, h, c))(*m(x, (h, c)))),
    "LSTMCell without bias": (
        lambda i=D, h=H: nn.LSTMCell(i, h, bias=False),
        {},
        lambda m, x, h, c: (lambda h, c: (h, h, c))(*m(x, (h, c))),
    ),
    "GRUCell": (nn.GRUCell, {}, lambda m, x, h: (m(x, h),) * 2),
    "GRUCell without bias": (lambda i=D, h=H: nn.GRUCell(i, h, bias=False), {}, lambda m, x, h: (m(x, h),) * 2),
    "RNNCell": (nn.RNNCell, {}, lambda m, x, h: (m(x, h),) * 2),
    "RNNCell, relu": (lambda i=D, h=H: nn.RNNCell(i, h, nonlinearity="relu"), {}, lambda m, x, h: (m(x, h),) * 2),
    "a subclass": (Reduced, {}, lambda m, x, h: (m(x, h),) * 2),
}
CELLS = OWN | THEIRS
every_cell = pytest.mark.parametrize("name", CELLS)


def made(name):
    make, options, call = CELLS[name]
    torch.manual_seed(0)
    return (make() if name in OWN else make(D, H)).double(), options, call


def layer_of(name, **further):
    module, options, _ = made(name)
    return conveyor.Recurrent.of(module, **options, **further)


def stack_of(name, **further):
    """Two layers in both directions, from what makes their modules."""
    make, options, _ = CELLS[name]
    sizes = {"input_size": D, "hidden_size": H}
    return conveyor.Recurrent.of(make, **{**options, **sizes}, num_layers=2, bidirectional=True, **further).double()


def plain(name, module, x, *states):
    """The plain loop over a module: the output over time, and the last states."""
    outputs = []
    states = [state[0] for state in states]  # without layers and directions
    for x_t in x:
        output, *states = CELLS[name][2](module, x_t, *states)
        outputs.append(output)
    return torch.stack(outputs), *states


@every_cell
@pytest.mark.parametrize("backend", ["compiled", "eager"])
def test_a_layer_is_the_plain_loop_over_its_module(name, backend):
    module, options, _ = made(name)
    layer = conveyor.Recurrent.of(module, **options)
    given = draw_inputs(layer, 4, 2)
    inputs = [*given.values(), *module.parameters()]
    wanted = plain(name, module, *given.values())
    state = tuple(given[n] for n in layer.state_names)
    with conveyor.backend(backend):
        output, last, *_ = layer(given["x"], state if len(state) > 1 else state[0])
    found = (output, *(last if isinstance(last, tuple) else (last,)))
    for value, by_hand in zip(found, wanted, strict=True):
        assert_equal(value, by_hand.reshape(value.shape), table=KERNEL)
    gradients = [torch.autograd.grad(sum(v.cos().sum() for v in values), inputs) for values in (found, wanted)]
    for mine, by_hand in zip(*gradients, strict=True):
        assert_equal(mine, by_hand, table=KERNEL)


@every_cell
def test_stacks_directions_and_lengths(name):
    layer = stack_of(name, zoneout=0.2, learn_initial_state=True)
    assert len({id(cell.module) for cell in layer.cells}) == 4
    assert_kernel_is_loop(layer, draw_inputs(layer, 4, 3), lengths=[4, 0, 2], record=True)
    layer = stack_of(name, batch_first=True, dropout=0.4)
    x = torch.randn(3, 4, D, dtype=torch.float64)
    output, *_ = layer.eval()(x, lengths=[3, 1, 4])
    for row, length in enumerate([3, 1, 4]):
        assert_equal(output[row, :length], layer(x[row, :length])[0], table=KERNEL)  # unbatched
        assert not output[row, length:].any()


@every_cell
def test_step_by_step(name):
    layer = layer_of(name)
    x = torch.randn(3, 2, D, dtype=torch.float64)
    output, last, *_ = layer(x)
    state, seen = None, []
    for x_t in x:
        y, state, *_ = layer.step(x_t, state)
        seen.append(y)
    assert_equal(torch.stack(seen), output, table=KERNEL)
    for one, two in zip(state, last, strict=True):
        assert_equal(one, two, table=KERNEL)


def test_a_list_is_in_the_order_of_layers_and_directions_and_no_copy():
    modules = [nn.GRUCell(D, H), nn.GRUCell(D, H), nn.GRUCell(2 * H, H), nn.GRUCell(2 * H, H)]
    layer = conveyor.Recurrent.of(modules, num_layers=2, bidirectional=True)
    assert [cell.module for cell in layer.cells] == modules
    whole = nn.GRU(D, H, 2, bidirectional=True)
    for suffix, module in zip(("l0", "l0_reverse", "l1", "l1_reverse"), modules, strict=True):
        module.load_state_dict({k: whole.state_dict()[f"{k}_{suffix}"] for k in module.state_dict()})
    x = torch.randn(4, 2, D)
    assert_equal(layer(x)[0], whole(x)[0])
    tied = conveyor.Recurrent.of(nn.GRUCell(H, H), num_layers=3, tied=True)
    assert len(tied.cells) == 1
    assert tied(torch.randn(4, 2, H))[1].shape == (3, 2, H)


def test_what_a_module_returns_besides_comes_third():
    layer = layer_of("together")
    x = torch.randn(4, 2, D, dtype=torch.float64)
    _, _, values = layer(x)
    assert list(values) == ["mean"]
    assert_equal(values["mean"][0, 0], x.mean(-1))
    assert len(layer_of("spoken")(x)) == 2  # its output is no value besides


def test_the_variables_of_forward_are_recorded():
    layer = layer_of("spoken")
    x = torch.randn(4, 2, D, dtype=torch.float64)
    for backend in ("compiled", "eager"):
        with conveyor.backend(backend):
            output, h, values = layer(x, record=True)
        assert set(values) == {"mixed", "h", "y"}
        assert_equal(values["y"][0, 0], output)
        assert_equal(values["h"][0, 0, -1:], h)
        assert_equal(torch.tanh(values["mixed"]), values["h"], table=KERNEL)
        assert set(layer_of("LSTMCell")(x, record=True)[2]) == {"h", "C"}  # not what torch.nn calls its variables
    assert set(layer_of("normal", zoneout=0.1)(x, record=True)[2]) == {"h"}


@every_cell
def test_an_optimiser_that_was_made_before_goes_on(name):
    module, options, _ = made(name)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in module.parameters()]
    layer = conveyor.Recurrent.of(module, **options)
    assert {id(p) for p in layer.parameters()} == {id(p) for p in module.parameters()}
    x = torch.randn(4, 2, D, dtype=torch.float64)
    first, _, *_ = layer(x)
    first.square().sum().backward()
    optimiser.step()
    assert all((p != old).any() for p, old in zip(module.parameters(), before, strict=True))
    zeros = [torch.zeros(1, 2, layer.cell.widths[n], dtype=torch.float64) for n in layer.state_names]
    assert_equal(layer(x)[0], plain(name, module, x, *zeros)[0], table=KERNEL)


@every_cell
def test_copies_and_checkpoints(name):
    layer = stack_of(name)
    x = torch.randn(4, 2, D, dtype=torch.float64)
    output = layer(x)[0]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert_equal(again(x)[0], output)
        assert not {id(p) for p in again.parameters()} & {id(p) for p in layer.parameters()}
    names = [f"cells.{k}.module.{name}" for k, cell in enumerate(layer.cells) for name in cell.module.state_dict()]
    assert list(layer.state_dict()) == names
    other = copy.deepcopy(layer)
    other.reset_parameters()
    assert (other(x)[0] != output).any()
    other.load_state_dict(layer.state_dict())
    assert_equal(other(x)[0], output)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "spoken"])
def test_a_model_is_compiled_without_a_graph_break(name):
    torch._dynamo.reset()
    layer = stack_of(name)
    x = torch.randn(4, 2, D, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_equal(compiled(x)[0], layer(x)[0])


def test_second_derivatives_and_torch_func_use_the_loop():
    layer = layer_of("LSTMCell")
    x = torch.randn(2, 1, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], x)
    layer = layer_of("apart")  # for torch.nn's cells PyTorch has no vmap
    one_by_one = torch.stack([layer(row[:, None])[0][:, 0] for row in (x[:, 0], 2 * x[:, 0])])
    assert_equal(torch.func.vmap(lambda row: layer(row)[0])(torch.stack([x[:, 0], 2 * x[:, 0]])), one_by_one)


class Forgetful(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.drop = nn.GRUCell(D, H), nn.Dropout(0.5)

    def forward(self, x, h):
        return self.cell(self.drop(x), h)


def test_a_module_with_dropout_runs_by_the_loop_in_training_and_by_a_kernel_else():
    module = Forgetful()
    layer = conveyor.Recurrent.of(module, ("h",), input_size=D, hidden_size=H)
    x, h = torch.randn(4, 2, D), torch.zeros(2, H)
    torch.manual_seed(1)
    with pytest.warns(RuntimeWarning, match="random numbers"):
        output, _ = layer(x)
    torch.manual_seed(1)
    for x_t, y_t in zip(x, output, strict=True):
        h = module(x_t, h)
        assert_equal(y_t, h)
    with conveyor.backend("compiled"):
        layer.eval()(x)
    assert not module.training


def test_the_layer_has_the_mode_and_the_type_of_its_module():
    module = nn.GRUCell(D, H).double().eval()
    layer = conveyor.Recurrent.of(module, learn_initial_state=True, zoneout=0.5)
    assert not layer.training
    assert not layer.cell.training
    x = torch.randn(4, 2, D, dtype=torch.float64)
    assert_equal(layer(x)[0], layer(x)[0])  # zoneout's mean
    assert layer.initial_state["h"].dtype == torch.float64
    assert layer.train().cell.module.training


def test_a_hook_of_the_module_is_called():
    module = nn.GRUCell(D, H)
    layer = conveyor.Recurrent.of(module)
    x = torch.randn(4, 2, D)
    before = layer(x)[0]
    module.register_forward_hook(lambda *given: 2 * given[-1])
    assert (layer(x)[0] != before).any()
    assert_kernel_is_loop(layer.double(), draw_inputs(layer, 3, 2))


def test_empty_inputs():
    for name in CELLS:
        layer = layer_of(name)
        assert layer(torch.randn(0, 2, D, dtype=torch.float64))[0].shape == (0, 2, layer.output_size)
        assert layer(torch.randn(4, 0, D, dtype=torch.float64))[0].shape == (4, 0, layer.output_size)


class Wide(nn.Module):
    def forward(self, x, *, h):
        return h


class Open(nn.Module):
    def forward(self, x, hx=None, train=False):
        return hx


class Needy(nn.Module):
    def forward(self, x, h, time):
        return h


class Named(nn.Module):
    def forward(self, x, h=None, C=None):
        return torch.tanh(x + h), C + 1


def scripted():
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.script"):
        return torch.jit.script(nn.LSTMCell(3, 5))


of = conveyor.Recurrent.of
sized = {"input_size": D, "hidden_size": D}
BAD = {
    "no states": (lambda: of(Spoken()), TypeError, r"the states of Spoken are not known.*state="),
    "a string": (lambda: of(Spoken(), "h"), TypeError, r"write state=\('h',\)"),
    "no input size": (
        lambda: of(Apart(), ("h", "c")),
        TypeError,
        "Apart has no attribute input_size: pass input_size=",
    ),
    "no hidden size": (lambda: of(Apart(), ("h", "c"), input_size=3), TypeError, "no attribute hidden_size"),
    "too few modules": (
        lambda: of(nn.GRUCell(3, 5), num_layers=2),
        ValueError,
        "takes 2 modules, but was given 1.*list",
    ),
    "too few for two directions": (lambda: of([nn.GRUCell(3, 5)], bidirectional=True), ValueError, "takes 2 modules"),
    "a width of the second layer": (
        lambda: of([nn.GRUCell(3, 5)] * 2, num_layers=2),
        ValueError,
        "GRUCell has input_size=3, but at its place it is to have 5",
    ),
    "different states": (
        lambda: of([nn.GRUCell(5, 5), nn.LSTMCell(5, 5)], num_layers=2),
        ValueError,
        r"GRUCell are \(h\) and those of LSTMCell \(h, C\)",
    ),
    "other sizes than the module's": (lambda: of(nn.GRUCell(3, 5), hidden_size=6), ValueError, "hidden_size=5"),
    "a class without sizes": (lambda: of(nn.GRUCell), TypeError, "pass input_size= and hidden_size="),
    "a maker of no modules": (lambda: of(lambda *_: 3, **sized), TypeError, "is to make modules of PyTorch, not 3"),
    "no module": (lambda: of(3), TypeError, "a module, a list of modules or what makes them, not 3"),
    "no modules": (lambda: of([nn.GRUCell, 3], num_layers=2), TypeError, "must hold modules"),
    "a script": (lambda: of(scripted()), TypeError, "give the module before that"),
    "a width of zero": (lambda: of(nn.GRUCell(3, 5), hidden_size=0), ValueError, "hidden_size must be greater"),
    "a conveyor.Cell": (lambda: of(conveyor.zoo.LSTM(3, 5)), TypeError, r"write conveyor.Recurrent\(LSTM, "),
    "the class of one": (lambda: of(conveyor.zoo.LSTM), TypeError, r"write conveyor.Recurrent\(LSTM, "),
    "a layer with a cell": (lambda: conveyor.LSTM.of(nn.LSTMCell(3, 5)), TypeError, "use conveyor.Recurrent.of"),
    "a module in place of a class": (
        lambda: conveyor.Recurrent(nn.GRUCell(3, 5), 3, 5),
        TypeError,
        "becomes a layer by conveyor.Recurrent.of",
    ),
    "bias": (lambda: of(nn.GRUCell(3, 5), bias=False), TypeError, "bias is a matter of the module"),
    "recurrent dropout": (lambda: of(nn.GRUCell(3, 5), recurrent_dropout=0.1), ValueError, "leave it out, or write"),
    "an unknown option": (lambda: of(nn.GRUCell(3, 5), zonout=0.1), TypeError, "zonout"),
    "an unknown method": (lambda: of(Spoken(), ("h",), call="go"), TypeError, "there is no Spoken.go: .*call="),
    "a keyword only": (lambda: of(Wide(), ("h",), **sized), TypeError, r"Wide.forward\(x, h\) does not take x and"),
    "one more input": (lambda: of(Needy(), ("h",), **sized), TypeError, r"forward\(x, h, time\) does not take x and"),
    "ambiguous": (lambda: of(Open(), ("h", "c"), **sized), TypeError, "pass separate=True or separate=False"),
    "a reserved name": (lambda: of(Spoken(), ("h",), output="output"), ValueError, "no other use for.*'output'"),
    "no names": (lambda: of(Spoken(), ()), ValueError, "not none"),
    "one name twice": (lambda: of(nn.LSTMCell(3, 5), ("h", "h")), ValueError, r"each of \(h, h\) once"),
    "a state that is not returned": (
        lambda: of(Spoken(), ("h",), returns=("y",)),
        ValueError,
        r"each of \(h\) once, but returns is \(y\)",
    ),
    "a width of nothing": (
        lambda: of(Spoken(), ("h",), widths={"z": 4}),
        ValueError,
        "widths names z, but there are h",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_with_the_cure(case):
    attempt, error, message = BAD[case]
    with pytest.raises(error, match=message):
        attempt()


class Averaged(nn.Module):
    """In training it fails for one row, which the tracer tries; the loop need not be given one."""

    def __init__(self):
        super().__init__()
        self.read, self.norm = nn.Linear(D + H, H), nn.BatchNorm1d(H)

    def forward(self, x, h):
        return self.norm(self.read(torch.cat([x, h], -1)))


def test_the_warning_for_a_module_that_cannot_be_traced_names_its_line():
    module = Averaged().double()
    layer, other = of(module, ("h",), input_size=D, hidden_size=H), copy.deepcopy(module)
    x = torch.randn(4, 3, D, dtype=torch.float64)
    line = Averaged.forward.__code__.co_firstlineno + 1
    with pytest.warns(RuntimeWarning, match=rf"in the eager loop: test_foreign.py, line {line}: .*more than 1 value"):
        output = layer(x)[0]
    assert_equal(output, plain("GRUCell", other, x, torch.zeros(1, 3, H, dtype=torch.float64))[0])
    assert module.norm.num_batches_tracked == 4  # as many as there are steps: the tracer has left nothing behind
    assert_equal(module.norm.running_var, other.norm.running_var)


def test_a_further_input_is_refused_by_the_modules_name():
    with pytest.raises(TypeError, match="besides input and state, LSTMCell takes nothing, but was given z"):
        of(nn.LSTMCell(3, 5))(torch.randn(2, 1, 3), z=torch.randn(2, 1, 3))


def test_a_weight_that_is_computed_is_computed_once():
    module = nn.GRUCell(D, H).double()
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh")
    layer = of(module)
    assert_kernel_is_loop(layer, draw_inputs(layer, 3, 2))


@pytest.mark.parametrize("backend", ["compiled", "eager", "auto"])
def test_what_is_found_only_in_the_first_step_is_told_there(backend):
    x = torch.randn(2, 1, D)
    with conveyor.backend(backend):
        with pytest.raises(
            ValueError, match=r"Spoken.forward \(test_foreign.py, line \d+\) is to return \(h\).*output="
        ):
            of(Spoken(), ("h",))(x)
        with pytest.raises(ValueError, match=r"Spoken.forward .* must return y of shape \[1, 5\], not \[1, 4\]"):
            of(Spoken(), ("h",), output="y")(x)


def test_names_of_arguments_tell_how_several_states_are_taken():
    layer = of(Named(), ("h", "C"), **sized)
    assert layer.cell.separate
    assert_equal(layer(torch.zeros(4, 2, D))[1][1], torch.full((1, 2, D), 4.0))
    assert not of(nn.LSTMCell(3, 5)).cell.separate


def test_two_layers_may_share_a_module_that_is_given_twice():
    module = nn.GRUCell(H, H).double()
    layer = of([module, module], num_layers=2)
    assert len(list(layer.parameters())) == 4
    inputs = draw_inputs(layer, 3, 2)
    assert_kernel_is_loop(layer, inputs)
    assert results(layer, inputs)["output"].shape == (3, 2, H)
