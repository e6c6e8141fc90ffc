"""Ways in which people use `torch.nn`'s recurrent layers: classes, weights changed by any means, contexts, strides."""

import inspect

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import conveyor
from tolerance import assert_equal
from torch_layers import (
    BATCH,
    CELLS,
    HIDDEN,
    INPUT,
    KINDS,
    TIME,
    every_kind,
    every_space,
    first_state,
    flat,
    gradients,
    make,
    same_results,
    scalar,
    sequence,
)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
NAMES = sorted({name for name, _ in (*KINDS.values(), *CELLS.values())})


@pytest.mark.parametrize("name", NAMES)
def test_code_that_goes_by_the_exact_class_finds_ours(name):
    ours, theirs = getattr(conveyor, name), getattr(nn, name)
    module = ours(INPUT, HIDDEN)
    assert isinstance(module, theirs)
    assert type(module) == theirs  # noqa: E721 -- that is what such code says
    assert type(module) in {theirs}
    assert {theirs: "found"}[type(module)] == "found"
    assert type(module).__name__ == name
    others = [getattr(nn, other) for other in NAMES if other != name]
    assert not any(ours == other for other in others)
    assert not isinstance(theirs(INPUT, HIDDEN), ours)
    assert issubclass(ours, theirs)
    assert not issubclass(theirs, ours)


@pytest.mark.parametrize("name", NAMES)
def test_a_derived_class_is_itself_only(name):
    ours, theirs = getattr(conveyor, name), getattr(nn, name)
    derived = type(ours)("Own", (ours,), {})
    assert derived != theirs
    assert derived != ours
    assert derived not in {theirs: 1, ours: 2}
    assert isinstance(derived(INPUT, HIDDEN), theirs)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_stand_where_torchs_do_and_further_ones_have_names(name):
    module = getattr(conveyor, name)
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    found = [p.name for p in inspect.signature(module).parameters.values() if p.kind in positional]
    wanted = {
        "RNN": "input_size hidden_size num_layers nonlinearity bias batch_first dropout bidirectional device dtype",
        "LSTM": "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size device dtype",
        "GRU": "input_size hidden_size num_layers bias batch_first dropout bidirectional device dtype",
        "RNNCell": "input_size hidden_size bias nonlinearity device dtype",
    }.get(name, "input_size hidden_size bias device dtype")
    assert found == wanted.split()
    with pytest.raises(TypeError):
        module(INPUT, HIDDEN, *[None] * len(found))


@every_space
@every_kind
def test_layers_hold_parameters_and_nothing_else(space, kind):
    module = make(space, kind, num_layers=2)
    module(sequence())
    assert not list(module.children())
    assert not list(module.buffers())
    assert dict(module.named_modules()) == {"": module}


@every_space
@every_kind
def test_calls_by_keyword(space, kind):
    module, wanted = make(space, kind), make(nn, kind)
    state = first_state(module, BATCH)
    for value, expected in zip(flat(module(input=sequence(), hx=state)), flat(wanted(sequence(), state)), strict=True):
        assert_equal(value, expected)


def assigned(module, weights):
    module.load_state_dict(weights, assign=True)


def by_data(module, weights):
    for name, weight in weights.items():
        getattr(module, name).data = weight.clone()


def by_copy(module, weights):
    with torch.no_grad():
        for name, weight in weights.items():
            getattr(module, name).copy_(weight)


def by_vector(module, weights):
    vector_to_parameters(
        parameters_to_vector([weights[name] for name, _ in module.named_parameters()]), module.parameters()
    )


def by_attribute(module, weights):
    for name, weight in weights.items():
        setattr(module, name, nn.Parameter(weight.clone()))


def by_removal(module, weights):
    for name, weight in weights.items():
        delattr(module, name)
        setattr(module, name, nn.Parameter(weight.clone()))


def by_registering(module, weights):
    for name, weight in weights.items():
        delattr(module, name)
        module.register_parameter(name, nn.Parameter(weight.clone()))


@every_space
@every_kind
@pytest.mark.parametrize(
    "change",
    [assigned, by_data, by_copy, by_vector, by_attribute, by_removal, by_registering],
    ids=lambda c: c.__name__,
)
def test_weights_changed_by_any_means_are_used_in_the_next_call(space, kind, change):
    module, wanted = (make(each, kind, num_layers=2, bidirectional=True) for each in (space, nn))
    weights = {name: torch.randn_like(value) for name, value in wanted.state_dict().items()}
    wanted.load_state_dict(weights)
    module(sequence())
    change(module, weights)
    assert same_results(module, wanted, sequence())


def under_autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


CONTEXTS = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": under_autocast,
    "saved tensors elsewhere": lambda: torch.autograd.graph.save_on_cpu(),
    "anomalies detected": torch.autograd.detect_anomaly,
}
COLD = 17  # the first hidden size that no other test uses


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_where_the_first_call_is_made_does_not_matter(kind, context):
    """What a first call makes for all later ones does not depend on its context."""
    hidden = COLD + list(CONTEXTS).index(context)
    module, wanted = (make(space, kind, INPUT, hidden) for space in (conveyor, nn))
    with CONTEXTS[context]():
        module(sequence())
    assert same_results(module, wanted, sequence())
    with CONTEXTS[context]():
        results = flat(module(sequence()))
    for value, expected in zip(results, flat(wanted(sequence())), strict=True):
        assert torch.allclose(value.float(), expected, atol=0.05 if context == "autocast" else 1e-6)


@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
@pytest.mark.parametrize("first", ["fake", "functional_call", "vmap", "record", "compiled"])
def test_what_the_first_call_is_does_not_matter(kind, first):
    hidden = COLD + len(CONTEXTS) + ["fake", "functional_call", "vmap", "record", "compiled"].index(first)
    module, wanted = (make(space, kind, INPUT, hidden) for space in (conveyor, nn))
    if first == "fake":
        with FakeTensorMode(allow_non_fake_inputs=True):
            make(conveyor, kind, INPUT, hidden)(torch.randn(TIME, BATCH, INPUT))
    elif first == "functional_call":
        weights = {name: torch.zeros_like(value) for name, value in wanted.named_parameters()}
        assert not torch.func.functional_call(module, weights, (sequence(),))[0].any()
    elif first == "vmap":
        torch.func.vmap(lambda x: module(x)[0])(torch.stack([sequence(), sequence(seed=2)]))
    elif first == "record":
        module(sequence(), record=True)
    else:
        torch._dynamo.reset()
        torch.compile(module, backend="eager")(sequence())
    assert same_results(module, wanted, sequence())


@every_space
@every_kind
def test_inputs_and_states_of_any_strides(space, kind):
    module, wanted = (make(each, kind, num_layers=2) for each in (space, nn))
    state = first_state(module, 2 * BATCH)
    strided = tuple(s[:, ::2] for s in state) if isinstance(state, tuple) else state[:, ::2]
    for x in (
        torch.randn(BATCH, TIME, INPUT).transpose(0, 1),
        torch.randn(TIME, BATCH, 2 * INPUT)[..., ::2],
        torch.randn(INPUT, BATCH, TIME).permute(2, 1, 0),
        torch.randn(1, 1, INPUT).expand(TIME, BATCH, INPUT),
    ):
        assert not x.is_contiguous()
        assert same_results(module, wanted, x, strided)


@every_space
@every_kind
def test_only_the_input_needs_a_gradient(space, kind):
    """As when a frozen model is explained, or an input is optimised."""
    found = []
    for each in (space, nn):
        module = make(each, kind, num_layers=2).requires_grad_(False)
        x = sequence().requires_grad_()
        results = module(x)
        found.append(torch.autograd.grad(scalar(results), x)[0])
        assert all(p.grad is None for p in module.parameters())
    assert_equal(*found)


@every_space
@every_kind
def test_a_gradient_by_a_weight_alone_or_by_a_state_alone(space, kind):
    found = []
    for each in (space, nn):
        module = make(each, kind, num_layers=2)
        state = first_state(module, BATCH)
        leaves = [s.requires_grad_() for s in flat(state)]
        last = flat(module(sequence(), state))[-1]
        found.append(torch.autograd.grad(last.sum(), [module.weight_hh_l1], retain_graph=True))
        found[-1] += torch.autograd.grad(last.square().sum(), leaves)
    for value, expected in zip(*found, strict=True):
        assert_equal(value, expected)


@every_space
@every_kind
def test_one_layer_called_twice_in_one_graph(space, kind):
    """As an encoder of two sentences; its gradients are the sum of both."""
    found = []
    for each in (space, nn):
        module = make(each, kind)
        first = module(sequence())
        second = module(sequence(seed=2), first[1])
        found.append(gradients(module, [first, second]))
    for name, expected in found[1].items():
        assert_equal(found[0][name], expected, name)
