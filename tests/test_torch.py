"""`RNN`, `LSTM` and `GRU` are `torch.nn`'s: the same numbers, shapes, arguments and weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import conveyor
from cases import CASES, every_cell, extra_inputs, tensors
from tiers import pairwise
from tolerance import assert_equal

KINDS = {
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm-projected": ("LSTM", {"proj_size": 3}),
    "gru": ("GRU", {}),
}
FORMS = ("batch", "unbatched", "packed", "packed unsorted")
INPUT, HIDDEN = 4, 5


def pair(kind, **keywords):
    name, options = KINDS[kind]
    theirs = getattr(nn, name)(INPUT, HIDDEN, **options, **keywords)
    ours = getattr(conveyor, name)(INPUT, HIDDEN, **options, **keywords)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def random_state(module, *batch):
    rows = module.num_layers * (2 if module.bidirectional else 1)
    widths = [getattr(module, "proj_size", 0) or HIDDEN] + [HIDDEN] * isinstance(module, nn.LSTM)
    states = tuple(torch.randn(rows, *batch, width).to(module.weight_ih_l0.dtype) for width in widths)
    return states if len(states) > 1 else states[0]


def run(module, x, state):
    """Outputs, last states, and the gradients of a random scalar of them: by input, states and weights."""
    given = tuple(s.detach().requires_grad_() for s in tensors(state)) if state is not None else ()
    value = x.data if isinstance(x, PackedSequence) else x
    leaf = value.detach().requires_grad_()
    x = PackedSequence(leaf, *x[1:]) if isinstance(x, PackedSequence) else leaf
    output, last = module(x, (given if len(given) > 1 else given[0]) if given else None)
    data = output.data if isinstance(output, PackedSequence) else output
    generator = torch.Generator().manual_seed(1)
    results = (data, *tensors(last))
    loss = sum((r * torch.randn(r.shape, generator=generator).to(r.dtype)).sum() for r in results)
    module.zero_grad()
    loss.backward()
    return results, (leaf.grad, *(s.grad for s in given))


def weight_gradients(theirs, ours):
    for (name, parameter), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert_equal(other.grad, parameter.grad, name)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("kind", "layers", "both", "batch_first", "form", "given"),
    pairwise(KINDS, (1, 2, 3), (False, True), (False, True), FORMS, (True, False)),
)
def test_same_numbers_and_gradients(kind, layers, both, batch_first, form, given):
    """In float64: torch.nn's own error in float32 can be as large as what is allowed here."""
    options = {"num_layers": layers, "bidirectional": both, "batch_first": batch_first}
    theirs, ours = (module.double() for module in pair(kind, **options))
    batch = () if form == "unbatched" else (3,)
    if form == "unbatched":
        x = torch.randn(6, INPUT)
    elif form == "batch":
        x = torch.randn(*((3, 6) if batch_first else (6, 3)), INPUT)
    else:
        lengths = [6, 4, 1] if form == "packed" else [4, 6, 1]
        x = pack_sequence([torch.randn(length, INPUT) for length in lengths], enforce_sorted=form == "packed")
    x = x.double()
    state = random_state(theirs, *batch) if given else None
    expected, expected_gradients = run(theirs, x, state)
    actual, gradients = run(ours, x, state)
    for value, wanted in zip((*actual, *gradients), (*expected, *expected_gradients), strict=True):
        assert_equal(value, wanted)
    weight_gradients(theirs, ours)


def test_a_packed_sequence_comes_back_in_its_own_order():
    theirs, ours = pair("lstm")
    x = pack_sequence([torch.randn(n, INPUT) for n in (2, 5, 3)], enforce_sorted=False)
    ours_out, theirs_out = ours(x)[0], theirs(x)[0]
    for value, wanted in zip(ours_out[1:], theirs_out[1:], strict=True):
        assert torch.equal(value, wanted)
    assert_equal(pad_packed_sequence(ours_out)[0], pad_packed_sequence(theirs_out)[0])
    plain = pack_padded_sequence(torch.randn(4, 2, INPUT), [4, 2])
    assert ours(plain)[0].sorted_indices is None


@pytest.mark.parametrize("kind", KINDS)
def test_weights_go_both_ways(kind):
    theirs, ours = pair(kind, num_layers=2, bidirectional=True)
    name, _ = KINDS[kind]
    back = ours.to_torch()
    assert type(back) is type(theirs)
    assert {key: value.shape for key, value in back.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    copied = getattr(conveyor, name).from_torch(back)
    for value, wanted in zip(copied.parameters(), ours.parameters(), strict=True):
        assert torch.equal(value, wanted)


def test_a_model_that_holds_the_layer_loads_torchs_state_dict():
    theirs = nn.ModuleDict({"encoder": nn.LSTM(INPUT, HIDDEN), "head": nn.Linear(HIDDEN, 2)})
    ours = nn.ModuleDict({"encoder": conveyor.LSTM(INPUT, HIDDEN), "head": nn.Linear(HIDDEN, 2)})
    assert not any(ours.load_state_dict(theirs.state_dict()))
    x = torch.randn(3, 2, INPUT)
    assert_equal(ours["encoder"](x)[0], theirs["encoder"](x)[0])


def test_a_state_dict_of_another_size_is_refused_by_name():
    with pytest.raises(RuntimeError, match=r"size mismatch for weight_ih_l0"):
        conveyor.LSTM(INPUT, HIDDEN).load_state_dict(nn.LSTM(INPUT, HIDDEN + 1).state_dict(), strict=False)
    incomplete = nn.LSTM(INPUT, HIDDEN).state_dict()
    del incomplete["bias_hh_l0"]
    with pytest.raises(RuntimeError, match="Missing key"):
        conveyor.LSTM(INPUT, HIDDEN).load_state_dict(incomplete)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        conveyor.LSTM(INPUT, HIDDEN).load_state_dict(nn.LSTM(INPUT, HIDDEN, 2).state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_arguments_by_keyword_dtype_bias_and_a_state_dict_of_its_own(kind, bias):
    name, options = KINDS[kind]
    make = getattr(conveyor, name)
    layer = make(INPUT, HIDDEN, 2, bias=bias, dropout=0.5, device="cpu", dtype=torch.float64, **options)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float64}
    assert any("bias" in key for key in layer.state_dict()) == bias
    again = make(INPUT, HIDDEN, 2, bias=bias, dropout=0.5, dtype=torch.float64, **options)
    again.load_state_dict(layer.state_dict())
    x = torch.randn(3, 2, INPUT, dtype=torch.float64)
    assert torch.equal(layer.eval()(x)[0], again.eval()(x)[0])
    assert_equal(layer.to_torch().eval()(x)[0] if "proj" not in kind else again(x)[0], layer(x)[0])


def test_arguments_by_position():
    for theirs in (
        nn.LSTM(4, 5, 2, False, True, 0.0, True, 3, "cpu", torch.float64),
        nn.GRU(4, 5, 2, False, True, 0.0, True),
        nn.RNN(4, 5, 2, "relu", False, True, 0.0, True),
    ):
        name = type(theirs).__name__
        arguments = {
            "LSTM": (4, 5, 2, False, True, 0.0, True, 3, "cpu", torch.float64),
            "GRU": (4, 5, 2, False, True, 0.0, True),
            "RNN": (4, 5, 2, "relu", False, True, 0.0, True),
        }[name]
        ours = getattr(conveyor, name)(*arguments)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(3, 2, 4, dtype=theirs.weight_ih_l0.dtype)
        assert_equal(ours(x)[0], theirs(x)[0])


def test_dropout_acts_between_layers_and_in_training_only():
    theirs, ours = pair("lstm", num_layers=2, dropout=1.0)
    x = torch.randn(3, 2, INPUT)
    assert_equal(ours(x)[0], theirs(x)[0])  # with everything dropped, both see zeros between the layers
    assert_equal(ours.eval()(x)[0], theirs.eval()(x)[0])
    with pytest.warns(UserWarning, match="between layers"):
        conveyor.LSTM(INPUT, HIDDEN, dropout=0.1)


def test_what_torch_lacks_is_not_silently_lost():
    with pytest.raises(ValueError, match="zoneout"):
        conveyor.LSTM(INPUT, HIDDEN, zoneout=0.1).to_torch()
    with pytest.raises(TypeError, match=r"torch\.nn\.LSTM"):
        conveyor.LSTM.from_torch(nn.GRU(INPUT, HIDDEN))
    with pytest.raises(ValueError, match="nonlinearity"):
        conveyor.RNN(INPUT, HIDDEN, nonlinearity="sin")
    with pytest.raises(ValueError, match="proj_size"):
        conveyor.LSTM(INPUT, HIDDEN, proj_size=HIDDEN)


def under_autocast(module, value, state, **lengths):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return flat(module(value, state, **lengths))


def flat(results):
    """The output and the last states."""
    output, last = results
    return (output.data if isinstance(output, PackedSequence) else output, *last)


def rounded(module, value, state, lengths=None):
    """What torch.nn.LSTM gives under autocast, in float32: it rounds what goes in, what comes out, and its weights."""

    def low(tensor):
        return tensor.bfloat16().float()

    weights = {name: low(parameter) for name, parameter in module.named_parameters()}
    given = None if state is None else tuple(map(low, state))
    x = low(value) if lengths is None else pack_padded_sequence(low(value), lengths)
    output, last = torch.func.functional_call(module, weights, (x, given))
    output = pad_packed_sequence(output)[0] if lengths else output
    return tuple(tensor.bfloat16() for tensor in flat((output, last)))


def has_low_precision(lstm):
    """Whether torch.nn.LSTM runs under autocast, for which oneDNN wants AVX-512."""
    try:
        under_autocast(lstm, torch.zeros(1, 1, INPUT), None)
    except RuntimeError as error:
        if "primitive descriptor" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("form", ["batch", "unbatched", "packed", "lengths"])
@pytest.mark.parametrize("given", [True, False], ids=["state", "no state"])
def test_autocast_rounds_what_an_lstm_of_torch_rounds(form, given):
    theirs, ours = pair("lstm", num_layers=2, bidirectional=True)
    x, lengths = torch.randn(6, 3, INPUT), [6, 4, 1]
    value = {"unbatched": x[:, 0], "packed": pack_padded_sequence(x, lengths)}.get(form, x)
    options = {"lengths": lengths} if form == "lengths" else {}
    state = random_state(theirs, *(() if form == "unbatched" else (3,))) if given else None
    # Of packed sequences torch.nn has a loop of its own, which rounds no state, on every machine.
    oracles = [under_autocast if form == "packed" else rounded]
    if form in ("batch", "unbatched") and has_low_precision(theirs):
        oracles.append(under_autocast)
    found = under_autocast(ours, value, state, **options)
    for oracle in oracles:
        for expected, actual in zip(oracle(theirs, value, state, **options), found, strict=True):
            assert actual.dtype == expected.dtype
            assert_equal(actual.bfloat16(), expected.bfloat16())


def test_gradients_under_autocast_are_those_of_what_it_rounds():
    theirs, ours = pair("lstm", num_layers=2, bidirectional=True)
    x = torch.randn(6, 3, INPUT, requires_grad=True)
    found = []
    for run, module in ((rounded, theirs), (under_autocast, ours)):
        loss = run(module, x, None)[0].float().square().sum()
        by_x, *rest = torch.autograd.grad(loss, (x, *module.parameters()))
        assert {gradient.dtype for gradient in (by_x, *rest)} == {torch.float32}
        found.append(by_x.bfloat16())
    assert_equal(*found, "gradient by x")


@every_cell
def test_under_autocast_every_cell_gives_what_it_gives_within_the_rounding(name):
    layer, x = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True), torch.randn(6, 3, INPUT)
    further = extra_inputs(layer, 6, 3, torch.float32)
    output, state, *_ = layer(x, lengths=[6, 4, 1], **further)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, low_state, *_ = layer(x, lengths=[6, 4, 1], **further)
        empty, *_ = layer(x[:0], **{n: v if n in layer.cell.constant else v[:0] for n, v in further.items()})
    assert empty.dtype == torch.bfloat16
    for value, wanted in zip((low, *tensors(low_state)), (output, *tensors(state)), strict=True):
        assert_equal(value, wanted.bfloat16(), "rounded")
