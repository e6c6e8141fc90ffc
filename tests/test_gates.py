"""The gates that keep a state are found in a cell's equations."""

import pytest
import torch

from conveyor import zoo
from conveyor.compare.gates import keeping, open_gates

NONE = ("rnn", "rnn-relu", "lstm-original", "lstm-nfg", "gru-reset-before", "clockwork")  # no such gate, or no bias


@pytest.mark.parametrize("name", zoo.CELLS)
def test_an_open_gate_keeps_a_state(name):
    """Where all other weights are 0 and so nothing is added to it."""
    cell = zoo.CELLS[name](3, 8)
    assert bool(keeping(cell)) == (name not in NONE)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.zero_()
    open_gates(cell, 40.0)
    assert [key for key, weight in cell.named_parameters() if weight.any()] == list(keeping(cell))
    if name in NONE or cell.arguments[1:] != cell.state:
        return  # those that take more than x: their gates are an LSTM's
    states = [torch.randn(1, 8) for _ in cell.state]
    found = cell.step(torch.randn(1, 3), *states)
    new = found if isinstance(found, tuple) else (found,)
    assert any(torch.allclose(one, old) for one, old in zip(new, states, strict=True))


def test_by_nothing_nothing_changes():
    cell = zoo.LSTM(3, 8)
    before = {name: weight.clone() for name, weight in cell.named_parameters()}
    open_gates(cell, 0.0)
    assert all(weight.equal(before[name]) for name, weight in cell.named_parameters())
