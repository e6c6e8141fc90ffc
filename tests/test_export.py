"""A layer under torch.export, and what it leaves for other processes."""

import pytest
import torch

import conveyor
from cases import CASES, extra_inputs
from tolerance import KERNEL, assert_equal


class Model(torch.nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, **further):
        return self.rnn(x, **further)[0]


def targets(exported):
    return [str(node.target) for node in exported.graph.nodes]


@pytest.mark.parametrize("strict", [False, True], ids=["as it runs", "by torch.compile"])
@pytest.mark.parametrize("name", ["gru", "lstm-peephole", "own, with streams", "clockwork"])
def test_the_first_run_of_a_layer_may_be_its_export(name, strict):
    torch._dynamo.reset()
    model, x = Model(CASES[name].layer(3, 6, num_layers=2).double()), torch.randn(4, 2, 3).double()
    further = extra_inputs(model.rnn, 4, 2)
    fresh = torch.export.export(model, (x,), further, strict=strict)
    output = model(x, **further)
    again = torch.export.export(model, (x,), further, strict=strict)
    assert targets(fresh) == targets(again)
    assert not [target for target in targets(fresh) if "autocast" in target or "submod" in target]
    assert any("conveyor" in target for target in targets(fresh))
    assert_equal(fresh.module()(x, **further), output, "output", KERNEL)


class Scaled(conveyor.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.register_buffer("scale", torch.arange(hidden_size))

    def step(self, x, h):
        return torch.tanh(self.candidate(h, x)) * self.scale


def test_whole_numbers_that_a_cell_holds_are_to_be_seen_before_it_is_exported():
    model, x = Model(conveyor.Recurrent(Scaled, 3, 5).double()), torch.randn(4, 2, 3).double()
    with pytest.raises(ValueError, match="run once before it is exported"):
        torch.export.export(model, (x,))
    output = model(x)
    assert_equal(torch.export.export(model, (x,)).module()(x), output, "output", KERNEL)
