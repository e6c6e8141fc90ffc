"""Gates that are blocks of a layer's parameters: what is shown, set, tied, copied and loaded is never another thing."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import conveyor
from conveyor import zoo
from tolerance import assert_equal

INPUT, HIDDEN = 5, 5
X = torch.randn(6, 3, INPUT, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("first", ["tied", "apart"])
def test_weights_that_are_tied_and_untied_are_those_that_run(name, first):
    layer, theirs = getattr(conveyor, name)(INPUT, HIDDEN), getattr(nn, name)(INPUT, HIDDEN)
    for tied in (first == "tied", first != "tied"):
        weight = nn.Parameter(torch.randn_like(layer.weight_hh_l0))
        for one in (layer, theirs):
            one.weight_ih_l0 = nn.Parameter(weight.detach().clone())
            one.weight_hh_l0 = one.weight_ih_l0 if tied else weight
        theirs.load_state_dict(layer.state_dict())
        results = []
        for one in (layer, theirs):
            output = one(X)[0]
            results.append([output, *torch.autograd.grad(output.square().sum(), list(one.parameters()))])
        for value, wanted in zip(*results, strict=True):
            assert_equal(value, wanted, f"tied: {tied}", {torch.float32: 1e-5})


@pytest.mark.parametrize("first", ["tied", "apart"])
def test_ties_within_a_cell_of_its_own_weights_come_and_go(first):
    layer = conveyor.Recurrent(zoo.LSTM, INPUT, HIDDEN)
    gates = layer.cells[0]
    for tied in (first == "tied", first != "tied"):
        gates.forget.weight_h = gates.input.weight_h if tied else nn.Parameter(torch.randn(HIDDEN, HIDDEN))
        results = []
        for name in ("compiled", "eager"):
            with conveyor.backend(name):
                results.append(layer(X)[0])
        assert_equal(*results, f"tied: {tied}")


def test_a_gate_is_set_by_its_name():
    layer = conveyor.LSTM(INPUT, HIDDEN)
    gate = layer.cells[0].forget
    gate.weight_h = torch.ones(HIDDEN, HIDDEN)
    gate.bias = torch.full((HIDDEN,), 3.0)
    with torch.no_grad():
        gate.weight_x.zero_()
    rows = slice(HIDDEN, 2 * HIDDEN)
    assert (layer.weight_hh_l0[rows] == 1).all()
    assert (layer.weight_ih_l0[rows] == 0).all()
    assert (layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows] == 3).all()
    assert (layer.weight_hh_l0[:HIDDEN] != 1).all()
    with pytest.raises(ValueError, match=r"forget.weight_h has shape \[5, 5\], but was given \[5\]"):
        gate.weight_h = torch.ones(HIDDEN)


CHANGES = {
    "fill": lambda bias: bias.fill_(1),
    "data": lambda bias: bias.data.fill_(1),
    "init": lambda bias: nn.init.constant_(bias, 1),
    "item": lambda bias: bias.__setitem__(0, 1),
    "out": lambda bias: torch.add(bias, 1, out=bias),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bias_that_is_a_sum_is_not_changed_in_vain(change):
    layer = conveyor.LSTM(INPUT, HIDDEN)
    with pytest.raises(RuntimeError, match="cannot be changed in place"), torch.no_grad():
        CHANGES[change](layer.cells[0].forget.bias)


def test_what_would_change_nothing_is_refused():
    layer = conveyor.LSTM(INPUT, HIDDEN)
    for use in (lambda cell: list(cell.parameters()), lambda cell: cell.state_dict(), pickle.dumps):
        with pytest.raises((RuntimeError, TypeError), match="layer"):
            use(layer.cells[0])
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with pytest.raises(RuntimeError, match="weight_hh_l0, which is computed"):
        layer.cells[0].forget.weight_h = torch.ones(HIDDEN, HIDDEN)
    with pytest.raises(RuntimeError, match="cannot be changed in place"):
        layer.cells[0].forget.weight_h.fill_(1)
    with pytest.raises(ValueError, match="weight_hh_l0 is computed"):
        conveyor.LSTM.from_torch(layer)
    with pytest.raises(AttributeError, match="bias=True"):
        conveyor.LSTM(INPUT, HIDDEN, bias=False).cells[0].forget.bias = nn.Parameter(torch.ones(HIDDEN))
    with pytest.raises(ReferenceError, match="keep the layer"):
        _ = conveyor.LSTM(INPUT, HIDDEN).cells[0].forget.weight_h
    with pytest.raises(TypeError, match=r"GRU takes no foo; .* zoneout"):
        conveyor.GRU(INPUT, HIDDEN, foo=1)


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        rnn = conveyor.LSTM(INPUT, HIDDEN)
        self.forget, self.rnn = rnn.cells[0].forget, rnn


def test_a_copy_of_a_gate_is_that_of_the_copied_layer():
    model = Holder()
    before = model.rnn.weight_hh_l0.detach().clone()
    copied = copy.deepcopy(model)
    copied.forget.weight_h = torch.zeros(HIDDEN, HIDDEN)
    assert torch.equal(model.rnn.weight_hh_l0, before)
    assert (copied.rnn.weight_hh_l0[HIDDEN : 2 * HIDDEN] == 0).all()


class Own(nn.LSTM):
    def forward(self, input, hx=None):
        return super().forward(input, hx)


def test_from_torch_keeps_what_there_is():
    ours = conveyor.LSTM(INPUT, HIDDEN, zoneout=0.5, learn_initial_state=True)
    assert repr(conveyor.LSTM.from_torch(ours)) == repr(ours)
    theirs = nn.LSTM(INPUT, HIDDEN)
    theirs.bias_hh_l0 = theirs.bias_ih_l0
    theirs.bias_ih_l0.requires_grad_(False)
    found = {name: p.requires_grad for name, p in conveyor.LSTM.from_torch(theirs).named_parameters()}
    assert [name for name, needs in found.items() if not needs] == ["bias_ih_l0", "bias_hh_l0"]
    with pytest.raises(TypeError, match="Own has a forward of its own"):
        conveyor.LSTM.from_torch(Own(INPUT, HIDDEN))


@pytest.mark.filterwarnings("ignore:the checkpoint holds every gate apart")
def test_checkpoints_of_gates_apart_load_or_say_what_does_not_fit():
    x = torch.randn(4, 2, INPUT)
    for name, cell in (("LSTM", zoo.LSTM), ("GRU", zoo.GRU), ("RNN", zoo.RNN)):
        old = conveyor.Recurrent(cell, INPUT, HIDDEN, 2, bidirectional=True)
        layer = getattr(conveyor, name)(INPUT, HIDDEN, 2, bidirectional=True)
        layer.load_state_dict(old.state_dict())
        assert_equal(layer(x)[0], old(x)[0])
        with pytest.raises(RuntimeError, match=r"Unexpected key.*cells\.1\."):
            getattr(conveyor, name)(INPUT, HIDDEN).load_state_dict(old.state_dict())
        with pytest.raises(RuntimeError, match=r"size mismatch for cells\.0\..*in the checkpoint"):
            getattr(conveyor, name)(INPUT + 1, HIDDEN, 2).load_state_dict(old.state_dict())
        with pytest.raises(RuntimeError, match="names of two layouts"):
            layer.load_state_dict(old.state_dict() | layer.state_dict())


def test_a_hook_on_a_gate_is_called_wherever_the_layer_runs():
    layer = conveyor.LSTM(INPUT, HIDDEN)
    layer.cells[0].forget.register_forward_hook(lambda *call: call[2] + 1)
    with torch.no_grad():
        whole, one = layer(X)[0], layer(X[:1])[0]
    assert_equal(one, whole[:1])
