"""`conveyor.nn.Reversed` is the second direction of a bidirectional layer, alone."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import conveyor
from tolerance import assert_equal

T, B = 5, 3


@pytest.fixture(params=[False, True], ids=["time first", "batch first"])
def pair(request):
    both = conveyor.GRU(4, 6, bidirectional=True, batch_first=request.param, dtype=torch.float64)
    one = conveyor.nn.Reversed(conveyor.GRU(4, 6, batch_first=request.param, dtype=torch.float64))
    one.layer.load_state_dict({n.removesuffix("_reverse"): v for n, v in both.state_dict().items() if "reverse" in n})
    return one, both


def assert_same(one, both, x, **options):
    output, h, values = one(x, record=True, **options)
    wanted, last, all_values = both(x, record=True, **options)
    assert_equal(output, wanted[..., 6:])
    assert_equal(h, last[1:])
    for name, value in values.items():
        assert_equal(value, all_values[name][:, 1:], name)


def test_it_is_the_second_direction(pair):
    x = torch.randn(B if pair[0].layer.batch_first else T, T if pair[0].layer.batch_first else B, 4).double()
    assert_same(*pair, x)
    assert_same(*pair, x, lengths=[5, 2, 3])
    assert_same(*pair, torch.randn(T, 4).double())


def test_packed_sequences(pair):
    one, both = pair
    x = torch.randn(T, B, 4).double()
    packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), enforce_sorted=False)
    (output, h), (wanted, last) = one(packed), both(packed)
    assert_equal(pad_packed_sequence(output)[0], pad_packed_sequence(wanted)[0][..., 6:])
    assert_equal(h, last[1:])


def test_what_is_no_layer_of_one_direction_is_refused():
    with pytest.raises(TypeError, match="takes a layer such as"):
        conveyor.nn.Reversed(torch.nn.Linear(3, 3))
    with pytest.raises(ValueError, match="takes one layer in one direction"):
        conveyor.nn.Reversed(conveyor.LSTM(3, 5, bidirectional=True))
