"""The gates that keep a state are found in a cell's equations."""

import pytest
import torch

from conveyor import zoo
from conveyor.compare.gates import keeping, open_gates

NONE = ("rnn", "rnn-relu", "lstm-original", "lstm-nfg", "gru-reset-before", "clockwork")  # no such gate, or no bias


@pytest.mark.parametrize("name", zoo.CELLS)
def test_an_open_gate_keeps_a_state(name):
    """Wide open, a state's derivative by the one before is 1, whatever else the step does."""
    torch.manual_seed(0)
    cell = zoo.CELLS[name](3, 8)
    assert bool(keeping(cell)) == (name not in NONE)
    before = [weight.clone() for weight in cell.parameters()]
    open_gates(cell, 40.0)
    changed = [key for (key, now), old in zip(cell.named_parameters(), before, strict=True) if not now.equal(old)]
    assert changed == list(keeping(cell))
    if name in NONE or cell.arguments[1:] != cell.state:
        return  # those that take more than x: the same gates as an LSTM's
    states = [torch.randn(1, 8) for _ in cell.state]
    x = torch.randn(1, 3)

    def new(*old):
        found = cell.step(x, *old)
        return found if isinstance(found, tuple) else (found,)

    slopes = torch.autograd.functional.jacobian(new, tuple(states))
    kept = [slopes[n][n][0, :, 0].diagonal() for n in range(len(states))]
    assert any(((one - 1).abs() < 1e-4).all() for one in kept)


def test_by_nothing_nothing_changes():
    cell = zoo.LSTM(3, 8)
    before = {name: weight.clone() for name, weight in cell.named_parameters()}
    open_gates(cell, 0.0)
    assert all(weight.equal(before[name]) for name, weight in cell.named_parameters())
