"""Layers without numbers: on the device meta and under FakeTensorMode they tell shapes, as torch.nn's do."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses import FakeTensor, FakeTensorMode

import conveyor
from cases import CASES, extra_inputs, tensors

KINDS = {"meta": (nullcontext, {"device": "meta"}), "fake": (FakeTensorMode, {})}
every_kind = pytest.mark.parametrize("kind", KINDS)


def is_abstract(value):
    return value.is_meta or isinstance(value, FakeTensor)


@every_kind
@pytest.mark.parametrize("name", CASES)
def test_a_cells_layer_is_built_and_tells_its_shapes(name, kind):
    mode, place = KINDS[kind]
    real = CASES[name].layer(3, 2, 2, batch_first=True)
    further = extra_inputs(real, 4, 2, torch.float32)
    swapped = {n: v if n in real.cell.constant else v.transpose(0, 1) for n, v in further.items()}
    with conveyor.backend("eager"):
        wanted = real(torch.randn(2, 4, real.input_size), **swapped)
    with mode():
        layer = CASES[name].layer(3, 2, 2, batch_first=True, **place)
        assert all(is_abstract(p) for p in layer.parameters())
        assert {n: p.shape for n, p in layer.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}
        given = {n: torch.empty(v.shape, dtype=v.dtype, **place) for n, v in swapped.items()}
        found = layer(torch.empty(2, 4, real.input_size, **place), **given)
    for value, one in zip((found[0], *tensors(found[1])), (wanted[0], *tensors(wanted[1])), strict=True):
        assert is_abstract(value)
        assert (value.shape, value.dtype) == (one.shape, one.dtype)


OPTIONS = {
    "double": {"dtype": torch.float64},
    "stacked": {"num_layers": 2, "bidirectional": True, "dropout": 0.2},
    "regularised": {"zoneout": 0.1, "recurrent_dropout": 0.1, "input_dropout": 0.1, "learn_initial_state": True},
    "tied": {"num_layers": 3, "tied": True, "dtype": torch.float64},
}


@every_kind
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("lengths", [None, [4, 0]])
def test_with_options_lengths_record_and_gradients(options, kind, lengths):
    mode, place = KINDS[kind]
    with mode():
        layer = conveyor.GRU(5, 5, **OPTIONS[options], **place)
        dtype = next(layer.parameters()).dtype
        assert dtype == OPTIONS[options].get("dtype", torch.float32)
        output, _, values = layer(torch.empty(4, 2, 5, dtype=dtype, **place), lengths=lengths, record=True)
        assert output.shape == (4, 2, layer.output_size)
        assert values["z"].shape == (layer.num_layers, layer.directions, 4, 2, 5)
        output.sum().backward()
        for parameter in layer.parameters():
            assert parameter.grad.shape == parameter.shape
            assert is_abstract(parameter.grad)


@every_kind
def test_a_module_as_a_layer(kind):
    mode, place = KINDS[kind]
    with mode():
        layer = conveyor.Recurrent.of(torch.nn.LSTMCell(3, 5, **place))
        output, (h, C) = layer(torch.empty(4, 2, 3, **place))
    assert is_abstract(output)
    assert (output.shape, h.shape, C.shape) == ((4, 2, 5), (1, 2, 5), (1, 2, 5))


def test_a_layer_from_meta_gets_its_memory_and_its_numbers():
    layer = conveyor.LSTM(3, 5, device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(torch.randn(4, 2, 3))[0].isfinite().all()


def test_weights_on_meta_and_an_input_with_numbers_are_told():
    with pytest.raises(ValueError, match=r"weight_ih is on meta, but the input is on cpu"):
        conveyor.LSTM(3, 5, device="meta")(torch.randn(4, 2, 3))


def test_tensors_that_are_held_twice_stay_one_when_their_type_changes():
    class Twice(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.a, self.b = self.affine("h", "x"), self.affine("h", "x")
            self.b.bias = self.a.bias
            self.register_buffer("scale", torch.ones(hidden_size))
            self.register_buffer("whole", torch.ones(hidden_size, dtype=torch.int64))

        def step(self, x, h):
            return torch.tanh(self.a(h, x)) + self.scale * self.whole * self.b(h, x)

    with FakeTensorMode():
        layer = conveyor.Recurrent(Twice, 3, 5, dtype=torch.float64)
        assert layer.cell.a.bias is layer.cell.b.bias
        assert (layer.cell.scale.dtype, layer.cell.whole.dtype) == (torch.float64, torch.int64)
