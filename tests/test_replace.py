"""`conveyor.replace` and `restore`: a model of `torch.nn`'s layers made one of ours in place, and back."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import conveyor
from tolerance import assert_equal
from torch_layers import CELLS, HIDDEN, INPUT, KINDS, every_kind, flat, make, make_cell, same_results, sequence

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def is_ours(module):
    """By identity: `conveyor.LSTM == torch.nn.LSTM`."""
    return any(type(module) is each for each in (conveyor.RNN, conveyor.LSTM, conveyor.GRU))


class Model(nn.Module):
    """Layers within containers, one of them used under two names."""

    def __init__(self, space=nn):
        super().__init__()
        self.encoder = nn.Sequential(make(space, "GRU", num_layers=2, bidirectional=True))
        self.decoder = nn.ModuleDict({"rnn": make(space, "LSTM", 2 * HIDDEN, HIDDEN), "relu": make(space, "relu")})
        self.also = self.decoder["rnn"]
        self.cells = nn.ModuleList([make_cell(space, kind) for kind in CELLS])
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        output = self.also(self.encoder(x)[0])[0] + self.decoder["relu"](x)[0]
        for cell in self.cells:
            output = output + flat(cell(x[-1]))[0]
        return self.head(output)


PATHS = ["encoder.0", "decoder.rnn", "decoder.relu", "cells.0", "cells.1", "cells.2", "cells.3"]


def test_a_model_is_changed_in_place():
    model, wanted = Model(), Model()
    wanted.load_state_dict(model.state_dict())
    modules, parameters = list(model.modules()), dict(model.named_parameters())
    report = conveyor.replace(model)
    assert list(report.changed) == PATHS
    assert not report.left
    assert all(path in str(report) for path in PATHS)
    assert all(now is before for now, before in zip(model.modules(), modules, strict=True))
    assert all(now is parameters[name] for name, now in model.named_parameters())
    assert list(model.state_dict()) == list(wanted.state_dict())
    assert model.also is model.decoder["rnn"]
    assert all(map(is_ours, (model.encoder[0], model.also, model.decoder["relu"])))
    assert same_results(model, wanted, sequence())
    with conveyor.backend("compiled"):
        assert same_results(model, wanted, sequence())
    assert "f" in model.also(sequence(width=2 * HIDDEN), record=True)[2]


def test_replaced_and_restored_is_as_before():
    model, fresh = Model(), Model()
    conveyor.replace(model)
    model(sequence())
    report = conveyor.restore(model)
    assert list(report.changed) == PATHS
    for now, before in zip(model.modules(), fresh.modules(), strict=True):
        assert type(now) is type(before)
        assert now.__dict__.keys() == before.__dict__.keys()
    assert b"conveyor" not in pickle.dumps(model.encoder)
    assert same_results(model, fresh, sequence())


def test_a_second_time_changes_nothing():
    model = Model()
    assert not conveyor.restore(model).changed
    conveyor.replace(model)
    again = conveyor.replace(model)
    assert not again.changed
    assert not again.left
    assert "no recurrent layers" in str(conveyor.replace(nn.Linear(2, 2)))


@every_kind
def test_the_model_may_be_the_layer(kind):
    module, wanted = (make(nn, kind, num_layers=2) for _ in range(2))
    assert list(conveyor.replace(module).changed) == [""]
    assert is_ours(module)
    assert same_results(module, wanted, sequence())
    assert list(conveyor.restore(module).changed) == [""]
    assert type(module) is type(wanted)


def test_training_goes_on_with_the_same_optimizer():
    model, wanted = Model(), Model()
    wanted.load_state_dict(model.state_dict())
    optimizers = [torch.optim.Adam(each.parameters(), lr=0.01) for each in (model, wanted)]
    for step, change in enumerate((None, conveyor.replace, conveyor.restore)):
        if change:
            change(model)
        for _ in range(3):
            losses = []
            for each, optimizer in zip((model, wanted), optimizers, strict=True):
                loss = each(sequence(seed=step)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss)
            assert torch.allclose(*losses, atol=1e-5)


def test_what_was_set_stays():
    """Hooks, the mode, what is frozen, dtypes."""
    model, seen = Model().double(), []
    model.encoder.eval()
    frozen = [model.encoder[0].weight_hh_l0, model.also.bias_ih_l0]
    for parameter in frozen:
        parameter.requires_grad_(False)
    model.also.register_forward_hook(lambda *_: seen.append(1))
    before = {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()}
    for change in (conveyor.replace, conveyor.restore, conveyor.replace):
        change(model)
        model(sequence(dtype=torch.float64))
        assert {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()} == before
        assert [model.encoder[0].training, model.also.training] == [False, True]
        assert copy.deepcopy(model).encoder[0].weight_hh_l0.requires_grad is False
    assert len(seen) == 3


class Own(nn.LSTM):
    def forward(self, input, hx=None):
        output, state = super().forward(input, hx)
        return 2 * output, state


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Own(INPUT, HIDDEN)


def test_a_class_derived_from_torchs_is_left_and_named():
    model = nn.Sequential(Wrapped(), make(nn, "LSTM"))
    report = conveyor.replace(model)
    assert list(report.changed) == ["1"]
    assert list(report.left) == ["0.inner"]
    assert "Own" in report.left["0.inner"]
    assert "0.inner" in str(report)
    assert type(model[0].inner) is Own


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning", "ignore:.*jit.script:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_compiled_and_quantized_layers_are_left_and_named():
    scripted = torch.jit.script(make(nn, "LSTM"))
    report = conveyor.replace(nn.ModuleList([scripted]))
    assert list(report.left) == ["0"]
    assert "TorchScript" in report.left["0"]
    quantized = torch.ao.nn.quantized.dynamic.LSTM(INPUT, HIDDEN)
    report = conveyor.replace(nn.ModuleList([quantized]))
    assert list(report.left) == ["0"]
    assert "quantized" in report.left["0"]


@pytest.mark.parametrize(
    "further",
    [{"zoneout": 0.1}, {"recurrent_dropout": 0.2}, {"input_dropout": 0.2}, {"learn_initial_state": True}],
    ids=lambda further: next(iter(further)),
)
def test_what_torch_lacks_is_not_lost_by_restoring(further):
    model = nn.ModuleList([make(conveyor, "LSTM", **further), make(conveyor, "GRU")])
    report = conveyor.restore(model)
    assert list(report.changed) == ["1"]
    assert list(report.left) == ["0"]
    assert next(iter(further)) in report.left["0"]
    assert is_ours(model[0])
    assert type(model[1]) is nn.GRU


@pytest.mark.parametrize("change", [conveyor.replace, conveyor.restore], ids=["replace", "restore"])
def test_only_modules_have_layers(change):
    for wrong in (None, [nn.LSTM(2, 3)], nn.LSTM, {"weight": 1}):
        with pytest.raises(TypeError, match="Module"):
            change(wrong)


@every_kind
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("how", ["parametrized", "by hooks", "pruned", "dropped"])
def test_weights_that_are_computed_go_on_so(kind, how):
    module, wanted = make(nn, kind), make(nn, kind)
    for each in (module, wanted):
        torch.manual_seed(4)
        if how == "parametrized":
            parametrizations.weight_norm(each, "weight_hh_l0")
        elif how == "by hooks":
            nn.utils.weight_norm(each, "weight_hh_l0")
        elif how == "pruned":
            prune.l1_unstructured(each, "weight_hh_l0", 0.5)
        else:
            raw = each._parameters.pop("weight_hh_l0")
            each.raw = nn.Parameter(raw.data)
            each.weight_hh_l0 = each.raw * 0.7
    for change in (conveyor.replace, conveyor.restore):
        assert list(change(nn.ModuleList([module])).changed) == ["0"]
        for each in (module, wanted):
            if how == "dropped":
                each.weight_hh_l0 = each.raw * 0.7
            next(each.parameters()).data.mul_(1.1)
        assert same_results(module, wanted, sequence())


def test_weights_shared_between_layers_stay_shared():
    model, wanted = (nn.ModuleList([make(nn, "LSTM"), make(nn, "LSTM", seed=1)]) for _ in range(2))
    for each in (model, wanted):
        each[1].weight_hh_l0 = each[0].weight_hh_l0
    conveyor.replace(model)
    assert model[1].weight_hh_l0 is model[0].weight_hh_l0
    for each in (model, wanted):
        loss = (each[0](sequence())[0] + each[1](sequence())[0]).square().sum()
        loss.backward()
    for parameter, expected in zip(model.parameters(), wanted.parameters(), strict=True):
        assert_equal(parameter.grad, expected.grad)


def test_the_numbers_of_all_kinds_and_forms_after_replacing():
    for kind in KINDS:
        for form, batch_first in (("batch", True), ("unbatched", False), ("packed unsorted", False)):
            options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
            module, wanted = (make(nn, kind, **options) for _ in range(2))
            conveyor.replace(module)
            assert same_results(module, wanted, sequence(form, batch_first)), (kind, form)
