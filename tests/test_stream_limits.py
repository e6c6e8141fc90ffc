"""Streams and single steps at their limits: what a cell holds and how it changes, shapes, threads, numbers, hooks."""

import copy
import math
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import conveyor
from cases import CASES
from conveyor import zoo
from conveyor.errors import Mismatch
from conveyor.layer.stream import Stream
from test_stream import LOW, by_loop
from tolerance import assert_equal


class Driven(conveyor.Cell):
    """With a further stream, of whose width the layer knows nothing."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.map, self.of_drive = self.affine("h", "x"), nn.Linear(5, hidden_size, bias=False)

    def step(self, x, h, drive):
        return torch.tanh(self.map(h, x) + self.of_drive(drive))


class Counting(conveyor.Cell):
    """Whose step number matters up to the last digit."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.map = self.affine("h", "x")

    def step(self, x, h, t):
        return torch.where(t % 2 == 0, 1.0, -1.0) * torch.tanh(self.map(h, x))


class Scaling(conveyor.Cell):
    """Scaled by something that the cell holds, which `read` makes a number or a tensor of."""

    def __init__(self, input_size, hidden_size, held, read):
        super().__init__(input_size, hidden_size)
        self.map, self.held, self.read = self.affine("h", "x"), held, read

    def step(self, x, h):
        return self.read(self.held) * torch.tanh(self.map(h, x))


class Setting:
    """A class of the user's own."""

    def __init__(self):
        self.scale, self.more = 1.0, [1.0]


HELD = {
    "a tensor in a list": ([torch.ones(())], lambda held: held[0], lambda held: held[0].mul_(3)),
    "a tensor in a dict": ({"a": (torch.ones(()),)}, lambda held: held["a"][0], lambda held: held["a"][0].fill_(3)),
    "an array": (np.ones(2), lambda held: float(held[0]), lambda held: held.__setitem__(0, 3.0)),
    "an array in a list": ([np.ones(2)], lambda held: float(held[0][0]), lambda held: held[0].fill(3.0)),
    "an object": (Setting(), lambda held: held.scale, lambda held: setattr(held, "scale", 3.0)),
    "a tensor in an argument": (
        partial(torch.mul, torch.ones(())), lambda held: held(2.0), lambda held: held.args[0].mul_(3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HELD)
def test_what_is_changed_in_place_reaches_steps_and_sequences(what):
    held, read, change = HELD[what]
    layer = conveyor.Recurrent(Scaling, 3, 4, held=copy.deepcopy(held), read=read)
    x = torch.randn(9, 1, 3)
    with torch.no_grad():
        before = layer.step(x[0])[0], layer(x)[0]
        change(layer.cell.held)
        wanted = by_loop(layer, x)[0]
        assert_equal(layer.step(x[0])[0], wanted[0])
        assert_equal(layer(x)[0], wanted)
        assert not torch.equal(before[0], wanted[0])


def test_a_hook_that_comes_later_reaches_sequences():
    layer, x = conveyor.Recurrent(zoo.LSTM, 3, 4), torch.randn(5, 1, 3)
    with torch.no_grad():
        before = layer(x)[0]
        handle = layer.cells[0].input.register_forward_hook(lambda *given: given[2] * 0)
        wanted = by_loop(layer, x)[0]
        assert_equal(layer(x)[0], wanted)
        handle.remove()
        layer.cells[0].input.register_forward_hook(lambda *given: given[2] * 2)
        assert_equal(layer(x)[0], by_loop(layer, x)[0])
        assert not torch.equal(wanted, before)


def test_a_further_stream_keeps_its_width():
    layer = conveyor.Recurrent(Driven, 3, 4)
    stream, x = layer.stream(), torch.zeros(1, 3)
    stream.step(x, drive=torch.ones(1, 5))
    before = stream.save()
    for wrong in (torch.ones(9)[:2].view(1, 2), torch.ones(1, 1), torch.ones(1, 6), torch.ones(1, 5, 1)):
        with pytest.raises(Mismatch, match=r"drive had \[5\] in each row at the first step, but now"):
            stream.step(x, drive=wrong)
    assert all(torch.equal(before[name], value) for name, value in stream.save().items())


def test_one_row_needs_no_dimension_for_it_in_a_further_stream():
    layer = conveyor.Recurrent(Driven, 3, 4)
    x, drive = torch.randn(6, 3), torch.randn(6, 5)
    stream = layer.stream()
    first = torch.stack([stream.step(x[t], drive=drive[t]) for t in range(3)])
    assert_equal(torch.cat([first, stream.run(x[3:], drive=drive[3:])]), by_loop(layer, x, drive=drive)[0])


def test_what_is_no_tensor_is_told():
    stream = conveyor.LSTM(3, 5).stream()
    for call, value in ((stream.step, [1.0, 2.0, 3.0]), (stream.step, np.zeros(3)), (stream.run, [[1.0, 2.0, 3.0]])):
        with pytest.raises(TypeError, match="the input must be a tensor, not"):
            call(value)
    with pytest.raises(TypeError, match="drive must be a tensor, not list"):
        conveyor.Recurrent(Driven, 3, 4).stream().step(torch.zeros(3), drive=[1.0] * 5)


def test_making_streams_leaves_the_modes_of_all_modules():
    layer = conveyor.Recurrent(zoo.GRU, 3, 4, num_layers=3).train()
    layer.cells[1].eval()
    modes = [module.training for module in layer.modules()]
    layer.stream()
    assert [module.training for module in layer.modules()] == modes


def test_threads_that_make_streams_at_once_leave_the_mode():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            layer, ready, failed = conveyor.Recurrent(zoo.GRU, 3, 4, num_layers=3).train(), threading.Barrier(3), []
            threads = [threading.Thread(target=_first_step, args=(layer, ready, failed)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert all(module.training for module in layer.modules())
    finally:
        sys.setswitchinterval(interval)


def _first_step(layer, ready, failed):
    ready.wait()
    try:
        with torch.no_grad():
            layer.step(torch.zeros(1, 3))
        layer.stream()
    except Exception as error:
        failed.append(error)


def test_reset_goes_to_the_state_of_the_weights_moment():
    layer = conveyor.Recurrent(zoo.LSTM, 3, 4, num_layers=2, learn_initial_state=True)
    stream, x = layer.stream(), torch.randn(4, 1, 3)
    wanted = stream.run(x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5)
    stream.reset()
    assert torch.equal(stream.run(x), wanted)
    stream.refresh()
    stream.reset()
    assert_equal(stream.run(x), by_loop(layer, x)[0])


def test_steps_that_cannot_be_numbered_are_refused():
    layer, x = conveyor.Recurrent(Counting, 3, 4), torch.randn(6, 1, 3)
    start = 2**24 - 4
    with torch.no_grad(), conveyor.backend("eager"):
        wanted = layer(x, start=start)[0]
    stream = layer.stream(start=start)
    assert_equal(torch.cat([stream.step(one) for one in x[:4]]), wanted[:4, 0])
    for call, value in ((stream.step, x[4]), (stream.run, x[4:])):
        with pytest.raises(conveyor.NotCompiled, match=r"takes t, and torch.float32 numbers 16,777,21\d steps exactly"):
            call(value)
    assert stream.steps == 2**24
    state, outputs = None, []
    with torch.no_grad():
        for t in range(6):
            output, state = layer.step(x[t], state, start=start + t)
            outputs.append(output)
    assert_equal(torch.stack(outputs), wanted)
    other = conveyor.LSTM(3, 4).stream(start=2**24 - 1)  # which takes no t
    other.run(x)
    assert other.steps == 2**24 + 5


def test_restoring_is_whole_or_nothing():
    stream = conveyor.LSTM(3, 5).stream()
    stream.step(torch.ones(3))
    before = stream.save()
    other = {name: value + 1 for name, value in before.items()}
    for steps in (torch.tensor(-7), torch.zeros(3), torch.tensor(1.5), 4, torch.tensor(True)):
        with pytest.raises(Mismatch, match="a whole number from 0"):
            stream.restore(other | {"steps": steps})
        assert all(torch.equal(before[name], value) for name, value in stream.save().items())
    with pytest.raises(Mismatch, match="a whole number from 0"):
        stream.steps = -1
    stream.restore(other)
    assert all(torch.equal(other[name], value) for name, value in stream.save().items())


def test_time_is_first_whatever_the_layer_has():
    layer, x = conveyor.LSTM(3, 5, batch_first=True), torch.randn(4, 2, 3)
    assert_equal(layer.stream(2).run(x), by_loop(layer, x.transpose(0, 1))[0].transpose(0, 1))


def test_negated_views_are_read_as_they_are():
    layer, x = conveyor.Recurrent(zoo.GRU, 1, 4), torch.tensor([[1 + 2j]]).conj().imag
    assert x.is_neg()
    wanted = by_loop(layer, x[None].clone())[0][0]
    state = torch.complex(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)).conj().imag
    stream = layer.stream()
    assert_equal(stream.step(x), wanted)
    stream.state = state
    with torch.no_grad():
        assert_equal(layer.step(x)[0], wanted)
        after = by_loop(layer, x[None].clone(), hx=state.clone())[0][0]
        assert_equal(layer.step(x, state)[0], after)
        assert_equal(layer.step(x.clone(), state)[0], after)
    assert_equal(stream.step(x), after)


@pytest.mark.parametrize("weights", LOW)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_weights_in_less_are_finite(weights, value):
    layer = conveyor.RNN(3, 32)
    with torch.no_grad():
        layer.weight_ih_l0[8] = value
    with pytest.raises(conveyor.NotCompiled, match=f"{weights} is for finite weights"):
        layer.stream(weights=weights)
    assert layer.stream().step(torch.ones(3))[:8].isfinite().all()


def test_the_largest_weight_stays_finite_in_bfloat16():
    layer = conveyor.RNN(1, 32, nonlinearity="relu", bias=False)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(-0.3)
        layer.weight_ih_l0[8:16] = torch.finfo(torch.float32).max
        layer.weight_hh_l0.zero_()
    found = layer.stream(weights="bfloat16").step(torch.full((1,), 1e-30))
    assert_equal(found, torch.relu(layer.weight_ih_l0.detach()[:, 0] * 1e-30), table={torch.float32: LOW["bfloat16"]})


HOOKED = {
    "the layer": lambda layer: layer,
    "what is below it": lambda layer: layer.ground[0],
}


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("what", HOOKED)
def test_a_hooked_layer_has_no_stream(what, before):
    layer = CASES["grid" if what != "the layer" else "gru"].layer(4, 7)
    module = HOOKED[what](layer)
    module = next(iter(module.values())) if isinstance(module, nn.ModuleDict) else module
    add = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = add(lambda *_: None)
    with pytest.raises(conveyor.NotCompiled, match=f"{type(module).__name__} has a forward hook"):
        layer.stream()
    handle.remove()
    layer.stream()


def test_a_head_that_does_not_fit_is_told():
    layer = conveyor.GRU(3, 4)
    with pytest.raises(Mismatch, match="reads 7 numbers, but the layer gives 4"):
        Stream(layer, head=nn.Linear(7, 2))
    with pytest.raises(Mismatch, match=r"head's weights are torch.float64"):
        Stream(layer, head=nn.Linear(4, 2).double())
    with pytest.raises(TypeError, match=r"is a torch.nn.Linear, not Sequential"):
        Stream(layer, head=nn.Sequential(nn.Linear(4, 2)))
    head = nn.Linear(4, 2)
    head.register_forward_hook(lambda *_: None)
    with pytest.raises(conveyor.NotCompiled, match="Linear has a forward hook"):
        Stream(layer, head=head)
