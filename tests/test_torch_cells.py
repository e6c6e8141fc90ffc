"""`RNNCell`, `LSTMCell` and `GRUCell` beside `torch.nn`'s: numbers, weights, copies; and the values of a step."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

import conveyor
from tolerance import assert_equal
from torch_layers import CELLS, HIDDEN, INPUT, every_space, flat, make_cell, same_results

every_cell = pytest.mark.parametrize("kind", CELLS)
ROWS = 3


def given(kind, form, dtype=torch.float32, seed=1):
    """An input and a state."""
    generator = torch.Generator().manual_seed(seed)
    batch = () if form == "unbatched" else (ROWS,)
    x = torch.randn(*batch, INPUT, generator=generator, dtype=dtype)
    states = tuple(torch.randn(*batch, HIDDEN, generator=generator, dtype=dtype) for _ in range(1 + (kind == "LSTM")))
    return x, states if len(states) > 1 else states[0]


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", ["batch", "unbatched"])
@pytest.mark.parametrize("state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("backend", ["auto", "compiled", "eager"])
def test_numbers_and_gradients(kind, bias, form, state, backend):
    ours, theirs = (make_cell(space, kind, bias=bias) for space in (conveyor, nn))
    x, states = given(kind, form)
    found = []
    for cell in (ours, theirs):
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *flat(states))]
        hx = tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
        with conveyor.backend(backend):
            results = flat(cell(leaves[0], hx if state else None))
        loss = sum((result * torch.arange(1, 1 + result.numel()).view_as(result)).sum() for result in results)
        wanted = [leaves[0], *(leaves[1:] if state else []), *cell.parameters()]
        found.append(results + list(torch.autograd.grad(loss, wanted)))
    for value, expected in zip(*found, strict=True):
        assert_equal(value, expected)


@every_space
@every_cell
def test_the_same_seed_gives_the_same_weights(space, kind):
    for seed in range(20):
        for options in ({}, {"bias": False}, {"dtype": torch.float64}):
            cell, wanted = (make_cell(each, kind, seed=seed, **options) for each in (space, nn))
            assert list(cell.state_dict()) == list(wanted.state_dict())
            assert all(map(torch.equal, cell.parameters(), wanted.parameters()))
            assert cell.extra_repr() == wanted.extra_repr()
            assert isinstance(cell, type(wanted))


@every_space
@every_cell
def test_weights_go_both_ways(space, kind):
    for source, target in ((nn, space), (space, nn)):
        first, second = make_cell(source, kind, seed=1), make_cell(target, kind, seed=2)
        assert not any(second.load_state_dict(first.state_dict()))
        assert same_results(second, first, *given(kind, "batch"))


@every_space
@every_cell
@pytest.mark.parametrize("way", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))], ids=["copy", "pickle"])
def test_copies_share_nothing(space, kind, way):
    cell, arguments = make_cell(space, kind), given(kind, "batch")
    cell.weight_hh.requires_grad_(False)
    wanted = flat(cell(*arguments))
    again = way(cell)
    assert type(again) is type(cell)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in cell.parameters()]
    assert same_results(again, cell, *arguments)
    with torch.no_grad():
        again.weight_ih.zero_()
    assert all(map(torch.equal, flat(cell(*arguments)), wanted))
    assert not torch.equal(flat(again(*arguments))[0], wanted[0])


@every_cell
@pytest.mark.parametrize("form", ["batch", "unbatched"])
def test_values_of_a_step(kind, form):
    cell, (x, state) = make_cell(conveyor, kind), given(kind, form)
    result, values = cell(x, state, record=True)
    for value, wanted in zip(flat(result), flat(cell(x, state)), strict=True):
        assert_equal(value, wanted)
    assert_equal(values["h"], flat(result)[0])
    if kind == "LSTM":
        rows = slice(HIDDEN, 2 * HIDDEN)  # the forget gate's
        f = x @ cell.weight_ih[rows].T + cell.bias_ih[rows] + state[0] @ cell.weight_hh[rows].T + cell.bias_hh[rows]
        assert_equal(values["f"], f.sigmoid())


@every_space
@every_cell
@pytest.mark.parametrize("backend", ["auto", "compiled", "eager"])
def test_tools_change_the_weights(space, kind, backend):
    """Whatever gives a cell other weights is seen in the next step."""
    arguments, other = given(kind, "batch"), make_cell(nn, kind, seed=5)
    cell, wanted = make_cell(space, kind), make_cell(nn, kind)
    with conveyor.backend(backend):
        found = functional_call(cell, dict(other.named_parameters()), arguments)
        for value, expected in zip(flat(found), flat(other(*arguments)), strict=True):
            assert_equal(value, expected)
        for each in (cell, wanted):
            parametrizations.weight_norm(each, "weight_hh")
            each.parametrizations.weight_hh.original0.data.mul_(2)
            prune.l1_unstructured(each, "weight_ih", 0.5)
        assert same_results(cell, wanted, *arguments)
        for each in (cell, wanted):
            each.bias_ih = nn.Parameter(torch.ones_like(each.bias_ih))
        assert same_results(cell, wanted, *arguments)


@every_cell
def test_a_cell_over_time_is_the_layer(kind):
    name = CELLS[kind][0].removesuffix("Cell")
    options = CELLS[kind][1]
    cell = make_cell(conveyor, kind)
    layer = getattr(conveyor, name)(INPUT, HIDDEN, **options)
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    x, state, outputs = torch.randn(6, ROWS, INPUT), None, []
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(flat(state)[0])
    assert_equal(torch.stack(outputs), layer(x)[0])
