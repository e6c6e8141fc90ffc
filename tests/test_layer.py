"""The layer's interface, for every cell: recorded values, streaming, initial states, copies, and its refusals."""

import copy
import cProfile
import pickle
import sys

import pytest
import torch
from torch.func import jacrev
from torch.nn.utils import parametrize

import conveyor
from cases import CASES, Fed, Leaky, every_cell, extra_inputs, random_state, tensors
from conveyor import zoo
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 5, 3, 4, 6

NAMES = {
    "rnn": {"h"},
    "lstm": {"f", "i", "C_tilde", "C", "o", "h"},
    "lstm-projected": {"f", "i", "C_tilde", "C", "o", "m", "h"},
    "lstm-coupled": {"f", "C_tilde", "C", "o", "h"},
    "gru": {"z", "r", "h_tilde", "h"},
    "own": {"h_tilde", "a", "h"},
    "own, with streams": {"memory", "h"},
    "own, normed": {"n", "h_tilde", "h"},
    "own, counted": {"phase", "h"},
    "own, with extra outputs": {"C", "p", "pair", "h", "inner.phase", "inner.h"},
    "own, nested": {"drive", "inner_h", "C", "h"} | {f"inner.{name}" for name in ("f", "i", "C_tilde", "C", "o", "h")},
}


@pytest.mark.parametrize("name", NAMES)
def test_record_returns_every_named_value(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True)
    output, _, values = layer(torch.randn(T, B, INPUT), record=True, **extra_inputs(layer, T, B, torch.float32))
    assert set(values) == NAMES[name]
    for symbol, value in values.items():
        width = 4 if name == "own, nested" and "inner." in symbol else layer.cell.widths.get(symbol, HIDDEN)
        shape = {"n": (), "p": (), "pair": (2, HIDDEN)}.get(symbol, (width,))
        assert value.shape == (2, 2, T, B, *shape), symbol
    both = torch.cat(tuple(values["h"][1]), -1)
    assert_equal(both, output, "the last layer's h is the output")


def test_recorded_values_are_those_of_the_equations():
    layer = conveyor.LSTM(INPUT, HIDDEN, dtype=torch.float64)
    x, cell = torch.randn(T, B, INPUT, dtype=torch.float64), layer.cell
    _, _, values = layer(x, record=True)
    v = {symbol: value[0, 0] for symbol, value in values.items()}
    h = torch.cat([torch.zeros(1, B, HIDDEN, dtype=torch.float64), v["h"][:-1]])
    C = torch.cat([torch.zeros(1, B, HIDDEN, dtype=torch.float64), v["C"][:-1]])
    for t in range(T):
        assert_equal(v["f"][t], torch.sigmoid(cell.forget(h[t], x[t])))
        assert_equal(v["C"][t], v["f"][t] * C[t] + v["i"][t] * v["C_tilde"][t])
    assert_equal(v["h"], v["o"] * torch.tanh(v["C"]))


def test_recorded_values_follow_the_form_of_the_input():
    x = torch.randn(T, B, INPUT)
    time_first, batch_first = conveyor.GRU(INPUT, HIDDEN), conveyor.GRU(INPUT, HIDDEN, batch_first=True)
    batch_first.load_state_dict(time_first.state_dict())
    _, _, values = time_first(x, record=True)
    _, _, swapped = batch_first(x.transpose(0, 1), record=True)
    _, _, single = time_first(x[:, 0], record=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [T, 3, 1])
    _, _, of_packed = time_first(packed, record=True)
    for symbol, value in values.items():
        assert_equal(swapped[symbol].transpose(2, 3), value)
        assert_equal(single[symbol], value[:, :, :, 0])
        assert_equal(of_packed[symbol][:, :, :3, 1], value[:, :, :3, 1])
        assert not of_packed[symbol][:, :, 3:, 1].any()


def test_a_value_without_rows_is_repeated_for_each_even_when_its_size_is_the_batchs():
    layer = CASES["own"].layer(INPUT, HIDDEN)
    for batch in (0, 1, HIDDEN, HIDDEN + 1):
        _, _, values = layer(torch.randn(T, batch, INPUT), record=True)
        assert values["a"].shape == (1, 1, T, batch, HIDDEN)
        assert_equal(values["a"][0, 0], torch.sigmoid(layer.cell.rate).expand(T, batch, HIDDEN))


def test_recording_leaves_a_profiler_at_work():
    calls = []
    sys.setprofile(lambda frame, *_: calls.append(frame.f_code.co_name))
    try:
        conveyor.GRU(INPUT, HIDDEN)(X, record=True)
        calls.clear()
        len(str(X.shape))
    finally:
        sys.setprofile(None)
    assert calls
    with cProfile.Profile() as profile:
        conveyor.GRU(INPUT, HIDDEN)(X, record=True)
        reversed_rows(X)
    assert any(entry.code.co_name == "reversed_rows" for entry in profile.getstats() if not isinstance(entry.code, str))


def reversed_rows(x):
    return x.flip(1)


def test_a_value_whose_width_differs_between_layers_comes_layer_by_layer():
    class Wide(Leaky):
        def step(self, x, h):
            y = 2 * x
            return super().step(y, h)

    _, _, values = conveyor.Recurrent(Wide, INPUT, HIDDEN, 2)(torch.randn(T, B, INPUT), record=True)
    assert [value.shape for value in values["y"]] == [(1, T, B, INPUT), (1, T, B, HIDDEN)]
    assert {"h_tilde", "a", "h"} < set(values)  # the names in the step of the class above, too


@every_cell
def test_copies_and_pickles_compute_the_same(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, learn_initial_state=True)
    x, further = torch.randn(T, B, INPUT), extra_inputs(layer, T, B, torch.float32)
    expected = layer(x, **further)[0]
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x, **further)[0], expected)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert torch.equal(layer(x, **further)[0], expected)  # the copy has its own weights


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_copies_of_the_drop_ins_still_read_torchs_weights(kind):
    theirs, layer = getattr(torch.nn, kind)(INPUT, HIDDEN), getattr(conveyor, kind)(INPUT, HIDDEN)
    x = torch.randn(T, B, INPUT)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.load_state_dict(theirs.state_dict())
        assert_equal(other(x)[0], theirs(x)[0])


@every_cell
def test_moving_to_another_type_moves_everything(name):
    layer = CASES[name].layer(INPUT, HIDDEN, zoneout=0.1, learn_initial_state=True).double().eval()
    further = extra_inputs(layer, T, B)
    output, state, *_ = layer(torch.randn(T, B, INPUT, dtype=torch.float64), **further)
    assert {value.dtype for value in (output, *tensors(state))} == {torch.float64}
    assert all(p.device.type == "meta" for p in CASES[name].layer(INPUT, HIDDEN, device="meta").parameters())


@every_cell
def test_a_learnt_initial_state_starts_at_zero_and_learns(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True)
    x, further = torch.randn(T, B, INPUT), extra_inputs(layer, T, B, torch.float32)
    zeros = tuple(torch.zeros_like(s) for s in tensors(random_state(layer, B, torch.float32)))
    expected = layer(x, zeros if len(zeros) > 1 else zeros[0], **further)[0]
    assert torch.equal(layer(x, **further)[0], expected)
    with torch.no_grad():
        for initial in layer.initial_state.values():
            initial.normal_()
    given = tuple(layer.initial_state[symbol][:, None].expand(-1, B, -1) for symbol in layer.state_names)
    assert torch.equal(layer(x, **further)[0], layer(x, given if len(given) > 1 else given[0], **further)[0])
    layer(x, **further)[0].square().sum().backward()
    for symbol, initial in layer.initial_state.items():
        assert initial.grad.abs().amax(1).min() > 0, symbol  # each layer's, in both directions


class Clock(conveyor.Cell):
    """Tells the number of each step."""

    extra = ("number",)

    def step(self, x, h, t):
        assert t.dtype == torch.int64
        assert t.shape == ()
        return h + t, t.expand(len(x))


def test_the_steps_are_numbered_in_the_order_in_which_they_are_taken():
    layer = conveyor.Recurrent(Clock, INPUT, HIDDEN, bidirectional=True)
    _, _, values = layer(X, lengths=[5, 2, 0], start=3)
    forward, backward = values["number"][0]
    assert forward.t().tolist() == [[3, 4, 5, 6, 7], [3, 4, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert backward.t().tolist() == [[7, 6, 5, 4, 3], [4, 3, 0, 0, 0], [0, 0, 0, 0, 0]]
    one = conveyor.Recurrent(Clock, INPUT, HIDDEN)
    assert one.step(X[0], start=9)[2]["number"].tolist() == [[[9, 9, 9]]]
    assert one(X[:0])[2]["number"].shape == (1, 1, 0, B)


def test_extra_outputs_follow_the_form_of_the_input():
    x = torch.randn(T, B, INPUT)
    time_first, batch_first = (CASES["own, with extra outputs"].layer(INPUT, HIDDEN, batch_first=b) for b in (0, 1))
    batch_first.load_state_dict(time_first.state_dict())
    _, state, values = time_first(x)
    assert {name: value.shape[4:] for name, value in values.items()} == {"p": (), "pair": (2, HIDDEN)}
    _, _, swapped = batch_first(x.transpose(0, 1))
    _, _, single = time_first(x[:, 0])
    _, _, packed = time_first(torch.nn.utils.rnn.pack_padded_sequence(x, [T, 3, 1]))
    _, _, now = batch_first.step(x[0])
    _, _, single_now = batch_first.step(x[0, 0])
    _, _, recorded = time_first(x, record=True)
    for name, value in values.items():
        assert_equal(swapped[name].transpose(2, 3), value)
        assert_equal(single[name], value[:, :, :, 0])
        assert_equal(packed[name][:, :, :3, 1], value[:, :, :3, 1])
        assert not packed[name][:, :, 3:, 1].any()
        assert_equal(now[name], value[:, :, 0])
        assert_equal(single_now[name], value[:, :, 0, 0])
        assert torch.equal(recorded[name], value)
    assert_equal(values["pair"][0, 0, -1], torch.stack([s[0] for s in state], 1))


def test_extra_outputs_pass_through_zoneout_and_dropout():
    layer = CASES["own, with extra outputs"].layer(INPUT, HIDDEN, zoneout=1.0, recurrent_dropout=0.5)
    output, _, values = layer(torch.randn(T, B, INPUT))
    assert not output.any()
    assert values["p"].all()


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("backend", ["auto", "compiled", "eager"])
@pytest.mark.parametrize("grad", [True, False])
def test_types_are_one_at_every_length_and_on_every_backend(steps, backend, grad):
    layer = CASES["own, with streams"].layer(INPUT, HIDDEN)
    x, further = torch.randn(steps, B, INPUT), extra_inputs(layer, steps, B, torch.float32)
    state = tuple(torch.randn(1, B, layer.cell.widths[name]) for name in layer.state_names)
    wrong = {
        "h is torch.float64": (x, (state[0].double(), state[1]), further),
        "memory is torch.int64": (x, (state[0], state[1].long()), further),
        "drive is torch.float64": (x, state, further | {"drive": further["drive"].double()}),
        "key is torch.bfloat16": (x, state, further | {"key": further["key"].bfloat16()}),
        "the input is torch.float64": (x.double(), state, further),
    }
    with conveyor.backend(backend), torch.set_grad_enabled(grad):
        layer(x, state, **further)
        for text, (value, given, named) in wrong.items():
            with pytest.raises(ValueError, match=rf"{text}, but .*weights are torch.float32: bring .*\.to\(torch"):
                layer(value, given, **named)


@every_cell
def test_jacobians_are_autograds(name):
    layer = CASES[name].layer(2, 3, bidirectional=True, dtype=torch.float64)
    x, further = torch.randn(3, 2, 2, dtype=torch.float64), extra_inputs(layer, 3, 2)

    def run(x):
        return layer(x, lengths=[3, 1], **further)[0]

    assert_equal(jacrev(run)(x), torch.autograd.functional.jacobian(run, x))


class Counting(torch.nn.Module):
    """A random weight drop that counts how often it is drawn."""

    count = 0

    def forward(self, weight):
        self.count += 1
        return weight * (torch.rand_like(weight) < 0.5)


@pytest.mark.parametrize("record", [False, True])
def test_a_parametrized_weight_is_computed_once_a_sequence(record):
    layer = conveyor.Recurrent(zoo.LSTM, INPUT, HIDDEN, 2, bidirectional=True)
    drop = Counting()
    parametrize.register_parametrization(layer.cells[3].forget, "weight_h", drop)
    drop.count = 0
    torch.manual_seed(7)
    output = layer(torch.randn(T, B, INPUT), record=record)[0]
    assert drop.count == 1
    output.sum().backward()
    layer(X)
    assert drop.count == 2


def test_a_layer_under_weight_norm_is_the_layer_that_it_was_and_turns_into_torchs():
    layer, x = conveyor.LSTM(INPUT, HIDDEN), torch.randn(T, B, INPUT)
    expected = layer(x)[0]
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_equal(layer(x)[0], expected)
    layer.load_state_dict(layer.state_dict())
    conveyor.restore(layer)
    assert type(layer).__mro__[1] is torch.nn.LSTM
    assert_equal(layer(x)[0], expected)


def test_blocks_of_an_affine_map():
    cell = zoo.PeepholeLSTM(INPUT, HIDDEN, peepholes=["input"])
    names = {name for name, _ in cell.named_parameters() if name.endswith("weight_C")}
    assert names == {"input.weight_C"}
    assert cell.input.weight_C.shape == (HIDDEN,)
    assert zoo.FullPeepholeLSTM(INPUT, HIDDEN).forget.weight_C.shape == (HIDDEN, HIDDEN)


def test_peepholes_at_zero_are_the_plain_lstm():
    plain, peephole = (conveyor.Recurrent(c, INPUT, HIDDEN) for c in (zoo.LSTM, zoo.PeepholeLSTM))
    missing, unexpected = peephole.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.endswith("weight_C") for name in missing)
    with torch.no_grad():
        for name in missing:
            peephole.get_parameter(name).zero_()
    x = torch.randn(T, B, INPUT)
    assert torch.equal(peephole(x)[0], plain(x)[0])


def test_it_prints_what_it_is():
    assert repr(conveyor.LSTM(3, 5, 2, zoneout=0.5)) == "LSTM(3, 5, num_layers=2, zoneout={'h': 0.5, 'C': 0.5})"
    layer = conveyor.Recurrent(zoo.LSTM, 3, 5, 2, batch_first=True, bidirectional=True)
    assert repr(layer).startswith("Recurrent(\n  3, 5, num_layers=2, batch_first=True, bidirectional=True\n")
    assert "forget): Affine(h, x -> 5, bias=True)" in repr(layer)
    assert "peepholes=['input']" in repr(conveyor.Recurrent(zoo.PeepholeLSTM, 3, 5, peepholes=["input"]))


X = torch.zeros(T, B, INPUT)
REFUSALS = {
    "width": (lambda: conveyor.LSTM(INPUT, HIDDEN)(torch.zeros(T, B, 9)), ValueError, r"input_size = 4.*\[5, 3, 9\]"),
    "dimensions": (lambda: conveyor.LSTM(INPUT, HIDDEN)(torch.zeros(4)), ValueError, r"3 dimensions.*\[4\]"),
    "type": (lambda: conveyor.LSTM(INPUT, HIDDEN)([1.0]), TypeError, "tensor or a PackedSequence, not list"),
    "one state of two": (lambda: conveyor.LSTM(INPUT, HIDDEN)(X, torch.zeros(1, B, HIDDEN)), ValueError, r"\(h, C\)"),
    "state's shape": (
        lambda: conveyor.GRU(INPUT, HIDDEN)(X, torch.zeros(1, B, 7)),
        ValueError,
        r"initial h must have shape \[1, 3, 6\], not \[1, 3, 7\]",
    ),
    "state's batch": (
        lambda: conveyor.GRU(INPUT, HIDDEN)(X[:, 0], torch.zeros(1, 1, HIDDEN)),
        ValueError,
        r"shape \[1, 6\], not \[1, 1, 6\]",
    ),
    "lengths too long": (lambda: conveyor.GRU(INPUT, HIDDEN)(X, lengths=[6, 1, 1]), ValueError, "between 0 and the 5"),
    "lengths of another batch": (lambda: conveyor.GRU(INPUT, HIDDEN)(X, lengths=[1]), ValueError, "batch has 3 rows"),
    "lengths with a fraction": (
        lambda: conveyor.GRU(INPUT, HIDDEN)(X, lengths=[1.5, 1, 1]),
        TypeError,
        "must be integers",
    ),
    "lengths without a batch": (lambda: conveyor.GRU(INPUT, HIDDEN)(X[:, 0], lengths=[1]), ValueError, "unbatched"),
    "size zero": (lambda: conveyor.LSTM(INPUT, 0), ValueError, "hidden_size must be greater than zero"),
    "size of another type": (lambda: conveyor.GRU(2.5, 3), TypeError, "input_size should be of type int, got: float"),
    "no layers": (lambda: conveyor.GRU(INPUT, HIDDEN, 0), ValueError, "num_layers must be greater than zero"),
    "dropout": (lambda: conveyor.LSTM(INPUT, HIDDEN, 2, dropout=2), ValueError, "dropout should be a number"),
    "zoneout's name": (lambda: conveyor.GRU(INPUT, HIDDEN, zoneout={"C": 0.1}), ValueError, "states are h"),
    "option": (
        lambda: conveyor.Recurrent(zoo.GRU, 3, 5, proj_size=2),
        TypeError,
        "neither the layer nor GRU takes proj_size: the layer takes num_layers",
    ),
    "no cell": (lambda: conveyor.Recurrent("lstm", 3, 5), TypeError, "a class made from conveyor.Cell"),
    "peephole": (lambda: zoo.PeepholeLSTM(3, 5, peepholes=["frget"]), ValueError, "'frget'.*did you mean forget"),
    "peepholes": (lambda: zoo.PeepholeLSTM(3, 5, peepholes="forget"), ValueError, "peepholes must be a list of gates"),
    "step of both directions": (
        lambda: conveyor.GRU(INPUT, HIDDEN, bidirectional=True).step(X[0]),
        ValueError,
        "starts at the end",
    ),
    "start below zero": (lambda: conveyor.GRU(INPUT, HIDDEN)(X, start=-1), ValueError, "whole number from 0, not -1"),
    "start of another type": (lambda: conveyor.GRU(INPUT, HIDDEN).step(X[0], start=0.5), ValueError, "not 0.5"),
    "a step number given": (lambda: conveyor.Recurrent(Clock, 4, 6)(X, t=X), TypeError, "takes nothing, .* given t"),
    "missing stream": (lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X), TypeError, "takes drive, key, but was given"),
    "unknown stream": (lambda: conveyor.GRU(INPUT, HIDDEN)(X, u=X), TypeError, "takes nothing, but was given u"),
    "stream's length": (
        lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X, drive=X[:2], key=X[0]),
        ValueError,
        r"drive must have the input's steps and rows \[5, 3\], not \[2, 3\]",
    ),
    "constant's rows": (
        lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X, drive=X, key=X[0, :1]),
        ValueError,
        r"key must have the input's 3 rows first, but its shape is \[1, 4\]",
    ),
    "stream of another type": (
        lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X, drive=3.0, key=X[0]),
        TypeError,
        "drive must be a tensor, not float",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_is_refused_with_the_shapes_involved(what):
    call, error, message = REFUSALS[what]
    with pytest.raises(error, match=message):
        call()


def test_a_cell_that_cannot_work_says_so():
    with pytest.raises(TypeError, match=r"Lost\.step takes \(x, h\), but the cell also has C"):

        class Lost(conveyor.Cell):
            state = ("h", "C")

            def step(self, x, h):
                return h, x

    with pytest.raises(TypeError, match="must be a tuple"):

        class Bare(conveyor.Cell):
            state = "h"

            def step(self, x, h):
                return h

    def step(self, x, h):
        return self.read(h, x), h

    def timed(self, x, h, t):
        return self.read(h, x), t

    def started(self, x, h, start):
        return self.read(h, x), start

    with pytest.raises(TypeError, match=r"extra must be a tuple .* not 'p'"):
        type("Text", (conveyor.Cell,), {"extra": "p", "step": step})
    for extra in (("h",), ("x",), ("lengths",), ("p", "p")):
        with pytest.raises(TypeError, match="must differ from each other"):
            type("Twice", (conveyor.Cell,), {"extra": extra, "step": step})
    for kind in ("state", "constant", "extra"):
        with pytest.raises(TypeError, match="t, which is the number of the step"):
            type("Timed", (conveyor.Cell,), {kind: ("t",), "step": timed})
    with pytest.raises(TypeError, match="takes start, which is an argument of the layer"):
        type("Started", (conveyor.Cell,), {"step": started})

    class Short(conveyor.Cell):
        state = ("h", "C")

        def step(self, x, h, C):
            return h + C

    message = r"Short\.step \(test_layer\.py, line \d+\) must return the new \(h, C\), .* it returned \[\[3, 6\]\]"
    with pytest.raises(ValueError, match=message):
        conveyor.Recurrent(Short, INPUT, HIDDEN)(X)

    class Few(conveyor.Cell):
        extra = ("p", "q")

        def step(self, x, h):
            return h, x[:, 0]

    message = r"Few\.step \(test_layer\.py, line \d+\) must return the new \(h\), of shapes \[\[3, 6\]\] "
    message += r"and the extra \(p, q\), with 3 rows each, but it returned \[\[3, 6\], \[3\]\]"
    with pytest.raises(ValueError, match=message):
        conveyor.Recurrent(Few, INPUT, HIDDEN)(X)
    with pytest.raises(ValueError, match=r"Few\.step .* with 1 rows each"):
        conveyor.Recurrent(Few, INPUT, HIDDEN)(X[:0])

    class Rowless(conveyor.Cell):
        extra = ("p",)

        def step(self, x, h):
            return h, x.sum()

    with pytest.raises(
        ValueError, match=r"Rowless\.step .* the extra \(p\), with 3 rows .* returned \[\[3, 6\], \[\]\]"
    ):
        conveyor.Recurrent(Rowless, INPUT, HIDDEN, zoneout=0.1)(X)

    class Sometimes(conveyor.Cell):
        def step(self, x, h):
            if not h.any():
                first = h + 1
                return first
            return h

    with pytest.raises(ValueError, match=r"Sometimes\.step .* assigns first in some steps only"):
        conveyor.Recurrent(Sometimes, HIDDEN, HIDDEN)(torch.zeros(T, B, HIDDEN), record=True)

    class Nothing(conveyor.Cell):
        def step(self, x, h):
            h = h + 1

    with pytest.raises(ValueError, match=r"but it returned \['NoneType'\]"):
        conveyor.Recurrent(Nothing, INPUT, HIDDEN)(X)

    class Mapping(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.map = self.affine("h", "y")

        def step(self, x, h):
            return h

    with pytest.raises(ValueError, match="does not know the width of y"):
        Mapping(INPUT, HIDDEN)
    with pytest.raises(ValueError, match=r"takes operands of widths \(h: 6, x: 4\), but got widths \[4\]"):
        zoo.RNN(INPUT, HIDDEN).hidden(X[0])
