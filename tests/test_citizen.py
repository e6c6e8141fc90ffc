"""A layer that runs by kernels does with PyTorch's other parts what torch.nn's layers do."""

import copy
import io
from itertools import product

import pytest
import torch
from torch import library
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils import parametrizations, parametrize

import conveyor
from cases import CASES, differentiable, extra_inputs, random_state, tensors
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
@torch._dynamo.config.patch(allow_rnn=True)  # without it, PyTorch compiles around everything that is a torch.nn.LSTM
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


def test_a_model_is_compiled_around_the_layer_as_around_torchs():
    torch._dynamo.reset()
    model, x = Model(), torch.randn(4, 3, 3, requires_grad=True)
    results = []
    for one in (model, torch.compile(model, backend="aot_eager")):
        output = one(x)
        results.append((output, *torch.autograd.grad(output.square().sum(), [x, *model.parameters()])))
    for value, wanted in zip(*results, strict=True):
        assert_equal(value, wanted)


def test_the_operators_keep_pytorchs_rules():
    """What a fake run says of shapes is so, nothing is written to, and the gradients go through."""
    from conveyor.compiler.graph import Key
    from conveyor.layer import operator
    from conveyor.layer.kernels import kernels_of
    from conveyor.layer.tracing import Signature, traced
    from conveyor.targets.registry import TARGETS

    cell = conveyor.zoo.LSTM(3, 5).double()
    found = traced(cell, Signature((("x", (3,), None), ("h", (5,), None), ("C", (5,), None)), (), torch.float64))
    sources = (
        Key("stream", "x"),
        Key("state", "h"),
        Key("state", "C"),
        *(Key("weight", name) for name in found.weights),
    )
    number = operator.register(kernels_of(found, TARGETS[0]), sources)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(2, 5, dtype=torch.float64) for _ in "hC"]
    given = [x, *states, *(get() for get in found.weights.values())]
    wanted = [tensor.requires_grad for tensor in given]
    library.opcheck(operator.forward, (given, None, number, 4, 2, 0, wanted))


class Asking(Model):
    """With a state, lengths and recorded values, as a user may ask for them."""

    def forward(self, x, state, lengths):
        output, (h, C), values = self.rnn(x, state, lengths=lengths, record=True, start=2)
        again, _ = self.rnn(x, hx=(h, C), lengths=[4, 0, 2])
        return self.out(output + again), values["f"]


@pytest.mark.parametrize("keywords", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "stack"])
def test_fx_sees_a_leaf(keywords):
    model = Model(**keywords).eval()
    graph = torch.fx.symbolic_trace(model)
    theirs = Model()
    theirs.rnn = torch.nn.LSTM(3, 5)
    assert str(graph.graph) == str(torch.fx.symbolic_trace(theirs).graph)
    assert graph.rnn is model.rnn
    x, lengths = torch.randn(4, 3, 3), torch.tensor([4, 0, 2])
    assert torch.equal(graph(x), model(x))
    assert torch.equal(graph(x, lengths), model(x, lengths))
    asking = Asking(**keywords)
    rows = asking.rnn.state_rows
    given = (x, (torch.randn(rows, 3, 5), torch.randn(rows, 3, 5)), lengths)
    for value, wanted in zip(torch.fx.symbolic_trace(asking)(*given), asking(*given), strict=True):
        assert torch.equal(value, wanted)


def test_fx_sees_further_streams_and_constants():
    class Fed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CASES["own, with streams"].layer(3, 5)

        def forward(self, x, drive, key):
            return self.rnn(x, drive=drive, key=key)[0]

    model, x = Fed(), torch.randn(4, 3, 3)
    further = extra_inputs(model.rnn, 4, 3, torch.float32)
    assert torch.equal(torch.fx.symbolic_trace(model)(x, **further), model(x, **further))


class Streaming(Model):
    def forward(self, x, h, C):
        output, state = self.rnn.step(x, (h, C))
        return self.out(output), *state


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_traced_loop_is_refused_and_a_traced_step_is_right():
    """A trace would hold a loop of as many steps as the input that it was made with."""
    with pytest.raises(RuntimeError, match=r"cuts longer inputs short: use torch\.export"):
        torch.jit.trace(Model(), torch.randn(4, 2, 3))
    model = Streaming(num_layers=2)
    traced = torch.jit.trace(model, (torch.randn(1, 3), *torch.randn(2, 2, 1, 5)))
    given = (torch.randn(7, 3), *torch.randn(2, 2, 7, 5))
    for value, wanted in zip(traced(*given), model(*given), strict=True):
        assert_equal(value, wanted)


@pytest.mark.filterwarnings("ignore")  # it tells of its end
def test_the_export_that_traces_is_refused():
    with pytest.raises(RuntimeError, match=r"use torch\.export"):
        torch.onnx.export(Model(), (torch.randn(4, 2, 3),), io.BytesIO(), dynamo=False)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_right_and_can_be_differentiated_again(name):
    layer = CASES[name].layer(2, 3, dtype=torch.float64)
    state, further = tensors(random_state(layer, 2)), extra_inputs(layer, 2, 2)
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


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_many_losses_at_once_are_those_of_one_after_the_other(name):
    layer = CASES[name].layer(2, 3, dtype=torch.float64)
    x, further = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True), extra_inputs(layer, 2, 2)
    with conveyor.backend("compiled"):
        output, last, *_ = layer(x, lengths=[2, 1], **further)
    ends, wanted = (output, *tensors(last)), (x, *layer.parameters())
    losses = [torch.randn(2, *end.shape, dtype=end.dtype) for end in ends]

    def gradients(weights, **keywords):
        return torch.autograd.grad(ends, wanted, weights, retain_graph=True, allow_unused=True, **keywords)

    found = gradients(losses, is_grads_batched=True)
    one_by_one = [gradients([loss[k] for loss in losses]) for k in range(2)]
    for tensor, value, *alone in zip(wanted, found, *one_by_one, strict=True):
        none = torch.zeros_like(tensor)  # of what nothing depends on, there may be no gradient
        stacked = torch.stack([none if gradient is None else gradient for gradient in alone])
        assert_equal(torch.zeros_like(stacked) if value is None else value, stacked, "gradient", KERNEL)


@pytest.mark.parametrize("backend", ["compiled", "eager"])
def test_a_state_that_is_computed_of_the_input_counts_once(backend):
    """Whichever way the gradient is computed: a kernel's is the loop's, where it is to be differentiated again."""
    layer, start = conveyor.GRU(3, 3).double(), torch.nn.Linear(3, 3).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    with conveyor.backend(backend):
        output, _ = layer(x, start(x[:1]))
    (once,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    assert_equal(again, once, "gradient", KERNEL)


def test_jacobians_of_a_kernel_are_right_in_every_way_to_compute_them():
    layer, x = conveyor.LSTM(2, 3, num_layers=2).double(), torch.randn(3, 2, 2, dtype=torch.float64)

    def run(x):
        return layer(x)[0]

    jacobian = torch.autograd.functional.jacobian(run, x)
    assert_equal(torch.autograd.functional.jacobian(run, x, vectorize=True), jacobian, "vectorised", KERNEL)
    assert_equal(torch.func.jacrev(run)(x), jacobian, "jacrev", KERNEL)
    x.requires_grad_()
    output = run(x)
    units = torch.eye(output.numel(), dtype=x.dtype).view(-1, *output.shape)
    by_vmap = torch.func.vmap(lambda unit: torch.autograd.grad(output, x, unit, retain_graph=True)[0])(units)
    assert_equal(by_vmap.view(jacobian.shape), jacobian, "vmap over the backward of a kernel", KERNEL)

    def loss(x):
        return run(x).square().sum()

    hessian = torch.autograd.functional.hessian(loss, x)
    assert_equal(torch.autograd.functional.hessian(loss, x, vectorize=True), hessian, "hessian", KERNEL)


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
    layer = conveyor.Recurrent(conveyor.zoo.LSTM, 3, 4).double()
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
    layer = conveyor.Recurrent(conveyor.zoo.LSTM, 3, 4).double()
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
