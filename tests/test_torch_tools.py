"""What PyTorch's tools do to `torch.nn`'s recurrent layers, they do to ours: with the same results."""

import copy
import io

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)
from torch.utils.checkpoint import checkpoint

import conveyor
from tolerance import assert_equal
from torch_layers import (
    BATCH,
    HIDDEN,
    INPUT,
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


class Model(nn.Module):
    """As a user's: it calls the layer, and reads what it gives."""

    def __init__(self, space, kind="LSTM", **keywords):
        super().__init__()
        self.rnn = make(space, kind, **keywords)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def models(space, kind="LSTM", **keywords):
    """One of the namespace, and one of torch.nn with the same weights."""
    model, wanted = Model(space, kind, **keywords), Model(nn, kind, **keywords)
    wanted.load_state_dict(model.state_dict())
    return model, wanted


@every_space
@every_kind
def test_functional_call_takes_all_weights_or_some(space, kind):
    module, other = make(space, kind, num_layers=2), make(nn, kind, num_layers=2, seed=5)
    before = flat(module(sequence()))
    wanted = other(sequence())
    weights = dict(other.named_parameters())
    found = functional_call(module, weights, (sequence(),))
    for value, expected in zip(flat(found), flat(wanted), strict=True):
        assert_equal(value, expected)
    names = list(weights)
    of_found, of_wanted = (torch.autograd.grad(scalar(r), list(weights.values())) for r in (found, wanted))
    for name, value, expected in zip(names, of_found, of_wanted, strict=True):
        assert_equal(value, expected, name)
    some = {"weight_hh_l1": weights["weight_hh_l1"]}
    mixed = make(nn, kind, num_layers=2)
    mixed.load_state_dict(some, strict=False)
    for value, expected in zip(
        flat(functional_call(module, some, (sequence(),))), flat(mixed(sequence())), strict=True
    ):
        assert_equal(value, expected)
    assert all(map(torch.equal, flat(module(sequence())), before))


@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_an_ensemble_by_vmap(kind):
    """Which `torch.nn`'s layers cannot: their kernels have no rule for it."""
    members = [make(conveyor, kind, seed=seed) for seed in range(3)]
    weights, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")

    def one(weights, buffers, x):
        return functional_call(skeleton, (weights, buffers), (x,))[0]

    found = vmap(one, (0, 0, None))(weights, buffers, sequence())
    for output, member in zip(found, members, strict=True):
        assert_equal(output, member(sequence())[0])
    by_each = torch.autograd.grad(scalar(found), list(weights.values()))
    assert all(gradient.shape[0] == 3 and gradient[2].any() for gradient in by_each)


@every_space
@every_kind
def test_tensors_can_be_swapped(space, kind):
    module, other = make(space, kind), make(nn, kind, seed=6)
    module(sequence())
    wanted = flat(other(sequence()))
    module._flat_weight_refs = []  # a tensor to which there are weak references is not swapped
    for name, parameter in other.named_parameters():
        torch.utils.swap_tensors(getattr(module, name), nn.Parameter(parameter.detach().clone()))
    module._init_flat_weights()
    for value, expected in zip(flat(module(sequence())), wanted, strict=True):
        assert_equal(value, expected)


@pytest.fixture
def _swapping():
    """Moving a module swaps its tensors instead of giving them new data."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@every_space
@every_kind
@pytest.mark.usefixtures("_swapping")
def test_moved_by_swapping(space, kind):
    module, wanted = make(space, kind, num_layers=2), make(nn, kind, num_layers=2)
    module(sequence())
    held = dict(module.named_parameters())
    module.double()
    assert all(getattr(module, name) is parameter for name, parameter in held.items())
    assert same_results(module, wanted.double(), sequence(dtype=torch.float64))


def under_weight_norm(module):
    parametrizations.weight_norm(module, "weight_hh_l0")


def under_spectral_norm(module):
    torch.manual_seed(4)  # for where its power iteration starts
    parametrizations.spectral_norm(module, "weight_hh_l0")


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2

    def right_inverse(self, weight):
        return weight * 2


def under_own(module):
    parametrize.register_parametrization(module, "weight_hh_l0", Half())
    parametrize.register_parametrization(module, "bias_ih_l0", Half())


@every_space
@every_kind
@pytest.mark.parametrize("add", [under_weight_norm, under_spectral_norm, under_own])
def test_parametrized(space, kind, add):
    module, wanted = make(space, kind), make(nn, kind)
    module(sequence())
    for each in (module, wanted):
        add(each)
    assert isinstance(module, nn.RNNBase)
    assert same_results(module.eval(), wanted.eval(), sequence())
    with torch.no_grad():
        for each in (module, wanted):
            next(each.parameters()).add_(0.3)
    assert same_results(module, wanted, sequence())
    with parametrize.cached():
        assert same_results(module, wanted, sequence())
    if space is not nn:  # whose own cannot be copied so: it holds computed weights
        assert same_results(copy.deepcopy(module), wanted, sequence())
    for each in (module, wanted):
        parametrize.remove_parametrizations(each, "weight_hh_l0")
    assert type(module).__name__ == type(wanted).__name__
    assert same_results(module, wanted, sequence())


@every_space
@every_kind
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("add", "remove"),
    [(weight_norm, remove_weight_norm), (spectral_norm, remove_spectral_norm)],
    ids=["weight", "spectral"],
)
def test_norms_by_hooks(space, kind, add, remove):
    module, wanted = make(space, kind), make(nn, kind)
    module(sequence())
    for each in (module, wanted):
        torch.manual_seed(4)
        add(each, "weight_hh_l0")
    for each in (module, wanted):
        each.train(False)
    assert same_results(module, wanted, sequence())
    for each in (module, wanted):
        with torch.no_grad():
            dict(each.named_parameters())[next(n for n, _ in each.named_parameters() if "hh_l0_" in n)].mul_(1.5)
    assert same_results(module, wanted, sequence())
    for each in (module, wanted):
        remove(each, "weight_hh_l0")
        each.weight_hh_l0.requires_grad_()
    assert isinstance(module.weight_hh_l0, nn.Parameter)
    assert same_results(module, wanted, sequence())


@every_space
@every_kind
@pytest.mark.parametrize("method", [prune.l1_unstructured, prune.random_unstructured, prune.ln_structured])
def test_pruned(space, kind, method):
    module, wanted = make(space, kind), make(nn, kind)
    module(sequence())
    for each in (module, wanted):
        torch.manual_seed(4)
        method(each, "weight_hh_l0", 0.4, *([2, 0] if method is prune.ln_structured else []))
    assert not module.weight_hh_l0.all()
    assert same_results(module, wanted, sequence())
    with torch.no_grad():
        module.weight_hh_l0_orig.mul_(2), wanted.weight_hh_l0_orig.mul_(2)
    assert same_results(module, wanted, sequence())
    for each in (module, wanted):
        prune.remove(each, "weight_hh_l0")
    assert same_results(module, wanted, sequence())


@every_space
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning", "ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_scripted(space, kind):
    """TorchScript compiles what `torch.nn` does."""
    model, wanted = models(space, kind, num_layers=2)
    scripted = torch.jit.script(model)
    for x in (sequence(), sequence()[:2]):
        assert_equal(scripted(x), wanted(x))
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    assert_equal(torch.jit.load(file)(sequence()), wanted(sequence()))
    assert_equal(model(sequence()), wanted(sequence()))  # which is as it was


@every_space
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_traced(space, kind):
    """And the trace is right for any number of steps."""
    model, wanted = models(space, kind, num_layers=2)
    traced = torch.jit.trace(model, sequence())
    for x in (sequence(), sequence()[:2], torch.cat([sequence(), sequence(seed=8)])):
        assert_equal(traced(x), wanted(x))


@every_space
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_dynamic_quantization_finds_the_layer(space, kind):
    model, wanted = models(space, kind)
    found, expected = (
        torch.ao.quantization.quantize_dynamic(each, {nn.LSTM, nn.GRU, nn.Linear}, dtype=torch.qint8)
        for each in (model, wanted)
    )
    assert type(found.rnn) is type(expected.rnn)
    assert "quantized" in type(found.rnn).__module__
    assert torch.equal(found(sequence()), expected(sequence()))
    assert_equal(model(sequence()), wanted(sequence()))


@every_space
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_dynamic_quantization_of_cells(space, name):
    """It takes no subclass, and says so instead of passing over it; `restore` first is the cure."""
    model = nn.ModuleList([getattr(space, name)(INPUT, HIDDEN)])
    if space is conveyor:
        with pytest.raises(NotImplementedError):
            torch.ao.quantization.quantize_dynamic(model, {getattr(nn, name)}, dtype=torch.qint8)
        conveyor.restore(model)
    found = torch.ao.quantization.quantize_dynamic(model, {getattr(nn, name)}, dtype=torch.qint8)
    assert "quantized" in type(found[0]).__module__


@every_space
@every_kind
def test_on_the_meta_device_shapes_are_real_ones(space, kind):
    module = make(space, kind, num_layers=2, bidirectional=True)
    wanted = [(value.shape, value.dtype) for value in flat(module(sequence()))]
    meta = make(space, kind, num_layers=2, bidirectional=True, device="meta")
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert [(v.shape, v.dtype) for v in flat(meta(sequence().to("meta")))] == wanted
    with torch.device("meta"):
        assert make(space, kind).weight_hh_l0.is_meta


@every_space
@every_kind
def test_under_a_fake_mode_shapes_are_real_ones(space, kind):
    module = make(space, kind, num_layers=2, bidirectional=True)
    wanted = [(value.shape, value.dtype) for value in flat(module(sequence()))]
    with FakeTensorMode():
        fake = make(space, kind, num_layers=2, bidirectional=True)
        assert [(v.shape, v.dtype) for v in flat(fake(torch.randn(TIME, BATCH, INPUT)))] == wanted


@pytest.fixture
def group():
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def trained(model, rounds=3):
    """The losses of a few steps."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.5), []
    for seed in range(rounds):
        loss = model(sequence(seed=seed)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@every_space
@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_in_distributed_data_parallel(space, kind):
    model, wanted = models(space, kind, num_layers=2)
    found = trained(nn.parallel.DistributedDataParallel(model))
    assert found == pytest.approx(trained(wanted), abs=1e-5)


@every_space
@pytest.mark.usefixtures("group")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_fully_sharded(space, kind):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, wanted = models(space, kind, num_layers=2)
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(model.rnn, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert trained(model) == pytest.approx(trained(wanted), abs=1e-5)


@every_space
@every_kind
def test_hooks_see_what_goes_in_and_out(space, kind):
    module, seen = make(space, kind), []
    module.register_forward_pre_hook(lambda _, given: seen.append(("before", len(given))))
    module.register_forward_hook(lambda _, given, results: seen.append(("after", len(given), results[0].shape)))
    module.register_full_backward_hook(lambda _, by_in, by_out: seen.append((by_in[0].shape, by_out[0].shape)))
    x, state = sequence().requires_grad_(), first_state(module, BATCH)
    results = module(x, state)
    scalar(results).backward()
    assert seen == [("before", 2), ("after", 2, results[0].shape), (x.shape, results[0].shape)]
    changed = make(space, kind)
    changed.register_forward_hook(lambda _, __, results: (results[0] * 2, results[1]))
    assert_equal(changed(sequence())[0], 2 * make(space, kind)(sequence())[0])
    named = make(space, kind)
    named.register_forward_pre_hook(lambda _, given, __: (given, {"hx": None}), with_kwargs=True)
    assert_equal(named(sequence(), hx=state)[0], make(space, kind)(sequence())[0])


def double_gradient(parameter):
    parameter.grad.mul_(2)


@every_space
def test_hooks_of_weights_see_their_gradients(space):
    module, seen = make(space, "LSTM", num_layers=2), {}
    for name, parameter in module.named_parameters():
        parameter.register_hook(lambda gradient, name=name: seen.update({name: gradient.clone()}))
        parameter.register_post_accumulate_grad_hook(double_gradient)
    scalar(module(sequence())).backward()
    wanted = make(nn, "LSTM", num_layers=2)
    expected = gradients(wanted, wanted(sequence()))
    assert seen.keys() == expected.keys()
    for name, parameter in module.named_parameters():
        assert_equal(seen[name], expected[name], name)
        assert_equal(parameter.grad, 2 * expected[name], name)


@every_space
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_symbolic_tracing_keeps_a_leaf(space, kind):
    model, wanted = models(space, kind)
    graph = torch.fx.symbolic_trace(model)
    assert str(graph.graph) == str(torch.fx.symbolic_trace(wanted).graph)
    assert graph.rnn is model.rnn
    assert_equal(graph(sequence()), wanted(sequence()))


@every_space
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_a_checkpointed_layer_is_computed_again(space, kind):
    """Also if that is the first call of all: the size is of this test only."""
    module, wanted = (make(each, kind, 9, 13, num_layers=2) for each in (space, nn))
    for _ in range(2):
        x = sequence(width=9).requires_grad_()
        found = checkpoint(module, x, use_reentrant=False)
        for value, expected in zip(
            gradients(module, found).values(), gradients(wanted, wanted(x)).values(), strict=True
        ):
            assert_equal(value, expected)


@every_space
@pytest.mark.parametrize("kind", ["tanh", "LSTM", "GRU"])
def test_gradients_are_accumulated(space, kind):
    """A second backward adds to the gradients of the first, for each weight."""
    module, wanted = make(space, kind), make(nn, kind)
    for each in (module, wanted):
        for seed in (1, 2):
            scalar(each(sequence(seed=seed))).backward()
        nn.utils.clip_grad_norm_(each.parameters(), 0.5)
    for value, expected in zip(module.parameters(), wanted.parameters(), strict=True):
        assert_equal(value.grad, expected.grad)
