"""Every cell equals its paper: outputs and all gradients, against the oracles and by finite differences."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from cases import CASES, PAPERS, others, parameters_of, random_state, tensors, values_of
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 4, 2, 3, 3


def numbers(named):
    return {name: value.detach().numpy().copy() for name, value in named.items()}


@pytest.mark.parametrize("name", PAPERS)
def test_outputs_are_the_papers(name):
    case, layer = PAPERS[name], PAPERS[name].layer(INPUT, HIDDEN, dtype=torch.float64)
    x, state = torch.randn(T, B, INPUT, dtype=torch.float64), random_state(layer, B)
    W = case.matrices(numbers(parameters_of(layer)))
    expected, lasts = case.oracle(x.numpy(), *(s[0].numpy() for s in tensors(state)), **W)
    output, last, *_ = layer(x, state)
    assert_equal(output, expected, "output")
    for value, wanted, symbol in zip(tensors(last), lasts, layer.state_names, strict=True):
        assert_equal(value[0], wanted, symbol)


@pytest.mark.parametrize("name", PAPERS)
def test_gradients_are_the_papers(name):
    """The oracle's derivative by a complex step, exact to the last digits, for every input, state and matrix."""
    case, layer = PAPERS[name], PAPERS[name].layer(INPUT, HIDDEN, dtype=torch.float64)
    x, state = torch.randn(T, B, INPUT, dtype=torch.float64), tensors(random_state(layer, B))
    for tensor in (x, *state):
        tensor.requires_grad_()
    output, last, *_ = layer(x, state if len(state) > 1 else state[0])
    weights = [torch.randn_like(value) for value in (output, *tensors(last))]
    sum((value * w).sum() for value, w in zip((output, *tensors(last)), weights, strict=True)).backward()

    values = {"x": x.detach().numpy()} | {f"s{i}": s[0].detach().numpy() for i, s in enumerate(state)}
    values |= case.matrices(numbers(parameters_of(layer)))
    gradients = {"x": x.grad.numpy()} | {f"s{i}": s.grad[0].numpy() for i, s in enumerate(state)}
    gradients |= case.matrices({name: p.grad.numpy() for name, p in parameters_of(layer).items()})
    # A diagonal block is free on its diagonal only; elsewhere the paper's matrix is zero and stays zero.
    free = case.matrices({name: np.ones(p.shape) for name, p in parameters_of(layer).items()})

    def loss(given):
        states = [given[f"s{i}"] for i in range(len(state))]
        output, lasts = case.oracle(given["x"], *states, **{k: v for k, v in given.items() if k != "x" and k[0] != "s"})
        w = [weight.numpy() for weight in weights]
        return np.sum(output * w[0]) + sum(np.sum(s * v[0]) for s, v in zip(lasts, w[1:], strict=True))

    for key, value in values.items():
        expected = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            expected[index] = loss({**values, key: moved}).imag / 1e-30
        assert_equal(torch.from_numpy(gradients[key]), expected * free.get(key, 1), key)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gradients_are_those_of_finite_differences(name, check):
    layer = CASES[name].layer(2, 3, dtype=torch.float64)
    further = others(layer, 3, 2)
    names, values = zip(*layer.named_parameters(), strict=True)
    inputs = (torch.randn(3, 2, 2, dtype=torch.float64), *tensors(random_state(layer, 2)), *further.values(), *values)
    count = len(layer.state_names)

    def run(x, *rest):
        state, rest = rest[:count], rest[count:]
        streams = dict(zip(further, rest[: len(further)], strict=True))
        parameters = dict(zip(names, rest[len(further) :], strict=True))
        output, last, *values = functional_call(layer, parameters, (x, state if count > 1 else state[0]), streams)
        return (output, *tensors(last), *values_of(values).values())

    assert check(run, tuple(value.detach().requires_grad_() for value in inputs))
