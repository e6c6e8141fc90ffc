"""`RNN`, `LSTM` and `GRU` beside `torch.nn`'s: numbers and gradients, weights, state_dict, copies, types.

Where a test takes a namespace, the same is expected of `torch.nn` and of conveyor.
"""

import copy
import io
import pickle
import random

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import conveyor
from tiers import pairwise
from tolerance import KERNEL, assert_equal
from torch_layers import (
    BATCH,
    FORMS,
    HIDDEN,
    INPUT,
    KINDS,
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
CONFIGURATIONS = 200
BOTH = (nn, conveyor)


def leaf(x):
    """The same input, by which gradients can be taken, and the tensor by which."""
    value = x.data.detach().clone().requires_grad_()
    return (PackedSequence(value, *x[1:]) if isinstance(x, PackedSequence) else value), value


@pytest.mark.parametrize(
    ("kind", "layers", "both", "bias", "batch_first", "form", "given", "training"),
    pairwise(KINDS, (1, 3), *[(False, True)] * 3, FORMS, *[(False, True)] * 2),
)
def test_numbers_and_gradients(kind, layers, both, bias, batch_first, form, given, training):
    """With dropout where it does not act: in evaluation. In float64: three layers of relu differ by more in float32."""
    options = {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": batch_first}
    options["dropout"] = 0.5 if layers > 1 and not training else 0.0
    found = []
    for space in (conveyor, nn):
        module = make(space, kind, **options, dtype=torch.float64).train(training)
        x, value = leaf(sequence(form, batch_first, dtype=torch.float64))
        batch = [] if form == "unbatched" else [BATCH]
        state = first_state(module, *batch, dtype=torch.float64) if given else None
        leaves = [s.requires_grad_() for s in flat(state)] if given else []
        results = module(x, state)
        of_inputs = torch.autograd.grad(scalar(results), [value, *leaves], retain_graph=True)
        found.append(flat(results) + list(of_inputs) + list(gradients(module, results).values()))
    for ours, theirs in zip(*found, strict=True):
        assert_equal(ours, theirs, table=KERNEL)


@every_kind
@pytest.mark.parametrize("both", [False, True])
def test_with_the_same_seed_dropout_drops_the_same(kind, both):
    results = []
    for space in (conveyor, nn):
        module = make(space, kind, num_layers=3, bidirectional=both, dropout=0.5)
        torch.manual_seed(5)
        results.append(flat(module(sequence())))
    for ours, theirs in zip(*results, strict=True):
        assert_equal(ours, theirs)


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    """And leaves the generator where torch.nn does, so that whatever is made next is the same, too."""
    choose = random.Random(0)
    for seed in range(CONFIGURATIONS):
        kind = choose.choice(list(KINDS))
        hidden = choose.randint(4, 9)
        options = {name: choose.random() < 0.5 for name in ("bias", "batch_first", "bidirectional")}
        options |= {"num_layers": choose.randint(1, 3), "dtype": choose.choice([torch.float32, torch.float64])}
        options |= {"proj_size": choose.randint(1, hidden - 1)} if kind == "projected" else {}
        sizes = (choose.randint(1, 9), hidden)
        theirs = make(nn, kind, *sizes, seed=seed, **options)
        after = torch.rand(1)
        ours = make(conveyor, kind, *sizes, seed=seed, **options)
        assert torch.equal(torch.rand(1), after), (kind, sizes, options)
        assert list(ours.state_dict()) == list(theirs.state_dict()), (kind, sizes, options)
        for name, weight in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], weight), (kind, sizes, options, name)
        for module in (theirs, ours):
            torch.manual_seed(seed)
            module.reset_parameters()
        assert all(map(torch.equal, ours.parameters(), theirs.parameters())), "reset_parameters"


@every_kind
def test_weights_go_both_ways_by_their_names(kind):
    theirs, ours = (make(space, kind, num_layers=2, bidirectional=True, seed=i) for i, space in enumerate(BOTH))
    for source, target in ((theirs, ours), (make(conveyor, kind, num_layers=2, bidirectional=True, seed=7), theirs)):
        shapes = [(name, parameter.shape) for name, parameter in source.named_parameters()]
        assert shapes == [(name, parameter.shape) for name, parameter in target.named_parameters()]
        assert not any(target.load_state_dict(source.state_dict(), strict=True))
        assert same_results(target, source, sequence())


@every_kind
@pytest.mark.parametrize("way", ["to ours", "to torch.nn"])
def test_an_optimizers_state_goes_both_ways(kind, way):
    """It is held by the order of the parameters."""
    spaces = BOTH if way == "to ours" else BOTH[::-1]
    before, after = (make(space, kind, seed=i) for i, space in enumerate(spaces))
    optimizers = [torch.optim.Adam(module.parameters(), lr=0.1) for module in (before, after)]
    scalar(before(sequence())).backward()
    optimizers[0].step()
    after.load_state_dict(before.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))  # it would share the moments
    for module, optimizer in zip((before, after), optimizers, strict=True):
        module.zero_grad()
        scalar(module(sequence(seed=9))).backward()
        optimizer.step()
    for actual, wanted in zip(after.parameters(), before.parameters(), strict=True):
        assert torch.allclose(actual, wanted, atol=1e-4)


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def saved_weights(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    again = copy.deepcopy(module)
    again.reset_parameters()
    again.load_state_dict(torch.load(file, weights_only=True))
    return again


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save of the module": saved,
    "torch.save of the weights": saved_weights,
}


@every_space
@every_kind
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_computes_the_same_and_shares_nothing(space, kind, way):
    module = make(space, kind, num_layers=2, bidirectional=True)
    module.weight_hh_l1.requires_grad_(False)
    module(sequence())  # what it has made for this must not be copied wrongly
    again = COPIES[way](module)
    assert type(again) is type(module)
    assert repr(again) == repr(module)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in module.parameters()]
    assert same_results(again, module, sequence())
    before = flat(module(sequence()))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert not flat(again(sequence()))[0].any()
    assert all(map(torch.equal, flat(module(sequence())), before))
    assert all(map(torch.equal, again._flat_weights, (p for p in again.parameters())))


@every_space
def test_a_shallow_copy_shares_the_weights(space):
    module = make(space, "LSTM")
    again = copy.copy(module)
    assert again.weight_hh_l0 is module.weight_hh_l0
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    assert same_results(again, module, sequence())


@every_space
@every_kind
def test_types_move_together(space, kind):
    module = make(space, kind, num_layers=2)
    x, wanted = sequence(), flat(module(sequence()))
    for dtype, change in ((torch.float64, module.double), (torch.bfloat16, module.bfloat16)):
        assert change() is module
        assert {p.dtype for p in module.parameters()} == {dtype}
        assert {p.dtype for p in module._flat_weights} == {dtype}
        found = flat(module(x.to(dtype)))
        assert {value.dtype for value in found} == {dtype}
        for value, expected in zip(found, wanted, strict=True):
            assert torch.allclose(value.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5)
    module.half()
    assert {p.dtype for p in module.parameters()} == {torch.float16}


@every_space
def test_a_bfloat16_checkpoint_in_float32_is_computed_in_float32(space):
    """The sum of two biases, for example, is not rounded to bfloat16."""
    checkpoint = {name: value.bfloat16() for name, value in make(nn, "LSTM").state_dict().items()}
    module, wanted = make(space, "LSTM", seed=8), make(nn, "LSTM", seed=9)
    for each in (module, wanted):
        each.load_state_dict(checkpoint)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert same_results(module, wanted, sequence())
    assert torch.equal(module.bias_hh_l0, checkpoint["bias_hh_l0"].float())


@every_space
def test_memory_is_shared_or_left_empty_on_request(space):
    module = make(space, "GRU")
    wanted = flat(module(sequence()))
    assert module.share_memory() is module
    assert all(p.is_shared() for p in module.parameters())
    assert all(map(torch.allclose, flat(module(sequence())), wanted))
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    empty = make(space, "GRU", device="meta").to_empty(device="cpu")
    empty.load_state_dict(weights)
    assert all(map(torch.allclose, flat(empty(sequence())), wanted))


@every_space
@every_kind
def test_lists_of_weights_are_those_that_are_computed_with(space, kind):
    module = make(space, kind, num_layers=2, bidirectional=True)
    names = [name for name, _ in module.named_parameters()]
    assert module._flat_weights_names == names
    assert [id(w) for row in module.all_weights for w in row] == [id(getattr(module, name)) for name in names]
    module.flatten_parameters()
    before = flat(module(sequence()))
    with torch.no_grad():
        module.all_weights[1][1].add_(0.5)
    wanted = make(nn, kind, num_layers=2, bidirectional=True)
    wanted.load_state_dict(module.state_dict())
    assert same_results(module, wanted, sequence())
    assert not torch.equal(flat(module(sequence()))[0], before[0])


@every_space
@every_kind
def test_a_parameter_can_be_replaced(space, kind):
    module, wanted = make(space, kind), make(nn, kind)
    module(sequence())
    new = torch.randn_like(module.weight_hh_l0)
    module.weight_hh_l0, wanted.weight_hh_l0 = nn.Parameter(new.clone()), nn.Parameter(new.clone())
    assert module._flat_weights[1] is module.weight_hh_l0
    assert same_results(module, wanted, sequence())


@every_space
def test_a_parameter_replaced_by_one_of_another_type_is_refused(space):
    module = make(space, "LSTM")
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.data.double())
    with pytest.raises(RuntimeError, match="dtype|data type" if space is nn else "weight_h.*float64.*float32"):
        module(sequence())


def test_a_parameter_replaced_by_one_of_another_shape_is_refused():
    """torch.nn reads past its end."""
    module = make(conveyor, "LSTM")
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.data[:, :3].clone())
    with pytest.raises(RuntimeError, match=r"weight_hh_l0 must have shape \[20, 5\], not \[20, 3\]"):
        module(sequence())


@every_space
def test_the_gradient_of_what_is_frozen_is_none(space):
    module = make(space, "LSTM", num_layers=2)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("_l1" in name and "bias" not in name)
    scalar(module(sequence())).backward()
    assert [name for name, p in module.named_parameters() if p.grad is not None] == ["weight_ih_l1", "weight_hh_l1"]
    wanted = make(nn, "LSTM", num_layers=2)
    scalar(wanted(sequence())).backward()
    assert_equal(module.weight_hh_l1.grad, wanted.weight_hh_l1.grad)


@every_kind
def test_what_is_frozen_stays_so_from_and_to_torch(kind):
    theirs = make(nn, kind, num_layers=2)
    theirs.weight_hh_l0.requires_grad_(False)
    theirs.bias_ih_l1.requires_grad_(False)
    wanted = [p.requires_grad for p in theirs.parameters()]
    ours = getattr(conveyor, KINDS[kind][0]).from_torch(theirs)
    assert [p.requires_grad for p in ours.parameters()] == wanted
    assert [p.requires_grad for p in ours.to_torch().parameters()] == wanted
    assert type(ours.to_torch()) is type(theirs)
    assert not {id(p) for p in ours.parameters()} & {id(p) for p in theirs.parameters()}


@every_space
def test_a_state_dict_that_does_not_fit(space):
    module = make(space, "LSTM", num_layers=2)
    with pytest.raises(RuntimeError, match=r"size mismatch for weight_ih_l0"):
        module.load_state_dict(make(nn, "LSTM", INPUT, HIDDEN + 1, num_layers=2).state_dict(), strict=False)
    with pytest.raises(RuntimeError, match=r"Missing key.*weight_ih_l1"):
        module.load_state_dict(make(nn, "LSTM").state_dict())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*weight_ih_l2"):
        module.load_state_dict(make(nn, "LSTM", num_layers=3).state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for weight_ih_l0"):
        module.load_state_dict(make(nn, "GRU", num_layers=2).state_dict())


@every_space
@every_kind
@pytest.mark.parametrize("options", [{"num_layers": 1}, {"num_layers": 2, "bias": False}], ids=["layers", "biases"])
def test_what_fits_is_loaded_and_what_is_missing_is_told(space, kind, options):
    module, source = make(space, kind, num_layers=2), make(nn, kind, seed=4, **options)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = module.load_state_dict(source.state_dict(), strict=False)
    assert found.missing_keys == [name for name in before if name not in source.state_dict()]
    assert found.unexpected_keys == []
    for name, value in module.state_dict().items():
        assert torch.equal(value, source.state_dict().get(name, before[name])), name


@every_space
def test_isinstance_and_what_is_printed(space):
    for kind, (name, _) in KINDS.items():
        module = make(space, kind)
        assert isinstance(module, nn.RNNBase)
        assert isinstance(module, getattr(nn, name))
        assert module.mode == make(nn, kind).mode
    for arguments in ({}, {"num_layers": 2, "dropout": 0.5}, {"bias": False, "batch_first": True}):
        for kind in KINDS:
            options = {"bidirectional": True, **arguments}
            assert make(space, kind, **options).extra_repr() == make(nn, kind, **options).extra_repr()
    assert repr(make(space, "LSTM")) == "LSTM(4, 5)"


@every_space
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "projected"])
@pytest.mark.parametrize("age", ["before proj_size", "before names"])
def test_pickles_of_older_versions_still_run(space, kind, age):
    """Those before 1.8 have no proj_size; those before 0.4 held the weights themselves where names are now."""
    module = make(space, kind)
    wanted = flat(module(sequence()))
    state = dict(module.__getstate__())
    del state["proj_size"]
    if age == "before names":
        state["all_weights"] = [list(weights) for weights in module.all_weights]
        for name in ("_all_weights", "_flat_weights", "_flat_weights_names"):
            del state[name]
    again = type(module).__new__(type(module))
    again.__setstate__(copy.deepcopy(state))
    assert again.proj_size == 0
    assert all(map(torch.equal, flat(again(sequence())), wanted))


@every_kind
@pytest.mark.parametrize("backend", ["auto", "compiled", "eager"])
def test_gradients_share_no_memory(kind, backend):
    """Else what changes them in place, such as clipping, would change some twice."""
    module = make(conveyor, kind, num_layers=2, bidirectional=True)
    with conveyor.backend(backend):
        scalar(module(sequence())).backward()
    assert len({p.grad.untyped_storage().data_ptr() for p in module.parameters()}) == len(list(module.parameters()))
