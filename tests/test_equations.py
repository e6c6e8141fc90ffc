"""Every cell equals its paper: outputs and all gradients, against the oracles and by finite differences."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

import conveyor
from cases import (
    CASES,
    PAPERS,
    QUICK_PAPERS,
    differentiable,
    extra_inputs,
    parameters_of,
    random_state,
    tensors,
    values_of,
)
from conveyor import zoo
from tiers import quick
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 4, 2, 3, 3


def numbers(named):
    return {name: value.detach().numpy().copy() for name, value in named.items()}


def test_every_cell_of_the_zoo_is_among_the_cases_and_has_its_paper():
    public = [getattr(zoo, name) for name in zoo.__all__]
    cells = {value for value in public if isinstance(value, type) and issubclass(value, conveyor.Cell)}
    assert cells == {case.cell for case in CASES.values() if case.oracle}


def drawn(layer, steps, batch):
    """All that the layer takes, by name; what has a derivative is to have one."""
    state = dict(zip(layer.state_names, tensors(random_state(layer, batch)), strict=True))
    given = {"x": torch.randn(steps, batch, layer.input_size, dtype=torch.float64), **state}
    given |= extra_inputs(layer, steps, batch)
    for name in differentiable(layer, given):
        given[name].requires_grad_()
    return given


def run(layer, given, parameters):
    """The output, the last states and the values of each step."""
    further = dict(given)
    x, *state = (further.pop(name) for name in ("x", *layer.state_names))
    state = tuple(state) if len(state) > 1 else state[0]
    output, last, *values = functional_call(layer, parameters, (x, state), further)
    return output, *tensors(last), *values_of(values).values()


def by_paper(case, states, values):
    """The same by the oracle, out of inputs and matrices; of the values it need not have any."""
    given = dict(values)
    x, *state = (given.pop(name) for name in ("x", *states))
    output, lasts, *told = case.oracle(x, *(s[0] for s in state), **given)
    return output, *(s[None] for s in lasts), *(v[None, None] for v in (told[0] if told else ()))


@pytest.mark.parametrize("name", quick(PAPERS, QUICK_PAPERS))
def test_outputs_are_the_papers(name):
    case, layer = PAPERS[name], PAPERS[name].layer(INPUT, HIDDEN, dtype=torch.float64)
    given, parameters = drawn(layer, T, B), parameters_of(layer)
    expected = by_paper(case, layer.state_names, numbers(given) | case.matrices(numbers(parameters)))
    symbols = ("output", *layer.state_names, *layer.cell.extra)
    for symbol, value, wanted in zip(symbols, run(layer, given, {}), expected, strict=False):
        assert_equal(value, wanted, symbol)


@pytest.mark.parametrize("name", quick(PAPERS, QUICK_PAPERS))
def test_gradients_are_the_papers(name):
    """The oracle's derivative by a complex step, exact to the last digits, for every input, state and matrix."""
    case, layer = PAPERS[name], PAPERS[name].layer(INPUT, HIDDEN, dtype=torch.float64)
    given, parameters = drawn(layer, T, B), parameters_of(layer)
    values = numbers(given) | case.matrices(numbers(parameters))
    weights = [torch.randn(value.shape).double() for value in by_paper(case, layer.state_names, values)]
    loss = sum((value * w).sum() for value, w in zip(run(layer, given, {}), weights, strict=False))
    leaves = {name: value for name, value in given.items() if value.requires_grad}
    # None depends on the noise behind a draw: its gradient is zero.
    slopes = torch.autograd.grad(
        loss, [*leaves.values(), *parameters.values()], allow_unused=True, materialize_grads=True
    )
    gradients = numbers(dict(zip([*leaves, *parameters], slopes, strict=True)))
    gradients |= case.matrices(gradients)
    # A diagonal block is free on its diagonal only; elsewhere the paper's matrix is zero and stays zero.
    free = case.matrices({name: np.ones(p.shape) for name, p in parameters.items()})

    for key in [*leaves, *free]:
        expected = np.zeros_like(values[key])
        for index in np.ndindex(expected.shape):
            moved = values[key].astype(complex)
            moved[index] += 1e-30j
            results = by_paper(case, layer.state_names, {**values, key: moved})
            expected[index] = sum(np.sum(r * w.numpy()) for r, w in zip(results, weights, strict=True)).imag / 1e-30
        assert_equal(torch.from_numpy(gradients[key]), expected * free.get(key, 1), key)


@pytest.mark.parametrize(
    "name", quick(CASES, CASES.keys() - PAPERS.keys())
)  # test_citizen.py has it for all, by kernels
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gradients_are_those_of_finite_differences(name, check):
    layer = CASES[name].layer(2, 3, dtype=torch.float64)
    given = drawn(layer, 3, 2)
    parameters = {name: value.detach().requires_grad_() for name, value in layer.named_parameters()}

    def of(*values):
        named = dict(zip([*given, *parameters], values, strict=True))
        return run(layer, {name: named[name] for name in given}, {name: named[name] for name in parameters})

    # The second derivatives in one random direction, the first entry by entry.
    assert check(of, (*given.values(), *parameters.values()), fast_mode=check is gradgradcheck)
