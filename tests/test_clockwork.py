"""The clockwork RNN: what it is when all its clocks tick, when its modules sleep, and what it refuses."""

import pytest
import torch

import conveyor
from conveyor import zoo
from tolerance import assert_equal


def test_with_all_periods_one_it_is_a_plain_rnn_with_a_block_triangular_matrix():
    clocks = conveyor.Recurrent(zoo.ClockworkRNN, 3, 12, periods=[1, 1, 1], dtype=torch.float64)
    plain = conveyor.Recurrent(zoo.RNN, 3, 12, dtype=torch.float64)
    target = plain.cell.hidden
    with torch.no_grad():
        target.weight_h.zero_()
        for k, module in enumerate(clocks.cell.hidden):
            rows = slice(4 * k, 4 * k + 4)
            target.weight_h[rows, 4 * k :] = module.weight_h
            target.weight_x[rows], target.bias[rows] = module.weight_x, module.bias
    x = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    outputs = [layer(x)[0] for layer in (clocks, plain)]
    assert_equal(*outputs, "output")
    assert_equal(*(torch.autograd.grad(output.square().sum(), x)[0] for output in outputs), "gradient")


def test_a_module_changes_in_its_own_steps_only_and_the_slow_do_not_hear_the_fast():
    layer = conveyor.Recurrent(zoo.ClockworkRNN, 3, 8, periods=[1, 3], dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    output, _ = layer(x, start=2)  # steps 2 to 9
    fast, slow = output.split(4, -1)
    changed = (slow[1:] != slow[:-1]).any(-1).all(-1).tolist()
    assert changed == [t % 3 == 0 for t in range(3, 10)]
    assert (fast[1:] != fast[:-1]).all()
    state = torch.randn(1, 2, 8, dtype=torch.float64)
    other = state.clone()
    other[..., :4] += 1  # of the fast module
    after, changed_after = (layer(x, s)[0].split(4, -1) for s in (state, other))
    assert torch.equal(after[1], changed_after[1])
    assert not torch.equal(after[0], changed_after[0])


@pytest.mark.parametrize(
    ("periods", "words"),
    [
        ([1, 2, 4, 8], "10 does not divide into 4 equal modules"),
        ([2, 1], r"must ascend.*\[1, 2\], not \[2, 1\]"),
        ([0, 1], "positive integers"),
        ([-1, 1], "positive integers"),
        ([1.0, 2], "positive integers"),
        ([], "list of integers"),
        (3, "list of integers"),
    ],
)
def test_periods_that_cannot_be_are_refused(periods, words):
    with pytest.raises(ValueError, match=words):
        conveyor.Recurrent(zoo.ClockworkRNN, 3, 10, periods=periods)
