"""A step of any size has a kernel that is the loop: what stood at a fixed size once is tried at it and past it."""

from itertools import product

import pytest
import torch
from torch import nn

import conveyor
from both import assert_kernel_is_loop, draw_inputs, results
from conveyor import backend
from conveyor.targets.cpu import run
from conveyor.targets.cpu.run import MOST_THREADS
from tiers import quick, slow


def assert_holds(cell, steps=3, batch=5, **keywords):
    layer = conveyor.Recurrent(cell, 3, 4, dtype=torch.float64, **keywords)
    assert_kernel_is_loop(layer, draw_inputs(layer, steps, batch))


def of_many_operands(count):
    """Neighbours among the operands lie apart in memory, or they would be one."""

    class Many(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            names = [f"v{k}" for k in range(count)]
            super().__init__(input_size, hidden_size, **dict.fromkeys(names, hidden_size))
            self.all = self.affine(*names)
            self.x = self.affine("x")

        def step(self, x, h):
            new = torch.tanh(self.x(x))
            return torch.tanh(self.all(*((h, new)[k % 2] for k in range(count))))

    return Many


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_a_product_of_many_operands(count):
    assert_holds(of_many_operands(count))
    assert_holds(of_many_operands(count), batch=1)  # few rows have a kernel of their own


def of_many_dimensions(count, step):
    class Folded(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.wide = self.affine("h", "x", out=2**count)
            self.narrow = nn.Linear(2**count, hidden_size)

        def step(self, x, h):
            folded = torch.tanh(self.wide(h, x)).reshape(-1, *[2] * count)
            turned = folded.permute(0, *range(count, 0, -1))
            return torch.tanh(self.narrow(step(folded, turned).flatten(1)))

    return Folded


# What is done with a value of many dimensions and with the same in the opposite order.
FOLDED = {
    "number by number": lambda folded, turned: folded * turned,
    "sum": lambda folded, turned: folded + turned.sum(list(range(1, folded.dim(), 2)), keepdim=True),
    "matmul": lambda folded, turned: folded @ turned,
}


@pytest.mark.parametrize("count", [9, 10, 13])
@pytest.mark.parametrize("how", FOLDED)
def test_a_value_of_many_dimensions(how, count):
    assert_holds(of_many_dimensions(count, FOLDED[how]), steps=2, batch=2)


def test_a_product_of_more_dimensions_than_there_are_letters_says_so():
    class Deep(conveyor.Cell):
        def step(self, x, h):
            ones = [1] * 50
            return h + (x.reshape(-1, *ones, 1, 3) @ x.reshape(-1, *ones, 3, 1)).flatten(1)

    layer = conveyor.Recurrent(Deep, 3, 4)
    with backend("compiled"), pytest.raises(RuntimeError, match=r"line \d+: .* more than 49 dimensions; reshape"):
        layer(torch.randn(2, 3, 3))


class Long(conveyor.Cell):
    """More operations in a row than Python's stack is deep: a sum of many, and many one in the other."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.map = self.affine("h", "x")

    def step(self, x, h):
        value = total = self.map(h, x)
        for _ in range(1200):
            value = 0.9 * value
            total = total + value
        return torch.tanh(total / 20)


class LongClock(Long):
    """The same of the step's number, by which a product is left out; each value is read twice."""

    def step(self, x, h, t):
        now = t
        for k in range(1200):
            now = (now + now + k) % 7
        return torch.where(now < 3, torch.tanh(self.map(h, x)), h)


@pytest.mark.parametrize("cell", [pytest.param(Long, marks=slow), LongClock])
def test_a_step_longer_than_pythons_stack(cell):
    assert_holds(cell)


def of_many_states(count, length):
    """A cell with so many states, whose names are so long."""
    names = [f"s{k}".ljust(length, "_") for k in range(count)]
    lines = [
        f"def step(self, x, {', '.join(names)}):",
        f"    new = torch.tanh(self.map({names[0]}, x))",
        f"    return {', '.join(f'new * {name}' for name in names)},",
    ]
    found = {"torch": torch}
    exec("\n".join(lines), found)

    def make(self, input_size, hidden_size):
        conveyor.Cell.__init__(self, input_size, hidden_size)
        self.map = self.affine(names[0], "x")

    return type("Stateful", (conveyor.Cell,), {"state": tuple(names), "step": found["step"], "__init__": make})


class Odd(Long):
    """A name that is none in Python, and would end a comment in C."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.parts = nn.ModuleDict({"a */ #error b": Part()})

    def step(self, x, h):
        return self.parts["a */ #error b"].step(self.map(h, x))


class Part(nn.Module):
    def step(self, value):
        new = torch.tanh(value)
        return new


def test_a_name_that_ends_a_comment():
    assert_holds(Odd)


class Doubling(Long):
    """Each value is twice the one before, so that the ways through them are two to the power of their number."""

    def step(self, x, h):
        total = value = self.map(h, x)
        for _ in range(40):
            value = 0.5 * (value + value)
        return torch.tanh(value * total)


def test_a_step_with_very_many_ways_through_it():
    assert_holds(Doubling)


@pytest.mark.parametrize(("count", "length"), [(2, 5000), (150, 5)])
def test_many_states_and_long_names(count, length):
    assert_holds(of_many_states(count, length))


SPLIT = {"shared steps": 2, "rows of their own": 4 * MOST_THREADS + 9}


@pytest.mark.parametrize(
    ("threads", "split", "pool"),
    quick(
        product([MOST_THREADS, MOST_THREADS + 1], SPLIT, ["PyTorch's", "its own"]),
        [(MOST_THREADS, "rows of their own", "its own"), (MOST_THREADS + 1, "shared steps", "PyTorch's")],
    ),
)
def test_many_threads_give_the_same_bits(threads, split, pool, monkeypatch):
    batch = SPLIT[split]
    layer = conveyor.GRU(64, 192)
    inputs = draw_inputs(layer, 8 if batch == 2 else 2, batch)
    if pool == "its own":
        monkeypatch.setattr(run, "_pool", lambda: None)
    before = torch.get_num_threads()
    with backend("compiled"):
        one = results(layer, inputs)
        try:
            torch.set_num_threads(threads)
            many = results(layer, inputs)
        finally:
            torch.set_num_threads(before)
    for what, value in one.items():
        assert torch.equal(many[what], value), what
