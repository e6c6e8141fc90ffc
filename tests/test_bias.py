"""What the argument `bias` of a layer does to each cell: None leaves it to the cell, True and False are obeyed."""

import re

import numpy as np
import pytest
import torch

import conveyor
from both import assert_kernel_is_loop, draw_inputs
from cases import CASES
from conveyor import backend, zoo
from conveyor.cell import Affine
from oracles import cells as oracle
from tolerance import KERNEL, assert_equal

GATES = {"update", "reset", "candidate"}
# The maps without a bias; those of ResetBeforeGRU can have one.
WITHOUT = {
    "lstm-projected": {"projection"},
    "gru-reset-before": GATES,
    "mut1": {"embed"},
    "mut2": {"embed"},
    "attention-soft": {"query"},
    "attention-hard": {"query"},
    "own, normed": {"candidate"},
}


def maps(layer):
    """The affine maps of a layer's first cell, by name."""
    return {name: module for name, module in layer.cell.named_modules() if isinstance(module, Affine)}


def without_bias(layer):
    return {name for name, module in maps(layer).items() if module.bias is None}


@pytest.mark.parametrize("name", CASES)
def test_a_cells_maps_have_the_biases_that_are_asked_for(name):
    case = CASES[name]
    layer = case.layer(3, 4)
    assert layer.bias is None
    assert without_bias(layer) == WITHOUT.get(name, set())
    assert "bias" not in layer.extra_repr()
    layer = case.layer(3, 4, bias=False)
    assert layer.bias is False
    assert without_bias(layer) == maps(layer).keys()
    assert not any(part.bias is not None for below in getattr(layer, "ground", ()) for part in below.values())
    assert "bias=False" in layer.extra_repr()
    if name == "own, normed":
        with pytest.raises(
            TypeError, match="bias=True says nothing to Normed, which has no bias: leave it out, or let"
        ):
            case.layer(3, 4, bias=True)
        return
    layer = case.layer(3, 4, bias=True)
    assert layer.bias is True
    assert without_bias(layer) == (set() if name == "gru-reset-before" else WITHOUT.get(name, set()))
    assert all(part.bias is not None for below in getattr(layer, "ground", ()) for part in below.values())


def test_the_argument_keeps_its_place():
    assert without_bias(conveyor.Recurrent(zoo.LSTM, 3, 5, 1, False)) == {"forget", "input", "candidate", "output"}
    assert without_bias(conveyor.Recurrent(zoo.LSTM, 3, 5, 1, True, True)) == set()
    assert conveyor.LSTM(3, 5).bias is True


@pytest.mark.parametrize("bias", ["no", 0.5, 2])
def test_a_bias_is_true_false_or_none(bias):
    with pytest.raises(TypeError, match=re.escape("bias is True, False, or None for what the cell has by itself, not")):
        conveyor.Recurrent(zoo.LSTM, 3, 5, bias=bias)


class Taking(conveyor.Cell):
    """Takes the option, and hands it to one map of two."""

    def __init__(self, input_size, hidden_size, bias=False):
        super().__init__(input_size, hidden_size)
        self.a, self.b = self.affine("h", bias=bias), self.affine("x", bias=False)

    def step(self, x, h):
        return torch.tanh(self.a(h) + self.b(x))


class Plain(conveyor.Cell):
    """No affine map that a bias could be taken from."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.read = torch.nn.Linear(input_size, hidden_size)

    def step(self, x, h):
        return torch.tanh(self.read(x) + h)


def test_an_own_cell_may_take_the_option_and_is_else_asked_in_vain():
    assert [without_bias(conveyor.Recurrent(Taking, 3, 5, bias=bias)) for bias in (None, True, False)] == [
        {"a", "b"},
        {"b"},
        {"a", "b"},
    ]
    for bias in (True, False):
        with pytest.raises(TypeError, match=f"bias={bias} says nothing to Plain, which has no affine map"):
            conveyor.Recurrent(Plain, 3, 5, bias=bias)
    assert conveyor.Recurrent(Plain, 3, 5)(torch.randn(4, 2, 3))[0].shape == (4, 2, 5)


def onnx_weights(layer):
    """Random weights for ONNX's operator, put into the layer: its z keeps the state, while ours lets the new one in."""
    draw = np.random.default_rng(0).standard_normal
    W, R, Wb, Rb = ({k: draw(shape) for k in "zrh"} for shape in ((5, 3), (5, 5), 5, 5))
    with torch.no_grad():
        for k, part in (("z", layer.cell.update), ("r", layer.cell.reset), ("h", layer.cell.candidate)):
            sign = -1 if k == "z" else 1
            part.weight_x.copy_(sign * torch.from_numpy(W[k]))
            part.weight_h.copy_(sign * torch.from_numpy(R[k]))
            part.bias.copy_(sign * torch.from_numpy(Wb[k] + Rb[k]))
    return W, R, Wb, Rb


@pytest.mark.parametrize("choice", ["eager", "compiled"])
def test_resetting_before_with_biases_is_the_default_gru_of_onnx(choice):
    layer = conveyor.Recurrent(zoo.ResetBeforeGRU, 3, 5, bias=True).double()
    weights = onnx_weights(layer)
    x, h, by = (np.random.default_rng(1).standard_normal(shape) for shape in ((4, 2, 3), (2, 5), (4, 2, 5)))
    with backend(choice):
        output, last = layer(torch.from_numpy(x), torch.from_numpy(h)[None])
    outputs, (h_n,) = oracle.gru_onnx(x, h, *weights)
    assert_equal(output, torch.from_numpy(outputs), table=KERNEL)
    assert_equal(last[0], torch.from_numpy(h_n), table=KERNEL)
    (output * torch.from_numpy(by)).sum().backward()
    parts = {"z": (layer.cell.update, -1), "r": (layer.cell.reset, 1), "h": (layer.cell.candidate, 1)}
    for k, (part, sign) in parts.items():
        for place, gradient in enumerate((part.weight_x.grad, part.weight_h.grad, part.bias.grad)):
            assert_equal(sign * gradient, by_complex_step(x, h, weights, by, place, k), f"{place} of {k}", KERNEL)


def by_complex_step(x, h, weights, by, place, k):
    """The gradient of the outputs, weighed by `by`, by W, R or Wb of a gate."""
    found = np.zeros_like(weights[place][k])
    for index in np.ndindex(found.shape):
        shifted = [{name: value.astype(complex) for name, value in each.items()} for each in weights]
        shifted[place][k][index] += 1e-30j
        found[index] = (oracle.gru_onnx(x, h, *shifted)[0] * by).sum().imag / 1e-30
    return torch.from_numpy(found)


def test_the_kernel_with_biases_in_stacks_and_directions():
    layer = conveyor.Recurrent(zoo.ResetBeforeGRU, 3, 5, 2, bias=True, bidirectional=True).double()
    assert_kernel_is_loop(layer, draw_inputs(layer, 4, 3), lengths=[4, 0, 2], record=True)
    other = conveyor.Recurrent(zoo.ResetBeforeGRU, 3, 5, 2, bias=True, bidirectional=True).double()
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    assert_equal(other(x)[0], layer(x)[0])
    with pytest.raises(RuntimeError, match="Unexpected key"):
        conveyor.Recurrent(zoo.ResetBeforeGRU, 3, 5, 2, bidirectional=True).load_state_dict(layer.state_dict())
