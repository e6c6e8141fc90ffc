"""What a trace of one step cannot stand for is refused, and what only looks like it is not."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from both import assert_kernel_is_loop, by_both, draw_inputs, results
from conveyor import Cell, Recurrent, backend
from conveyor.layer.backends import NotCompiled
from op_cells import op_cell

# Of values a and b [B, H] and the number of the step, t. Each would give other numbers than the loop, without a word.
REFUSED = {
    "a * a.shape[0]": "depends on the batch",
    "a / len(a)": "depends on the batch",
    "torch.full_like(a, len(a)) * a": "depends on the batch",
    "a[:2].sum(0) + b": "takes some rows",  # two, as one of the batches has with which a step is traced
    "a[:2, 1:4].mean() + b": "takes some rows",
    "a[:2, 0].sum() + b": "takes some rows",
    "a[:1] + b": "takes some rows",
    "a[-1:] + b": "takes some rows",
    "a[0] + b": "over the batch dimension",
    "a.narrow(0, 0, 1) + b": "over the batch dimension",
    "a.roll(1, 0)": "over the batch dimension",
    "a[::2].sum() + b": "joins it with another",
    "a.split(1)[0] + b": "as many parts as the batch has rows",
    "a[torch.tensor([0])] + b": "indexes by a tensor",
    "self.v[True] * a with v = matrix(H)": "indexes by a truth value",
    "a.flip(0)": "flip has no rule",
    "a[:, len(a) : len(a) + 2]": "depends on the batch",
    "a[:, len(a)][:, None]": "depends on the batch",
    "a.chunk(len(a), -1)[0][:, :2]": "as many parts as the batch has rows",
    "a * self.v[:len(a), None] with v = matrix(H)": "as many parts as the batch has rows",
    "a * __import__('random').random()": "on chance",
    "torch.randn(H) * a": "draws random numbers",
    "torch.rand(()) * a": "draws random numbers",
    "(lambda c: (c.__setitem__((slice(None), 0), 0.0), c)[1])(a * 2)": "writes into a tensor",
    "a.to(torch.int64) * b": "torch.int64",
    "a.to(torch.bool) * b": "torch.bool",
    "a.to(torch.bfloat16).to(a.dtype)": "torch.bfloat16",
    "((a > 0) + (b > 0)) * b": "adds truth values",
    "torch.where((t & 1) == 0, a, b)": "bits",
}
TAKEN = (
    "a[:len(a)]",
    "a[:len(a), 2:5]",
    "a.view(len(a), -1, 1).flatten(1)",
    "torch.zeros(len(a), H, dtype=a.dtype) + a",
    "self.v.expand(len(a), -1) * a with v = matrix(H)",
    "(a > 0).to(torch.int64) * b",
    "F.logsigmoid(a)",
    "self.m(a) with m = nn.LogSigmoid()",
    "0.5 ** a",
    "0 ** a.abs()",
)


def layer_of(text):
    return Recurrent(op_cell(text), 3, 13, dtype=torch.float64)


@pytest.mark.parametrize("text", REFUSED)
def test_a_step_that_a_trace_does_not_stand_for_is_refused(text):
    layer = layer_of(text)
    with pytest.raises(NotCompiled, match=rf"line \d+: .*{REFUSED[text]}.*; \w+"), backend("compiled"):
        results(layer, draw_inputs(layer, 3, 5))


@pytest.mark.parametrize("text", [text for text, why in REFUSED.items() if "rows" in why or "batch" in why])
def test_a_step_that_mixes_rows_is_left_to_the_loop(text):
    layer = layer_of(text)
    for batch in (2, 3, 5):
        inputs = draw_inputs(layer, 3, batch)
        with backend("eager"):
            loop = results(layer, inputs)
        with warnings.catch_warnings(), backend("auto"):
            warnings.simplefilter("ignore", RuntimeWarning)  # which is for each reason given once in a process
            found = results(layer, inputs)
        for name, value in found.items():
            assert torch.equal(value, loop[name])


@pytest.mark.parametrize("text", TAKEN)
def test_a_step_that_only_looks_like_it_is_not(text):
    layer = layer_of(text)
    assert_kernel_is_loop(layer, draw_inputs(layer, 3, 5))


@pytest.mark.parametrize("text", ["torch.div(a, 0.1, rounding_mode='floor')", "a.detach() // 0.1", "a.detach() // 0"])
def test_a_quotient_is_rounded_down_as_the_loop_does_it(text):
    """1 / 0.1 is rounded up to 10, but 0.1 is a little more than a tenth: it goes into 1 nine times."""
    layer = layer_of(f"{text} + 0 * b")
    with torch.no_grad():
        for parameter in layer.cell.a.parameters():
            parameter.fill_(1 if parameter is layer.cell.a.bias else 0)  # a is the stream u
    inputs = draw_inputs(layer, 1, 40) | {"u": torch.linspace(-2, 2, 40 * 13, dtype=torch.float64).view(1, 40, 13)}
    inputs["u"][0, 0, :4] = torch.tensor([1.0, 0.3, -0.3, 0.6])
    kernel, loop = by_both(layer, inputs)
    assert torch.equal(kernel["output"], loop["output"])


class Set(Cell):
    """With a setting in an object that the cell holds."""

    state = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.hidden = self.affine("h", "x")
        self.settings = SimpleNamespace(scale=1.0)

    def step(self, x, h):
        return torch.tanh(self.hidden(h, x)) * self.settings.scale


def test_a_changed_setting_is_seen():
    layer = Recurrent(Set, 3, 5, dtype=torch.float64)
    inputs = draw_inputs(layer, 2, 4)
    assert_kernel_is_loop(layer, inputs)
    layer.cell.settings.scale = 0.5
    assert_kernel_is_loop(layer, inputs)
