"""Dropout and zoneout: what they do to the numbers, and that they do nothing when they should not."""

import pytest
import torch

import conveyor
from cases import CASES, every_cell, extra_inputs, random_state, tensors
from conveyor import zoo
from tolerance import assert_equal

T, B, INPUT, HIDDEN = 6, 4, 3, 5
X = torch.randn(T, B, INPUT, generator=torch.Generator().manual_seed(2))


def twins(name, **keywords):
    """The same cell with and without regularisation, with the same weights."""
    plain = CASES[name].layer(INPUT, HIDDEN)
    other = CASES[name].layer(INPUT, HIDDEN, **keywords)
    other.load_state_dict(plain.state_dict())
    return plain, other


@every_cell
@pytest.mark.parametrize("keywords", [{"recurrent_dropout": 0.5}, {"input_dropout": 0.5}])
def test_dropout_does_nothing_in_evaluation_and_something_in_training(name, keywords):
    if "recurrent_dropout" in keywords and not CASES[name].drops:
        with pytest.raises(ValueError, match="acts where an affine map reads c, but"):
            twins(name, **keywords)
        return
    plain, other = twins(name, **keywords)
    further = extra_inputs(plain, T, B, torch.float32)
    assert torch.equal(other.eval()(X, **further)[0], plain(X, **further)[0])
    # The last state of all: with leaky or normed cells the first output may not depend on what is dropped.
    assert not torch.equal(other.train()(X, **further)[0], plain(X, **further)[0])


def test_input_dropout_has_one_mask_for_the_whole_sequence():
    class Echo(conveyor.Cell):
        def step(self, x, h):
            return x + 0 * h

    layer = conveyor.Recurrent(Echo, HIDDEN, HIDDEN, input_dropout=0.5)
    output, _ = layer(torch.ones(T, 100, HIDDEN))
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(output, output[:1].expand_as(output))
    assert 0.4 < (output == 0).float().mean() < 0.6


def test_recurrent_dropout_masks_what_the_maps_read_with_one_mask_a_sequence():
    """Against a loop with the mask written out."""
    layer = conveyor.Recurrent(zoo.ResetBeforeGRU, INPUT, HIDDEN, recurrent_dropout=0.3)
    torch.manual_seed(5)
    output, _ = layer(X)
    torch.manual_seed(5)
    mask = (torch.rand(B, HIDDEN) >= 0.3) / 0.7
    cell, h = layer.cell, torch.zeros(B, HIDDEN)
    for x, expected in zip(X, output, strict=True):
        z, r = torch.sigmoid(cell.update(mask * h, x)), torch.sigmoid(cell.reset(mask * h, x))
        h = (1 - z) * h + z * torch.tanh(cell.candidate(mask * (r * h), x))  # the carried h is whole
        assert_equal(expected, h)


def test_recurrent_dropout_leaves_the_memory_alone():
    """Everything that the maps read of h is dropped, so only the memory still carries the past."""
    _, layer = twins("lstm", recurrent_dropout=1.0)
    _, (_, C) = layer(X)
    _, (_, fresh) = layer(X[-1:])
    assert C.isfinite().all()
    assert not torch.equal(C, fresh)


def test_recurrent_dropout_reaches_a_cell_within_that_has_the_same_state():
    """With everything dropped, where h starts is heard nowhere."""
    layer = conveyor.Recurrent(zoo.SoftAttention, INPUT, HIDDEN, annotation_size=2, recurrent_dropout=1.0)
    given = {"a": torch.randn(B, 4, 2), "mask": torch.ones(B, 4)}
    h, C = random_state(layer, B, torch.float32)
    assert torch.equal(layer(X, (h + 1, C), **given)[0], layer(X, (h, C), **given)[0])


def test_input_dropout_acts_on_every_layer():
    """With everything dropped, the last layer hears nothing of those below."""
    layer = conveyor.Recurrent(zoo.LSTM, INPUT, HIDDEN, 2, bidirectional=True, input_dropout=1.0)
    last = conveyor.Recurrent(zoo.LSTM, 2 * HIDDEN, HIDDEN, bidirectional=True)
    for cell, of_layer in zip(last.cells, layer.cells[2:], strict=True):
        cell.load_state_dict(of_layer.state_dict())
    assert torch.equal(layer(X)[0], last(torch.zeros(T, B, 2 * HIDDEN))[0])


def test_recurrent_dropout_acts_in_every_layer_and_direction():
    """With everything dropped, where h starts is heard nowhere."""
    layer = conveyor.LSTM(INPUT, HIDDEN, 2, bidirectional=True, recurrent_dropout=1.0)
    h, C = random_state(layer, B, torch.float32)
    for row in range(4):
        other = h.clone()
        other[row] += 1
        assert torch.equal(layer(X, (other, C))[0], layer(X, (h, C))[0]), f"row {row}"


def test_recurrent_dropout_without_a_map_that_reads_h_is_refused():
    class Linear(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.map = torch.nn.Linear(input_size + hidden_size, hidden_size)

        def step(self, x, h):
            return torch.tanh(self.map(torch.cat([x, h], 1)))

    with pytest.raises(ValueError, match="acts where an affine map reads h, but Linear has no such map"):
        conveyor.Recurrent(Linear, INPUT, HIDDEN, recurrent_dropout=0.1)


@every_cell
def test_zoneout_of_one_keeps_the_initial_state(name):
    layer = CASES[name].layer(INPUT, HIDDEN, 2, bidirectional=True, zoneout=1.0)
    further, state = extra_inputs(layer, T, B, torch.float32), random_state(layer, B, torch.float32)
    for module in (layer.train(), layer.eval()):
        output, last, *_ = module(X, state, **further)
        for value, wanted in zip(tensors(last), tensors(state), strict=True):
            assert torch.equal(value, wanted)
        h = tensors(state)[0][-2:].transpose(0, 1).flatten(1)  # the last layer's, both directions side by side
        if layer.cell.output_name is None:  # else the output is no state
            assert torch.equal(output, h.expand_as(output))


def test_zoneout_does_not_hide_a_wrong_step():
    class Narrow(conveyor.Cell):
        def step(self, x, h):
            return h[:, :1]

    with pytest.raises(ValueError, match=r"Narrow\.step .* it returned \[\[4, 1\]\]"):
        conveyor.Recurrent(Narrow, INPUT, HIDDEN, zoneout=0.5)(X)


def test_zoneout_keeps_the_old_unit_or_takes_the_new_one_in_training_and_their_mean_in_evaluation():
    layer = conveyor.LSTM(INPUT, HIDDEN, zoneout={"C": 0.25})
    h, C = torch.randn(1, 500, HIDDEN), torch.randn(1, 500, HIDDEN)
    x = torch.randn(1, 500, INPUT)
    _, new = layer.cell.step(x[0], h[0], C[0])
    output, (_, after) = layer(x, (h, C))
    kept = after[0] == C[0]
    assert_equal(after[0], torch.where(kept, C[0], new))
    assert 0.2 < kept.float().mean() < 0.3
    _, (_, mean) = layer.eval()(x, (h, C))
    assert_equal(mean[0], 0.25 * C[0] + 0.75 * new)
    assert_equal(output[0], layer.cell.step(x[0], h[0], C[0])[0])  # h itself does not zone out


def test_masks_are_drawn_afresh_and_repeat_with_the_seed():
    layer = conveyor.LSTM(INPUT, HIDDEN, recurrent_dropout=0.5, zoneout=0.2, input_dropout=0.2)
    torch.manual_seed(3)
    first, second = layer(X)[0], layer(X)[0]
    torch.manual_seed(3)
    assert torch.equal(layer(X)[0], first)
    assert not torch.equal(first, second)


def test_values_are_recorded_under_regularisation():
    layer = conveyor.LSTM(INPUT, HIDDEN, recurrent_dropout=0.5, zoneout=0.2)
    output, _, values = layer(X, record=True)
    assert set(values) == {"f", "i", "C_tilde", "C", "o", "h"}
    assert torch.equal(values["h"][0, 0], output)
