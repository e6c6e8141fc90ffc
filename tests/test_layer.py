"""The layer's interface, for every cell: recorded values, streaming, initial states, copies, and its refusals."""

import copy
import cProfile
import pickle
import sys

import pytest
import torch

import conveyor
from cases import CASES, Fed, Leaky, others, random_state, tensors
from conveyor import zoo
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 5, 3, 4, 6
every_cell = pytest.mark.parametrize("name", CASES)

NAMES = {
    "rnn": {"h"},
    "lstm": {"f", "i", "C_tilde", "C", "o", "h"},
    "lstm-projected": {"f", "i", "C_tilde", "C", "o", "m", "h"},
    "lstm-coupled": {"f", "C_tilde", "C", "o", "h"},
    "gru": {"z", "r", "h_tilde", "h"},
    "own": {"h_tilde", "a", "h"},
    "own, with streams": {"memory", "h"},
    "own, normed": {"n", "h_tilde", "h"},
    "own, nested": {"drive", "inner_h", "C", "h"} | {f"inner.{name}" for name in ("f", "i", "C_tilde", "C", "o", "h")},
}


@pytest.mark.parametrize("name", NAMES)
def test_record_returns_every_named_value(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True)
    output, _, values = layer(torch.randn(T, B, INPUT), record=True, **others(layer, T, B, torch.float32))
    assert set(values) == NAMES[name]
    for symbol, value in values.items():
        width = 4 if symbol.startswith("inner.") else layer.cell.widths.get(symbol, HIDDEN)
        assert value.shape == (2, 2, T, B, *[width] * (symbol != "n")), symbol
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
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True)
    x, further = torch.randn(T, B, INPUT), others(layer, T, B, torch.float32)
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
    further = others(layer, T, B)
    output, state = layer(torch.randn(T, B, INPUT, dtype=torch.float64), **further)
    assert {value.dtype for value in (output, *tensors(state))} == {torch.float64}
    assert all(p.device.type == "meta" for p in CASES[name].layer(INPUT, HIDDEN, device="meta").parameters())


@every_cell
def test_a_learnt_initial_state_starts_at_zero_and_learns(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True)
    x, further = torch.randn(T, B, INPUT), others(layer, T, B, torch.float32)
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
    layer = conveyor.LSTM(3, 5, 2, batch_first=True, bidirectional=True)
    assert repr(layer).startswith("LSTM(\n  3, 5, num_layers=2, batch_first=True, bidirectional=True\n")
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
        "whole numbers",
    ),
    "lengths without a batch": (lambda: conveyor.GRU(INPUT, HIDDEN)(X[:, 0], lengths=[1]), ValueError, "unbatched"),
    "size zero": (lambda: conveyor.LSTM(INPUT, 0), ValueError, "hidden_size must be greater than zero, not 0"),
    "size of another type": (lambda: conveyor.GRU(2.5, 3), TypeError, "input_size is a whole number, not 2.5"),
    "no layers": (lambda: conveyor.GRU(INPUT, HIDDEN, 0), ValueError, "num_layers must be greater than zero"),
    "dropout": (lambda: conveyor.LSTM(INPUT, HIDDEN, 2, dropout=2), ValueError, "dropout must be a probability"),
    "zoneout's name": (lambda: conveyor.GRU(INPUT, HIDDEN, zoneout={"C": 0.1}), ValueError, "states are h"),
    "option": (
        lambda: conveyor.Recurrent(zoo.GRU, 3, 5, proj_size=2),
        TypeError,
        "neither the layer nor GRU takes proj_size: the layer takes num_layers",
    ),
    "no cell": (lambda: conveyor.Recurrent("lstm", 3, 5), TypeError, "a class made from conveyor.Cell"),
    "peephole": (lambda: zoo.PeepholeLSTM(3, 5, peepholes=["candidate"]), ValueError, "peepholes is a list of gates"),
    "step of both directions": (
        lambda: conveyor.GRU(INPUT, HIDDEN, bidirectional=True).step(X[0]),
        ValueError,
        "starts at the end",
    ),
    "missing stream": (lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X), TypeError, "takes drive, key, but was given"),
    "unknown stream": (lambda: conveyor.GRU(INPUT, HIDDEN)(X, u=X), TypeError, "takes nothing, but was given u"),
    "stream's length": (
        lambda: conveyor.Recurrent(Fed, INPUT, HIDDEN)(X, drive=X[:2], key=X[0]),
        ValueError,
        r"drive must have the input's steps and rows \[5, 3\], not \[2, 3\]",
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

    class Short(conveyor.Cell):
        state = ("h", "C")

        def step(self, x, h, C):
            return h + C

    message = r"Short\.step \(test_layer\.py, line \d+\) must return the new \(h, C\), .* it returned \[\[3, 6\]\]"
    with pytest.raises(ValueError, match=message):
        conveyor.Recurrent(Short, INPUT, HIDDEN)(X)

    class Sometimes(conveyor.Cell):
        def step(self, x, h):
            if not h.any():
                first = h + 1
                return first
            return h

    with pytest.raises(ValueError, match=r"Sometimes\.step .* names first in some steps only"):
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

    with pytest.raises(ValueError, match="no value called y"):
        Mapping(INPUT, HIDDEN)
    with pytest.raises(ValueError, match=r"takes the widths \(h: 6, x: 4\), but was given values of widths \[4\]"):
        zoo.RNN(INPUT, HIDDEN).hidden(X[0])
