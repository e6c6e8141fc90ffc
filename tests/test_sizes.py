"""Sizes whose products do not fit in 31 bits, compared with the loop begun at the kernel's own state near the end."""

import os

import pytest
import torch

import conveyor
from conveyor import backend
from tiers import slow
from tolerance import WORSE, assert_equal

STEPS, BATCH, HIDDEN, TAIL = 1100, 16384, 8, 3
assert STEPS * BATCH * 4 * HIDDEN * 4 > 2**31  # bytes of an LSTM's gates in all steps
NEAR = 100  # steps before the end; what came before them has been forgotten
FLOAT32 = {torch.float32: WORSE * 1e-6}


def free():
    """Bytes of memory."""
    known = "SC_AVPHYS_PAGES" in os.sysconf_names
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0


def last_steps(layer, x, state, name):
    """The output of the last steps, and the gradients of its squares by them and by the weights, from this state on."""
    x = x.detach().requires_grad_()
    with backend(name):
        output = layer(x, state)[0][-TAIL:]
        gradients = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    return output.detach(), gradients[0][-TAIL:], gradients[1:]


@slow
@pytest.mark.skipif(free() < 10 * 2**30, reason="less than 10 GiB of memory are free")
def test_values_and_gradients_of_more_than_two_gibibytes():
    layer, x = conveyor.LSTM(1, HIDDEN), torch.randn(STEPS, BATCH, 1)
    with backend("compiled"), torch.no_grad():
        near = layer(x[:-NEAR])[1]
        middle = layer(x[-NEAR:-TAIL], near)[1]
    output, gradient, by_weights = last_steps(layer, x, None, "compiled")
    wanted, wanted_gradient, _ = last_steps(layer, x[-TAIL:], middle, "eager")
    assert_equal(output, wanted, "output", FLOAT32)
    assert_equal(gradient, wanted_gradient, "gradient", FLOAT32)
    _, _, wanted_by_weights = last_steps(layer, x[-NEAR:], near, "compiled")
    for value, other in zip(by_weights, wanted_by_weights, strict=True):
        assert_equal(value, other, "gradient by a weight", FLOAT32)
