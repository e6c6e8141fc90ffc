"""What holds for every cell without exception, at any size: the zoo's, a user's own, and random ones."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

from cases import CASES, Case, extra_inputs, random_state, tensors, values_of
from conftest import EXAMPLES
from conveyor import backend
from conveyor.layer.forms import reverse
from random_cells import random_cells
from tiers import FEW, MOST, slow  # of random cells there are as many examples as conftest.py says
from tolerance import assert_equal

pytestmark = pytest.mark.filterwarnings(r"ignore:var\(\)")  # PyTorch warns of the variance of no rows
anything = given(data=st.data())


def every_cell(law):
    """The law as a test of each cell by its name, and of random ones."""
    of_random, usual = anything(law), settings.default
    of_named = anything(law) if EXAMPLES else settings(max_examples=min(FEW, usual.max_examples))(anything(law))

    @pytest.mark.parametrize("name", [*CASES, "random"])
    def test(name):
        # Here the loop is judged by random cells, thousands of them, and where a kernel for each of the sizes takes
        # long to be made; test_compiler_laws.py judges the kernels by the loop.
        by_loop = name == "random" or CASES[name].heavy
        with backend("eager") if by_loop else nullcontext():
            (of_random if name == "random" else of_named)(name=name)

    test.__name__, test.__doc__ = law.__name__, law.__doc__
    return test


def draw_layer(data, name, **keywords):
    case = (
        Case(data.draw(random_cells(numbered=True, extra=data.draw(st.booleans()))))
        if name == "random"
        else CASES[name]
    )
    sizes = data.draw(st.tuples(st.integers(1, 5), st.integers(3, 6)), label="input and hidden size")
    keywords.setdefault("num_layers", data.draw(st.integers(1, MOST[2]), label="layers"))
    return case.layer(*sizes, dtype=torch.float64, **keywords)


def draw_input(data, layer, least=0):
    steps, batch = data.draw(
        st.tuples(st.integers(least, MOST[0]), st.integers(least, MOST[1])), label="steps and batch"
    )
    x = torch.randn(steps, batch, layer.input_size, dtype=torch.float64)
    return x, random_state(layer, batch), extra_inputs(layer, steps, batch)


def part(layer, values, steps=slice(None), rows=slice(None)):
    """Some of the steps and rows of a cell's further inputs."""
    return {n: v[rows] if n in layer.cell.constant else v[steps, rows] for n, v in values.items()}


def layout_of(state, rows):
    chosen = tuple(s[:, rows] for s in tensors(state))
    return chosen if len(chosen) > 1 else chosen[0]


def gradients(layer, loss):
    """By every parameter; zero by those that the loss does not depend on."""
    return torch.autograd.grad(loss, tuple(layer.parameters()), allow_unused=True, materialize_grads=True)


def stack(function, trees):
    """`function` of the tensors that stand at the same place in each."""
    return tree_map(lambda *values: function(values), *trees)


def assert_same_values(actual, expected):
    assert set(actual) == set(expected)
    for name, wanted in expected.items():
        assert_equal(actual[name], wanted, name)


def assert_same_state(actual, expected):
    for value, wanted in zip(tensors(actual), tensors(expected), strict=True):
        assert_equal(value, wanted, "state")


@every_cell
def test_a_sequence_cut_in_two_and_carried_over_is_the_whole(name, data):
    layer = draw_layer(data, name)
    x, state, further = draw_input(data, layer)
    cut = data.draw(st.integers(0, len(x)), label="cut")
    start = data.draw(st.integers(0, 3), label="start")
    whole, end, *values = layer(x, state, start=start, **further)
    first, middle, *early = layer(x[:cut], state, start=start, **part(layer, further, slice(0, cut)))
    second, last, *late = layer(x[cut:], middle, start=start + cut, **part(layer, further, slice(cut, None)))
    assert_equal(torch.cat([first, second]), whole, "output")
    assert_same_state(last, end)
    both = {name: torch.cat([value, values_of(late)[name]], 2) for name, value in values_of(early).items()}
    assert_same_values(both, values_of(values))


@every_cell
def test_step_by_step_is_the_whole(name, data):
    layer = draw_layer(data, name)
    x, state, further = draw_input(data, layer, least=1)
    whole, end, *values = layer(x, state, **further)
    outputs, told = [], []
    for t, x_t in enumerate(x):
        now = {n: v if n in layer.cell.constant else v[t] for n, v in further.items()}
        output, state, *value = layer.step(x_t, state, start=t, **now)
        outputs.append(output)
        told.append(values_of(value))
    assert_equal(torch.stack(outputs), whole, "output")
    assert_same_state(state, end)
    assert_same_values({name: torch.stack([now[name] for now in told], 2) for name in told[0]}, values_of(values))


@every_cell
def test_rows_are_independent(name, data):
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, state, further = draw_input(data, layer, least=1)
    output, last, *values = layer(x, state, **further)
    for b in range(x.shape[1]):
        row = slice(b, b + 1)
        alone, alone_last, *told = layer(x[:, row], layout_of(state, row), **part(layer, further, rows=row))
        assert_equal(output[:, row], alone, "output")
        assert_same_state(layout_of(last, row), alone_last)
        assert_same_values({name: v[:, :, :, row] for name, v in values_of(values).items()}, values_of(told))


@every_cell
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
        alone, alone_last, alone_values = layer(x[:length, only], layout_of(state, only), record=True, **inputs)
        assert_equal(output[:length, only], alone, "output")
        assert not output[length:, only].any()
        assert_same_state(layout_of(last, only), alone_last)
        for symbol, value in alone_values.items():
            for found, wanted in zip(values[symbol], value, strict=True):  # a layer each
                assert_equal(found[:, :length, only], wanted, symbol)
                assert not found[:, length:, only].any()
        alone_loss = alone_loss + alone.square().sum() + sum(s.square().sum() for s in tensors(alone_last))
    if any(lengths):  # else no weight has been used
        for gradient, wanted in zip(gradients(layer, loss), gradients(layer, alone_loss), strict=True):
            assert_equal(gradient, wanted, "gradient")


@every_cell
def test_the_reversed_direction_is_the_forward_one_on_reversed_input(name, data):
    both = draw_layer(data, name, bidirectional=True, num_layers=1)
    forward = Case(type(both.cell), options=both.options).layer(both.input_size, both.hidden_size, dtype=torch.float64)
    forward.cells[0].load_state_dict(both.cells[1].state_dict())
    if both.cell.below:
        forward.ground[0].load_state_dict(both.ground[1].state_dict())
    x, _, further = draw_input(data, both, least=1)
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, len(x)), min_size=x.shape[1], max_size=x.shape[1])))
    state = random_state(both, x.shape[1])
    backwards = {n: v if n in both.cell.constant else reverse(v, lengths) for n, v in further.items()}
    output, last, *_ = both(x, state, lengths=lengths, **further)
    second = tuple(s[1:] for s in tensors(state))
    alone, alone_last, *_ = forward(
        reverse(x, lengths), second if len(second) > 1 else second[0], lengths=lengths, **backwards
    )
    assert_equal(output[..., forward.output_size :], reverse(alone, lengths), "output")
    for value, wanted in zip(tensors(last), tensors(alone_last), strict=True):
        assert_equal(value[1:], wanted, "state")


@every_cell
def test_vmap_and_grad_are_one_after_the_other(name, data):
    """Over inputs, states and lengths at once, NaN in the padding."""
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, *_ = draw_input(data, layer, least=1)
    parameters, (steps, batch) = dict(layer.named_parameters()), x.shape[:2]
    drawn = st.lists(st.integers(0, steps), min_size=batch, max_size=batch)
    lengths = torch.tensor([data.draw(drawn, label="lengths") for _ in range(2)])
    xs, states = torch.randn(2, *x.shape, dtype=x.dtype), [random_state(layer, batch) for _ in range(2)]
    further = [extra_inputs(layer, steps, batch) for _ in range(2)]
    for i, row in ((i, row) for i in range(2) for row in range(batch)):
        for stream in (xs[i], *(v for n, v in further[i].items() if n not in layer.cell.constant)):
            stream[lengths[i, row] :, row] = torch.nan

    def loss(parameters, x, state, lengths, further):
        output, last, *values = functional_call(layer, parameters, (x, state), {"lengths": lengths, **further})
        found = (output, *tensors(last), *values_of(values).values())
        return sum(value.square().sum() for value in found), output

    both = stack(torch.stack, states), lengths, stack(torch.stack, further)
    at_once, outputs = vmap(grad(loss, has_aux=True), (None, 0, 0, 0, 0))(parameters, xs, *both)
    for i in range(2):
        alone, output = loss(parameters, xs[i], states[i], lengths[i], further[i])
        assert_equal(outputs[i], output, "output")
        for symbol, wanted in zip(parameters, gradients(layer, alone), strict=True):
            assert_equal(at_once[symbol][i], wanted, symbol)


def results(layer, x, state, further):
    output, last, *values = layer(x, state, **further)
    found = (output, *tensors(last), *values_of(values).values())
    return (*found, *gradients(layer, sum(value.sum() for value in found)))


@every_cell
def test_two_runs_give_the_same_bits(name, data):
    layer = draw_layer(data, name)
    inputs = draw_input(data, layer, least=1)
    for value, again in zip(results(layer, *inputs), results(layer, *inputs), strict=True):
        assert torch.equal(value, again)


@slow  # and of float32 in test_compiler_laws.py
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_threads_give_the_bits_of_one(name, dtype):
    """At a size at which PyTorch does use its threads."""
    layer = CASES[name].layer(64, 256, dtype=dtype)
    inputs = (torch.randn(4, 48, 64, dtype=dtype), random_state(layer, 48, dtype), extra_inputs(layer, 4, 48, dtype))
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
def test_every_shape_that_is_not_there_yet_has_its_shape(name, data):
    """Sequences of no steps, batches of no rows."""
    layer = draw_layer(data, name, bidirectional=data.draw(st.booleans()))
    x, state, further = draw_input(data, layer)
    one = {n: v if n in layer.cell.constant else v.new_zeros(1, *v.shape[1:]) for n, v in further.items()}
    _, _, usual = layer(x.new_zeros(1, *x.shape[1:]), record=True, **one)
    for initial in (None, state):
        output, last, values = layer(x, initial, record=True, **further)
        assert set(layer.cell.extra) <= set(values) == set(usual)
        for symbol, value in usual.items():
            for found, wanted in zip(values[symbol], value, strict=True):  # a layer each
                assert found.shape == (wanted.shape[0], *x.shape[:2], *wanted.shape[3:]), symbol
        assert output.shape == (*x.shape[:2], layer.output_size)
        assert [s.shape for s in tensors(last)] == [s.shape for s in tensors(state)]
        assert output.isfinite().all()


@settings(max_examples=max(1, settings.default.max_examples * (FEW - 1) // 12))  # each of hundreds of runs of the loop
@anything
def test_gradients_of_random_cells_are_those_of_finite_differences(data):
    layer = draw_layer(data, "random")
    names, values = zip(*layer.named_parameters(), strict=True)
    x, state = torch.randn(2, 1, layer.input_size, dtype=torch.float64), tensors(random_state(layer, 1))
    further = extra_inputs(layer, 2, 1)
    inputs = tuple(value.detach().requires_grad_() for value in (x, *state, *further.values(), *values))
    count = len(state)

    def run(x, *rest):
        given, rest = rest[:count], rest[count:]
        streams = dict(zip(further, rest[: len(further)], strict=True))
        parameters = dict(zip(names, rest[len(further) :], strict=True))
        output, last, *values = functional_call(layer, parameters, (x, given if count > 1 else given[0]), streams)
        return (output, *tensors(last), *values_of(values).values())

    # In one random direction: the exact cells are checked entry by entry in test_equations.py.
    assert gradcheck(run, inputs, fast_mode=True)
    assert gradgradcheck(run, inputs, fast_mode=True)
