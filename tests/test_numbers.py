"""NumPy's numbers are sizes, probabilities and options as Python's are; what torch.nn refuses is refused."""

import numpy as np
import pytest
import torch

import conveyor
from cases import CASES, extra_inputs
from conveyor import zoo


def as_numpy(value):
    if isinstance(value, bool) or not isinstance(value, int | float | list | tuple):
        return value
    if isinstance(value, list | tuple):
        return [as_numpy(item) for item in value]
    return np.int64(value) if isinstance(value, int) else np.float32(value)


def as_python(value):
    return not isinstance(value, np.generic) and (not isinstance(value, tuple | list) or all(map(as_python, value)))


@pytest.mark.parametrize("name", CASES)
def test_every_cell_takes_numpys_numbers(name):
    case = CASES[name]
    plain = case.layer(4, 4)
    options = {option: as_numpy(value) for option, value in plain.options.items()}
    layer = conveyor.Recurrent(
        case.cell, np.int64(4), np.int32(plain.hidden_size), np.int64(1), dropout=np.float32(0), **options
    )
    assert all(map(as_python, (layer.input_size, layer.hidden_size, layer.num_layers, *layer.cell.widths.values())))
    bare = case.cell(np.int64(4), np.int32(plain.hidden_size), **options)
    cells = [module for cell in (layer.cell, bare) for module in cell.modules() if isinstance(module, conveyor.Cell)]
    for cell in cells:
        assert all(map(as_python, (*cell.__dict__.values(), *cell.widths.values()))), cell
    layer.load_state_dict(plain.state_dict())
    x, further = torch.randn(3, 2, 4), extra_inputs(plain, 3, 2, torch.float32)
    with conveyor.backend("eager"):
        output, wanted = layer(x, start=np.int64(2), **further)[0], plain(x, start=2, **further)[0]
    assert torch.equal(output, wanted)


def test_the_layers_of_torch_nn_take_numpys_numbers():
    for make in (conveyor.RNN, conveyor.GRU, conveyor.LSTM):
        layer = make(np.int64(3), np.int32(4), np.int16(2), dropout=np.float16(0.5), zoneout=np.float64(0.25))
        assert repr(layer) == repr(make(3, 4, 2, dropout=0.5, zoneout=0.25))
    assert as_python(conveyor.LSTM(3, 4, proj_size=np.int64(2)).proj_size)


@pytest.mark.parametrize("make", [conveyor.RNN, conveyor.GRU, conveyor.LSTM])
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"hidden_size": np.float64(4)}, TypeError),
        ({"hidden_size": 4.0}, TypeError),
        ({"hidden_size": True}, TypeError),
        ({"hidden_size": np.True_}, TypeError),
        ({"hidden_size": np.array(4)}, TypeError),
        ({"hidden_size": np.int64(0)}, ValueError),
        ({"hidden_size": np.int64(-4)}, ValueError),
        ({"input_size": np.int64(-1)}, ValueError),
        ({"num_layers": np.int64(0)}, ValueError),
        ({"num_layers": True}, TypeError),
        ({"dropout": True}, ValueError),
        ({"dropout": np.True_}, ValueError),
        ({"dropout": np.float64(1.5)}, ValueError),
        ({"dropout": np.float64(-0.5)}, ValueError),
        ({"dropout": np.float64("nan")}, ValueError),
        ({"dropout": "0.5"}, ValueError),
        ({"zoneout": np.float64(2)}, ValueError),
    ],
)
def test_other_numbers_are_refused(make, given, error):
    with pytest.raises(error, match=rf"{next(iter(given))} .*not "):
        make(**{"input_size": 3, "hidden_size": 4} | given)


def test_options_that_are_no_numbers_are_refused():
    with pytest.raises(TypeError, match="proj_size is a whole number, not True"):
        conveyor.LSTM(3, 4, proj_size=True)
    with pytest.raises(TypeError, match="block_size"):
        zoo.OriginalLSTM(3, 4, block_size=np.float64(2))
    with pytest.raises(ValueError, match="positive integers"):
        zoo.ClockworkRNN(3, 4, periods=[np.float64(1), np.float64(2)])
