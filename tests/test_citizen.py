"""A layer that runs by kernels does with PyTorch's other parts what torch.nn's layers do."""

import copy
from itertools import product

import pytest
import torch
from torch import library
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils import parametrizations, parametrize

import conveyor
from cases import CASES, differentiable, others, random_state, tensors
from tiers import quick
from tolerance import KERNEL, assert_equal


class Model(torch.nn.Module):
    def __init__(self, **keywords):
        super().__init__()
        self.rnn = conveyor.LSTM(3, 5, **keywords)
        self.out = torch.nn.Linear(self.rnn.output_size, 2)

    def forward(self, x, lengths=None):
        return self.out(self.rnn(x, lengths=lengths)[0])


STACKS = {
    "one layer": {},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
    "regularised": {"zoneout": 0.2, "recurrent_dropout": 0.3, "input_dropout": 0.3},
    "learnt initial state": {"learn_initial_state": True},
}


@pytest.mark.parametrize(
    ("stack", "form"),
    quick(
        product(STACKS, ("whole", "lengths")), [("two layers, both directions", "lengths"), ("regularised", "whole")]
    ),
)
def test_a_model_is_compiled_without_a_graph_break(stack, form):
    torch._dynamo.reset()
    lengths = [4, 0, 2] if form == "lengths" else None
    model = Model(**STACKS[stack]).double()
    x = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    counts = None if lengths is None else torch.tensor(lengths)
    found = []
    for one in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)  # the same masks
        output = one(x, counts)
        gradients = torch.autograd.grad(output.square().sum(), [x, *model.parameters()], allow_unused=True)
        found.append((output, *(g for g in gradients if g is not None)))
    for value, wanted in zip(found[1], found[0], strict=True):
        assert_equal(value, wanted)
    with torch.no_grad():
        assert torch.compile(model.eval(), fullgraph=True, backend="aot_eager")(x, counts).shape == (4, 3, 2)


def test_the_operators_keep_pytorchs_rules():
    """What a fake run says of shapes is so, nothing is written to, and the gradients go through."""
    from conveyor.compiler import operator
    from conveyor.kernels import kernel_of

    cell = conveyor.zoo.LSTM(3, 5).double()
    found = kernel_of(cell, (("x", (3,), None), ("h", (5,), None), ("C", (5,), None)), (), torch.float64, False)
    sources = (("stream", "x"), ("state", "h"), ("state", "C"), *(("weight", name) for name in found.weights))
    number = operator.register(found.kernel, sources)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(2, 5, dtype=torch.float64) for _ in "hC"]
    given = [x, *states, *(get() for get in found.weights.values())]
    wanted = [tensor.requires_grad for tensor in given]
    library.opcheck(operator.forward, (given, None, number, 4, 2, 0, wanted))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_right_and_can_be_differentiated_again(name):
    layer = CASES[name].layer(2, 3, dtype=torch.float64)
    state, further = tensors(random_state(layer, 2)), others(layer, 2, 2)
    x = torch.randn(2, 2, 2, dtype=torch.float64)
    inputs = (x, *state, *further.values())
    for value in (x, *state, *(further[name] for name in differentiable(layer, further))):
        value.requires_grad_()

    def run(x, *rest):
        given = rest[: len(state)]
        streams = dict(zip(further, rest[len(state) :], strict=True))
        output, last, *_ = layer(x, given if len(given) > 1 else given[0], **streams)
        return (output, *tensors(last))

    with conveyor.backend("compiled"):
        assert gradcheck(run, inputs, fast_mode=True)
        assert gradgradcheck(run, inputs, fast_mode=True)


def test_a_gradient_that_is_differentiated_again_is_the_loops():
    layer = conveyor.GRU(3, 4, num_layers=2, bidirectional=True).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

    def penalty():
        (gradient,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), list(layer.parameters()))

    with conveyor.backend("compiled"):
        kernel = penalty()
    with conveyor.backend("eager"):
        loop = penalty()
    for value, wanted in zip(kernel, loop, strict=True):
        assert_equal(value, wanted, "second gradient", KERNEL)


def test_an_output_changed_in_place_before_backward_is_an_error():
    layer = conveyor.LSTM(3, 4)
    output, _ = layer(torch.randn(5, 2, 3))
    with torch.no_grad():
        output.mul_(2)
    with pytest.raises(RuntimeError, match=r"modified in ?place|inplace"):
        output.sum().backward()


def test_the_graph_can_be_kept_for_another_backward():
    layer = conveyor.LSTM(3, 4)
    loss = layer(torch.randn(5, 2, 3))[0].sum()
    first = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    for value, again in zip(torch.autograd.grad(loss, list(layer.parameters())), first, strict=True):
        assert torch.equal(value, again)


@pytest.mark.parametrize("add", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights_are_learnt(add):
    layer = conveyor.LSTM(3, 4).double()
    add(layer.cells[0].forget, "weight_h")
    loop = copy.deepcopy(layer)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for one, backend in ((layer, "compiled"), (loop, "eager")):
        with conveyor.backend(backend):
            found.append(torch.autograd.grad(one(x)[0].square().sum(), list(one.parameters())))
    for value, wanted in zip(*found, strict=True):
        assert_equal(value, wanted, "gradient", KERNEL)


class Drop(torch.nn.Module):
    def forward(self, weight):
        return torch.nn.functional.dropout(weight, 0.5)


def test_a_weight_drop_has_one_mask_for_the_sequence():
    layer = conveyor.LSTM(3, 4).double()
    parametrize.register_parametrization(layer.cells[0].forget, "weight_h", Drop())
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for backend in ("compiled", "eager"):
        torch.manual_seed(3)
        with conveyor.backend(backend):
            found.append(layer(x)[0])
    assert_equal(*found, "output", KERNEL)


@pytest.mark.parametrize("lengths", [None, [5, 2]], ids=["whole", "lengths"])
def test_under_autocast_types_are_those_of_torch_nn(lengths):
    """Which itself cannot run so on every machine: test_torch.py has its numbers beside ours."""
    layer, x = conveyor.LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), conveyor.backend("compiled"):
        output, (h, C) = layer(x, lengths=lengths)
    assert {value.dtype for value in (output, h, C)} == {torch.bfloat16}
    output.float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
