"""What holds of the kernel of every single operation, in each of its spellings."""

from functools import partial
from itertools import product

import pytest
import torch

import conveyor
from both import assert_float32_is_as_good, assert_kernel_is_loop, by_both, draw_inputs
from op_cells import APART, EXACT, OPS, POSITIVE, SHAPED, op_cell
from tiers import slow
from tolerance import assert_same_kinds

SPELLINGS = [(name, spelling) for name, spellings in OPS.items() for spelling in spellings]
every_spelling = pytest.mark.parametrize(
    ("name", "spelling"),
    [pytest.param(n, s, id=f"{n}: {s}"[:70], marks=() if s == OPS[n][0] or s in APART else slow) for n, s in SPELLINGS],
)
every_op = pytest.mark.parametrize("name", OPS)
# Zeros of both signs, infinities, NaN, the points at which the operations have their kinks, and what overflows in exp.
SPECIAL = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1.5, 20, -20, 800, -800]


def layer_and_inputs(name, spelling, steps, batch, width, dtype):
    layer = conveyor.Recurrent(op_cell(spelling), 3, width, dtype=dtype)
    inputs = draw_inputs(layer, steps, batch, SHAPED)
    if name in POSITIVE:
        for stream in ("u", "w"):
            if stream in inputs:
                inputs[stream] = (inputs[stream].detach().abs() + 0.2).requires_grad_()
    return layer, inputs


def exact_layer(name, layer):
    """The layer whose loop is exact, where that is another one."""
    if name not in EXACT:
        return layer
    exact = conveyor.Recurrent(op_cell(EXACT[name]), 3, layer.hidden_size, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    return exact


def assert_right(name, spelling, *sizes):
    layer, inputs = layer_and_inputs(name, spelling, *sizes, torch.float64)
    assert_kernel_is_loop(layer, inputs, exact=exact_layer(name, layer))


def graph_of(spelling):
    cell = op_cell(spelling)(3, 13)
    return conveyor.compile(cell, shapes={name: (*dims, 13) for name, dims in SHAPED.items()}).traced


@every_op
def test_the_spellings_of_an_operation_have_one_graph_and_so_one_kernel(name):
    first, *others = OPS[name]
    expected = graph_of(first)
    for spelling in others:
        assert (graph_of(spelling) == expected) != (spelling in APART), spelling


@every_spelling
def test_the_kernel_of_an_operation_is_the_loop(name, spelling):
    assert_right(name, spelling, 5, 7, 13)


@every_op
def test_the_kernel_of_an_operation_is_the_loop_at_other_sizes(name):
    for steps, batch, width in ((3, 1, 37), (1, 18, 16)):
        assert_right(name, OPS[name][0], steps, batch, width)


@every_op
@pytest.mark.parametrize("width", [pytest.param(13, marks=slow), 37])
def test_the_kernel_of_an_operation_in_float32_is_as_good_as_the_loop(name, width):
    assert_float32_is_as_good(partial(layer_and_inputs, name, OPS[name][0], 5, 7, width, torch.float32))


@every_op
def test_special_values_go_through_an_operation_as_through_the_loop(name):
    """Forward and in every gradient: infinities and NaN are where the loop has them, and kinks have its slopes."""
    layer = conveyor.Recurrent(op_cell(OPS[name][0]), 3, 13, dtype=torch.float64)
    with torch.no_grad():
        for operand in ("a", "b"):  # the operands are the streams themselves
            for parameter in getattr(layer.cell, operand).parameters() if hasattr(layer.cell, operand) else ():
                parameter.fill_(1 if parameter is getattr(layer.cell, operand).bias else 0)
    u, w = special_streams(13)
    inputs = draw_inputs(layer, 1, len(u), SHAPED)
    inputs |= {n: v[None].requires_grad_() for n, v in (("u", u), ("w", w)) if n in inputs}
    kernel, loop = by_both(layer, inputs, loss_of=["output"], exact=exact_layer(name, layer))
    for what, value in kernel.items():
        if what.startswith("gradient") and what.split()[-1] not in ("u", "w", "K", "V"):
            # What is behind the operand: there the loop has NaN for no more reason than that it multiplies 0 and inf.
            value = torch.where(loop[what].isfinite(), value, loop[what])
        assert_same_kinds(value, loop[what], what, as_one=what.startswith("gradient"))


def special_streams(width):
    """Two streams [B, width]: every pair of special values side by side, then one or two of them in a usual row."""
    pairs = torch.tensor([*product(SPECIAL, SPECIAL)], dtype=torch.float64)
    pairs = torch.cat([pairs, torch.ones(-len(pairs) % width, 2, dtype=torch.float64)])
    usual = torch.randn(2, 2 * len(SPECIAL) + 3, width, dtype=torch.float64)
    for i, value in enumerate(SPECIAL):
        usual[0, i, i % width] = value
        usual[1, i, (i + 3) % width] = value
        usual[0, len(SPECIAL) + i, 1] = value
        usual[0, len(SPECIAL) + i, width - 1] = -value
    usual[0, -3] = 0.5  # all equal, without a variance
    usual[0, -2] = 0
    return (torch.cat([pairs[:, i].reshape(-1, width), usual[i]]) for i in range(2))
