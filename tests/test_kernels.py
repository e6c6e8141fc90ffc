"""Which kernel a cell has: that of its step as it is now, and gradients of whatever computes its weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import conveyor
from tolerance import KERNEL, assert_equal


def by_both(layer, x):
    found = []
    for name in ("compiled", "eager"):
        with conveyor.backend(name), torch.no_grad():
            found.append(layer(x)[0])
    return found


class Squashed(conveyor.Cell):
    """A cell whose activation is an attribute, which a user may put another in the place of."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.hidden = self.affine("h", "x")
        self.function = torch.tanh

    def step(self, x, h):
        return self.function(self.hidden(h, x))


def test_a_function_in_the_place_of_another_is_the_one_that_runs():
    """Each is gone when the next one comes, and may lie where it lay."""
    layer, x = conveyor.Recurrent(Squashed, 2, 3, dtype=torch.float64), torch.randn(4, 2, 2, dtype=torch.float64)
    for k in range(12):
        function = (torch.relu, torch.sin, torch.neg)[k % 3]
        layer.cell.function = lambda value, function=function: function(value)
        kernel, loop = by_both(layer, x)
        assert_equal(kernel, loop, str(function), KERNEL)


def test_a_module_in_the_place_of_another_is_the_one_that_runs():
    layer, x = conveyor.Recurrent(Squashed, 2, 3, dtype=torch.float64), torch.randn(4, 2, 2, dtype=torch.float64)
    for k in range(6):
        layer.cell.function = (nn.ReLU, nn.Tanh)[k % 2]()
        kernel, loop = by_both(layer, x)
        assert_equal(kernel, loop, "", KERNEL)


class Positive(conveyor.Cell):
    zero = 0.0

    def step(self, x, h):
        return torch.where(x < 100, self.zero, h)


class Negative(Positive):
    zero = -0.0


def test_kernels_tell_the_two_zeros_apart():
    for cell, end in ((Positive, torch.inf), (Negative, -torch.inf)):
        kernel, loop = by_both(conveyor.Recurrent(cell, 3, 3), torch.randn(4, 2, 3))
        assert (1 / kernel == end).all()
        assert (1 / loop == end).all()


class Normalised(conveyor.Cell):
    """Its weight is computed of two parameters, and one of its parameters has two names."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.of_input = weight_norm(nn.Linear(input_size, hidden_size))
        self.first, self.second = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.second.weight = self.first.weight

    def step(self, x, h):
        return torch.tanh(self.of_input(x) + self.first(h) * torch.sigmoid(self.second(h)))


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_by_what_weights_are_computed_of(order):
    layer, found = conveyor.Recurrent(Normalised, 2, 3, dtype=torch.float64), []
    x, parameters = torch.randn(4, 2, 2, dtype=torch.float64), list(layer.parameters())
    for name in ("compiled", "eager"):
        with conveyor.backend(name):
            gradients = torch.autograd.grad(layer(x)[0].pow(2).sum(), parameters, create_graph=order == 2)
            if order == 2:
                gradients = torch.autograd.grad(sum(g.pow(2).sum() for g in gradients), parameters)
        found.append(gradients)
    for (name, _), kernel, loop in zip(layer.named_parameters(), *found, strict=True):
        assert_equal(kernel, loop, name, KERNEL)
