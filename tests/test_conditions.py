"""Products that the step's number decides upon are left out where nobody needs them, and nowhere else."""

import pytest
import torch
from torch import sigmoid, tanh, where

import conveyor
from both import assert_kernel_is_loop, draw_inputs
from conveyor.compiler.conditions import conditions_of


class Clocked(conveyor.Cell):
    """The maps that the cells below choose between."""

    state = ("h", "C")
    conditions = 0, 0  # the products that are left out in some steps, forward and backward

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.one = self.affine("h", "x")
        self.other = self.affine("C", "x")


class Plain(Clocked):
    """Each map is wanted in its own steps."""

    conditions = 2, 2

    def step(self, x, h, C, t):
        h_new, C_new = tanh(self.one(h, x)), sigmoid(self.other(C, x))
        h = where(t % 2 == 0, h_new, h)
        C = where(t < 3, 0.5 * C_new, C)
        return h, C


class Nested(Clocked):
    """A choice within a choice; zero where it is not taken."""

    conditions = 2, 2

    def step(self, x, h, C, t):
        inner = where(t % 3 != 0, tanh(self.other(C, x)), torch.zeros_like(C))
        h_new = tanh(self.one(h, x) + inner)
        h = where(t % 2 == 0, h_new, h)
        return h, 0.9 * C + 0.1 * h


class Twice(Clocked):
    """One product under two conditions, and another that both branches see: neither may be left out."""

    def step(self, x, h, C, t):
        a, b = tanh(self.one(h, x)), tanh(self.other(C, x))
        h = where(t % 2 == 0, a, h) + where(t % 3 == 0, a, 0.5 * h)
        C = where(t % 2 == 0, b, -b)
        return 0.5 * h, C


class Mirrored(Clocked):
    """What is new stands in the other branch: it is wanted just when the condition is 0."""

    conditions = 0, 0

    def step(self, x, h, C, t):
        h = where(t % 2 == 0, h, tanh(self.one(h, x)))
        C = where(t % 2 == 0, torch.zeros_like(C), tanh(self.other(C, x)))
        return h, C


class Unsafe(Clocked):
    """Between product and choice lies what may make an infinity of zero, so that zero cannot stand for the product."""

    def step(self, x, h, C, t):
        h = where(t % 2 == 0, tanh(1 / (3 + self.one(h, x) ** 2)), h)
        return h, 0.5 * C + h


class Rowwise(Clocked):
    """The condition differs from row to row: it is no condition."""

    def step(self, x, h, C, t):
        h = where((x[:, :1] > 0) & (t % 2 == 0), tanh(self.one(h, x)), h)
        return h, 0.5 * C + h


CELLS = [Plain, Nested, Twice, Mirrored, Unsafe, Rowwise]
every_cell = pytest.mark.parametrize("cell", CELLS)


@every_cell
def test_the_kernel_is_the_loop(cell):
    layer = conveyor.Recurrent(cell, 3, 5, dtype=torch.float64)
    assert_kernel_is_loop(layer, draw_inputs(layer, 9, 4))
    assert_kernel_is_loop(layer, draw_inputs(layer, 9, 4), start=2, lengths=[9, 0, 4, 7])


@every_cell
def test_just_the_products_that_nobody_needs_are_left_out(cell):
    compiled = conveyor.compile(cell(3, 5))
    forward, _, backward = compiled.plan.partition("time, backwards:")
    assert tuple(part.count("if ") for part in (forward, backward)) == cell.conditions


def test_steps_that_a_kernel_cannot_number_are_taken_by_the_loop():
    layer, x = conveyor.Recurrent(Plain, 3, 5), torch.randn(4, 2, 3)
    late = 2**24 - 1
    with conveyor.backend("eager"):
        wanted = layer(x, start=late)[0]
    assert torch.equal(layer(x, start=late)[0], wanted)
    with conveyor.backend("compiled"):
        layer(x, start=late - 3)
        with pytest.raises(conveyor.NotCompiled, match="steps beyond number 16,777,216"):
            layer(x, start=late)


class Counting(Clocked):
    """Whole numbers that soon grow past what float32 can tell apart."""

    def count(self, t):
        return t

    def step(self, x, h, C, t):
        return where(self.count(t) % 7 < 3, tanh(self.one(h, x)), h), C


class Products(Counting):
    def count(self, t):
        return t * 1000003


class Powers(Counting):
    def count(self, t):
        return t**6 + 1


class Late(Counting):
    def count(self, t):
        return t + 2**24


class Held(Counting):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.register_buffer("first", torch.tensor(2**24 + 1))

    def count(self, t):
        return self.first - t


@pytest.mark.parametrize("cell", [Products, Powers, Late, Held])
def test_whole_numbers_that_a_kernel_cannot_hold_are_left_to_the_loop(cell):
    layer, x = conveyor.Recurrent(cell, 3, 5), torch.randn(60, 2, 3)
    with conveyor.backend("eager"):
        wanted = layer(x)[0]
    assert torch.equal(layer(x)[0], wanted)
    with torch.no_grad():
        assert torch.equal(torch.compile(layer, backend="eager")(x)[0], wanted)
    with (
        conveyor.backend("compiled"),
        pytest.raises(conveyor.NotCompiled, match=r"number [\d]+ in .*float32"),
    ):
        layer(x)
    layer = layer.double()
    assert_kernel_is_loop(layer, draw_inputs(layer, 60, 2))


def test_a_graph_without_a_clock_has_none():
    assert conditions_of(conveyor.compile(conveyor.zoo.LSTM(3, 5)).traced) == {}
