"""What holds for every cell without exception, at any size: the zoo's, a user's own, and random ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from cases import CASES, Case, others, random_state, tensors
from conveyor.sequences import reverse
from random_cells import random_cells
from tolerance import assert_equal

every_cell = pytest.mark.parametrize("name", [*CASES, "random"])
anything = given(data=st.data())


def draw_layer(data, name, **keywords):
    case = Case(data.draw(random_cells())) if name == "random" else CASES[name]
    sizes = data.draw(st.tuples(st.integers(1, 5), st.integers(3, 6)), label="input and hidden size")
    keywords.setdefault("num_layers", data.draw(st.integers(1, 3), label="layers"))
    return case.layer(*sizes, dtype=torch.float64, **keywords)


def draw_input(data, layer, least=0):
    steps, batch = data.draw(st.tuples(st.integers(least, 6), st.integers(least, 4)), label="steps and batch")
    x = torch.randn(steps, batch, layer.input_size, dtype=torch.float64)
    return x, random_state(layer, batch), others(layer, steps, batch)


def part(layer, values, steps=slice(None), rows=slice(None)):
    """Some of the steps and rows of a cell's further inputs."""
    return {n: v[rows] if n in layer.cell.constant else v[steps, rows] for n, v in values.items()}


def rows_of(state, rows):
    chosen = tuple(s[:, rows] for s in tensors(state))
    return chosen if len(chosen) > 1 else chosen[0]


def gradients(layer, loss):
    """By every parameter; zero by those that the loss does not depend on."""
    return torch.autograd.grad(loss, tuple(layer.parameters()), allow_unused=True, materialize_grads=True)


def assert_same_state(actual, expected):
    for value, wanted in zip(tensors(actual), tensors(expected), strict=True):
        assert_equal(value, wanted, "state")


@every_cell
@anything
def test_a_sequence_cut_in_two_and_carried_over_is_the_whole(name, data):
    layer = draw_layer(data, name)
    x, state, further = draw_input(data, layer)
    cut = data.draw(st.integers(0, len(x)), label="cut")
    whole, end = layer(x, state, **further)
    first, middle = layer(x[:cut], state, **part(layer, further, slice(0, cut)))
    second, last = layer(x[cut:], middle, **part(layer, further, slice(cut, None)))
    assert_equal(torch.cat([first, second]), whole, "output")
    assert_same_state(last, end)


@every_cell
@anything
def test_step_by_step_is_the_whole(name, data):
    layer = draw_layer(data, name)
    x, state, further = draw_input(data, layer, least=1)
    whole, end = layer(x, state, **further)
    outputs = []
    for t, x_t in enumerate(x):
        now = {n: v if n in layer.cell.constant else v[t] for n, v in further.items()}
        output, state = layer.step(x_t, state, **now)
        outputs.append(output)
    assert_equal(torch.stack(outputs), whole, "output")
    assert_same_state(state, end)


@every_cell
@anything
def test_rows_are_independent(name, data):
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, state, further = draw_input(data, layer, least=1)
    output, last = layer(x, state, **further)
    for b in range(x.shape[1]):
        row = slice(b, b + 1)
        alone, alone_last = layer(x[:, row], rows_of(state, row), **part(layer, further, rows=row))
        assert_equal(output[:, row], alone, "output")
        assert_same_state(rows_of(last, row), alone_last)


@every_cell
@anything
def test_padding_changes_nothing(name, data):
    """Not even where it is NaN: neither the outputs and states, nor a gradient."""
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, state, further = draw_input(data, layer)
    lengths = data.draw(st.lists(st.integers(0, len(x)), min_size=x.shape[1], max_size=x.shape[1]), label="lengths")
    for row, length in enumerate(lengths):
        for stream in (x, *(v for n, v in further.items() if n not in layer.cell.constant)):
            stream[length:, row] = torch.nan
    output, last, values = layer(x, state, lengths=lengths, record=True, **further)
    loss = output.square().sum() + sum(s.square().sum() for s in tensors(last))
    alone_loss = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        only = slice(row, row + 1)
        inputs = part(layer, further, slice(0, length), only)
        alone, alone_last, alone_values = layer(x[:length, only], rows_of(state, only), record=True, **inputs)
        assert_equal(output[:length, only], alone, "output")
        assert not output[length:, only].any()
        assert_same_state(rows_of(last, only), alone_last)
        for symbol, value in alone_values.items():
            for found, wanted in zip(values[symbol], value, strict=True):  # a layer each
                assert_equal(found[:, :length, only], wanted, symbol)
                assert not found[:, length:, only].any()
        alone_loss = alone_loss + alone.square().sum() + sum(s.square().sum() for s in tensors(alone_last))
    if any(lengths):  # else no weight has been used
        for gradient, wanted in zip(gradients(layer, loss), gradients(layer, alone_loss), strict=True):
            assert_equal(gradient, wanted, "gradient")


@every_cell
@anything
def test_the_reversed_direction_is_the_forward_one_on_reversed_input(name, data):
    both = draw_layer(data, name, bidirectional=True, num_layers=1)
    forward = Case(type(both.cell), options=both.options).layer(both.input_size, both.hidden_size, dtype=torch.float64)
    forward.cells[0].load_state_dict(both.cells[1].state_dict())
    x, _, further = draw_input(data, both, least=1)
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, len(x)), min_size=x.shape[1], max_size=x.shape[1])))
    state = random_state(both, x.shape[1])
    backwards = {n: v if n in both.cell.constant else reverse(v, lengths) for n, v in further.items()}
    output, last = both(x, state, lengths=lengths, **further)
    second = tuple(s[1:] for s in tensors(state))
    alone, alone_last = forward(
        reverse(x, lengths), second if len(second) > 1 else second[0], lengths=lengths, **backwards
    )
    assert_equal(output[..., forward.output_size :], reverse(alone, lengths), "output")
    for value, wanted in zip(tensors(last), tensors(alone_last), strict=True):
        assert_equal(value[1:], wanted, "state")


def results(layer, x, state, further):
    output, last = layer(x, state, **further)
    loss = output.sum() + sum(s.sum() for s in tensors(last))
    return (output, *tensors(last), *gradients(layer, loss))


@every_cell
@anything
def test_two_runs_give_the_same_bits(name, data):
    layer = draw_layer(data, name)
    inputs = draw_input(data, layer, least=1)
    for value, again in zip(results(layer, *inputs), results(layer, *inputs), strict=True):
        assert torch.equal(value, again)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_threads_give_the_bits_of_one(name, dtype):
    """At a size at which PyTorch does use its threads."""
    layer = CASES[name].layer(64, 256, dtype=dtype)
    inputs = (torch.randn(4, 48, 64, dtype=dtype), random_state(layer, 48, dtype), others(layer, 4, 48, dtype))
    one = results(layer, *inputs)
    try:
        torch.set_num_threads(2)
        two = results(layer, *inputs)
    finally:
        torch.set_num_threads(1)
    # PyTorch's own layer norm sums its parameters' gradients thread by thread; what we add to it must be exact.
    foreign = any(isinstance(module, torch.nn.LayerNorm) for module in layer.modules())
    for value, again in zip(two, one, strict=True):
        assert_equal(value, again) if foreign else torch.testing.assert_close(value, again, rtol=0, atol=0)


@every_cell
@anything
def test_every_shape_that_is_not_there_yet_has_its_shape(name, data):
    """Sequences of no steps, batches of no rows."""
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, state, further = draw_input(data, layer)
    for initial in (None, state):
        output, last = layer(x, initial, **further)
        assert output.shape == (*x.shape[:2], layer.output_size)
        assert [s.shape for s in tensors(last)] == [s.shape for s in tensors(state)]
        assert output.isfinite().all()


@anything
def test_gradients_of_random_cells_are_those_of_finite_differences(data):
    layer = draw_layer(data, "random")
    names, values = zip(*layer.named_parameters(), strict=True)
    x, state = torch.randn(2, 1, layer.input_size, dtype=torch.float64), tensors(random_state(layer, 1))
    further = others(layer, 2, 1)
    inputs = tuple(value.detach().requires_grad_() for value in (x, *state, *further.values(), *values))
    count = len(state)

    def run(x, *rest):
        given, rest = rest[:count], rest[count:]
        streams = dict(zip(further, rest[: len(further)], strict=True))
        parameters = dict(zip(names, rest[len(further) :], strict=True))
        output, last = functional_call(layer, parameters, (x, given if count > 1 else given[0]), streams)
        return (output, *tensors(last))

    # In one random direction: the exact cells are checked entry by entry in test_equations.py.
    assert gradcheck(run, inputs, fast_mode=True)
    assert gradgradcheck(run, inputs, fast_mode=True)
