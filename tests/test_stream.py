"""Streams and single steps: whole = chunks = steps, for every cell; the state, threads, and what is refused."""

import threading

import pytest
import torch
from torch import nn

import conveyor
from cases import CASES, PAPERS, extra_inputs, tensors
from conveyor import zoo
from conveyor.layer.network import Network
from conveyor.layer.stepper import Stepper, stepper_of
from conveyor.targets.step import plan
from tiers import quick
from tolerance import KERNEL, assert_equal

EVERY = CASES | PAPERS
LOW = {"bfloat16": 2e-2, "int8": 5e-2}  # of outputs that are at most 1
STEPS, ROWS = 9, 3
every_cell = pytest.mark.parametrize("name", quick(EVERY, CASES))


def drawn(name, rows=ROWS, **options):
    layer = EVERY[name].layer(4, 7, num_layers=2, dtype=torch.float64, **options).eval()
    x = torch.randn(STEPS, rows, 4, dtype=torch.float64)
    further = extra_inputs(layer, STEPS, rows)
    constants = {n: v for n, v in further.items() if n in layer.cell.constant}
    return layer, x, {n: v for n, v in further.items() if n not in constants}, constants


def by_loop(layer, x, **further):
    with torch.no_grad(), conveyor.backend("eager"):
        return layer(x, **further)


def output_of(result):
    return result[0] if isinstance(result, tuple) else result


@every_cell
def test_whole_is_chunks_is_steps(name):
    layer, x, streams, constants = drawn(name)
    wanted, last, *values = by_loop(layer, x, **streams, **constants)
    for cuts in ([STEPS], [1] * STEPS, [2, 1, 4, 2]):
        stream = layer.stream(ROWS, **constants)
        found, at = [], 0
        for size in cuts:
            part = slice(at, at + size)
            some = {n: v[part] for n, v in streams.items()}
            found.append(stream.run(x[part], **some))
            at += size
        assert_equal(torch.cat([output_of(one) for one in found]), wanted, table=KERNEL)
        for value, state in zip(tensors(stream.state), tensors(last), strict=True):
            assert_equal(value, state, table=KERNEL)
        if values and len(cuts) == 1:
            for what, value in found[0][1].items():
                for one, other in zip(value, values[0][what], strict=True):
                    assert_equal(one, other, what, KERNEL)


@every_cell
def test_single_steps_are_the_loop(name):
    """`stream.step`, and `rnn.step` with the state handed on."""
    layer, x, streams, constants = drawn(name)
    wanted, last, *_ = by_loop(layer, x, **streams, **constants)
    stream, state = layer.stream(ROWS, **constants), None
    for t in range(STEPS):
        now = {n: v[t] for n, v in streams.items()}
        assert_equal(output_of(stream.step(x[t], **now)), wanted[t], table=KERNEL)
        with torch.no_grad():
            output, state, *_ = layer.step(x[t], state, start=t, **now, **constants)
        assert_equal(output, wanted[t], table=KERNEL)
    for value, one in zip(tensors(state), tensors(last), strict=True):
        assert_equal(value, one, table=KERNEL)
    given = tuple((n, tuple(v.shape[2:]), None) for n, v in streams.items())
    given += tuple((n, tuple(v.shape[1:]), None) for n, v in constants.items())
    if all(v.is_floating_point() for v in (*streams.values(), *constants.values())):
        assert isinstance(stepper_of(layer, given), Stepper)


@pytest.mark.parametrize("size", [1, 8, 16, 17, 31, 64, 80, 130])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_every_size_of_panels(size, rows):
    layer = conveyor.GRU(size, size + 1, dtype=torch.float64)
    x = torch.randn(3, rows, size, dtype=torch.float64)
    assert_equal(layer.stream(rows).run(x), by_loop(layer, x)[0], table=KERNEL)
    single = conveyor.LSTM(size, 16)
    x = x.float()
    assert_equal(single.stream(rows).run(x), by_loop(single, x)[0])


@pytest.mark.parametrize("weights", LOW)
@pytest.mark.parametrize("size", [5, 40, 100])
def test_weights_in_less_are_near(weights, size):
    layer = conveyor.LSTM(size, size, num_layers=2)
    x = torch.randn(50, 2, size)
    error = (layer.stream(2, weights=weights).run(x) - by_loop(layer, x)[0]).abs().max().item()
    assert 0 < error < LOW[weights]


@pytest.mark.parametrize("weights", LOW)
def test_weights_that_can_be_stored_exactly_are(weights):
    """Whole numbers, of which each column has its largest: nothing is rounded, whatever lies below in a word."""
    layer = conveyor.RNN(6, 40, nonlinearity="relu", bias=False)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.zeros_like(weight))
        layer.weight_ih_l0[:, 0] = 127.0
    x = torch.rand(4, 1, 6)
    found, wanted = layer.stream(weights=weights).run(x), by_loop(layer, x)[0]
    assert ((found - wanted).abs() <= 0.5 / 127 * wanted.abs().max()).all()


def test_a_matrix_takes_a_half_and_a_quarter():
    graph = Network.of(conveyor.LSTM(64, 64)).graph
    whole, half, quarter = (plan(graph, torch.float32, kind).size for kind in ("float32", "bfloat16", "int8"))
    assert half < 0.52 * whole
    assert quarter < 0.28 * whole


def test_learnt_initial_states_zoneout_ties_and_reset():
    options = {"learn_initial_state": True, "zoneout": 0.3, "tied": True, "num_layers": 2}
    layer = conveyor.Recurrent(zoo.LSTM, 5, 5, **options, dtype=torch.float64).eval()
    with torch.no_grad():
        for state in layer.initial_state.values():
            state.normal_()
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    stream, wanted = layer.stream(2), by_loop(layer, x)[0]
    for _ in range(2):
        assert_equal(stream.run(x), wanted, table=KERNEL)
        stream.reset()


def test_the_state_is_read_set_saved_and_restored(tmp_path):
    layer, x, *_ = drawn("clockwork")
    stream = layer.stream(ROWS)
    stream.run(x[:4])
    before, saved = stream.state, stream.save()
    rest = stream.run(x[4:])
    assert stream.steps == STEPS
    torch.save(saved, tmp_path / "stream.pt")
    with layer.stream(ROWS) as other:
        other.restore(torch.load(tmp_path / "stream.pt"))
        assert torch.equal(other.run(x[4:]), rest)
    stream.state, stream.steps = before, 4
    assert torch.equal(stream.run(x[4:]), rest)


def test_a_change_of_weights_reaches_single_steps_and_a_stream_that_is_refreshed():
    layer, x, *_ = drawn("gru")
    stream, before = layer.stream(ROWS), by_loop(layer, x[:1])[0][0]
    changes = [
        lambda: layer.cells[0].update.weight_h.mul_(2),
        lambda: layer.load_state_dict({k: v + 0.1 for k, v in layer.state_dict().items()}),
        lambda: setattr(layer.cells[1].candidate, "bias", nn.Parameter(torch.ones(7, dtype=torch.float64))),
    ]
    with torch.no_grad():
        for change in changes:
            assert_equal(layer.step(x[0])[0], by_loop(layer, x[:1])[0][0], table=KERNEL)
            change()
            assert_equal(layer.step(x[0])[0], by_loop(layer, x[:1])[0][0], table=KERNEL)
    assert_equal(stream.step(x[0]), before, table=KERNEL)
    stream.reset()
    stream.refresh()
    assert_equal(stream.step(x[0]), by_loop(layer, x[:1])[0][0], table=KERNEL)


def test_a_layer_of_another_type_has_other_streams():
    layer, x = conveyor.LSTM(3, 5), torch.randn(2, 1, 3)
    stream, wanted = layer.stream(), by_loop(layer, x)[0]
    layer.double()
    with pytest.raises(ValueError, match="make a new one"):
        stream.refresh()
    assert_equal(stream.run(x), wanted)


def test_what_a_cell_holds_reaches_single_steps_when_it_changes():
    class Scaled(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.map, self.scale, self.table = self.affine("h", "x"), 1.0, [1.0]
            self.act, self.factor = torch.tanh, torch.full((hidden_size,), 2.0, dtype=torch.float64)

        def step(self, x, h):
            return self.act(self.scale * self.table[0] * self.factor * self.map(h, x))

    layer, x = conveyor.Recurrent(Scaled, 3, 4, dtype=torch.float64), torch.randn(1, 2, 3, dtype=torch.float64)
    cell, before = layer.cell, []
    changes = [
        lambda: setattr(cell, "scale", 0.5),
        lambda: cell.table.__setitem__(0, 3.0),
        lambda: setattr(cell, "table", [4.0]),
        lambda: setattr(cell, "act", torch.sigmoid),
        lambda: cell.factor.mul_(2),
        lambda: setattr(cell, "factor", torch.full((4,), 5.0, dtype=torch.float64)),
    ]
    with torch.no_grad():
        before.append(layer.step(x[0])[0])
        for change in changes:
            change()
            before.append(layer.step(x[0])[0])
            assert_equal(before[-1], by_loop(layer, x)[0][0], table=KERNEL)
            assert not torch.equal(before[-1], before[-2])


def test_weights_that_count_no_versions_are_read_at_each_single_step():
    with torch.inference_mode():
        layer, x = conveyor.Recurrent(zoo.GRU, 3, 4), torch.randn(1, 2, 3)
        before = layer.step(x[0])[0]
        for weight in layer.parameters():
            weight.mul_(2)
        assert_equal(layer.step(x[0])[0], by_loop(layer, x)[0][0])
        assert not torch.equal(layer.step(x[0])[0], before)


def test_hooks_are_called_in_single_steps():
    layer, called = conveyor.Recurrent(zoo.LSTM, 3, 4), []
    with torch.no_grad():
        layer.step(torch.zeros(1, 3))
        layer.cells[0].forget.register_forward_hook(lambda *_: called.append(1))
        layer.step(torch.zeros(1, 3))
    assert called


def test_many_streams_of_one_layer_each_in_its_thread():
    layer = conveyor.LSTM(8, 24, num_layers=2)
    inputs = [torch.randn(300, 1, 8) for _ in range(4)]
    found = [None] * 4

    def run(k):
        stream = layer.stream()
        found[k] = torch.cat([stream.step(x) for x in inputs[k]])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, x in zip(found, inputs, strict=True):
        assert torch.equal(outputs, layer.stream().run(x)[:, 0])
        assert_equal(outputs, by_loop(layer, x)[0][:, 0])


def test_one_row_needs_no_dimension_for_it():
    layer, x = conveyor.LSTM(3, 5), torch.randn(6, 3)
    stream = layer.stream()
    first = torch.stack([stream.step(one) for one in x[:3]])
    assert_equal(torch.cat([first, stream.run(x[3:])]), by_loop(layer, x)[0])


def test_gradients_of_single_steps_are_as_before():
    layer, x = conveyor.LSTM(3, 5), torch.randn(2, 3)
    output, (h, _) = layer.step(x)
    (output.sum() + h.sum()).backward()
    assert layer.weight_hh_l0.grad is not None


BAD = {
    "the width": (lambda s: s.step(torch.zeros(4)), "1 rows of 3 inputs, but was given \\[4\\]"),
    "the rows": (lambda s: s.step(torch.zeros(2, 3)), "1 rows of 3 inputs"),
    "the dimensions": (lambda s: s.run(torch.zeros(3)), "was given \\[3\\]"),
    "the type": (lambda s: s.step(torch.zeros(3, dtype=torch.float64)), "is torch.float64, but"),
    "a gradient": (lambda s: s.step(torch.zeros(3, requires_grad=True)), "no gradients"),
    "a state's shape": (lambda s: setattr(s, "state", (torch.zeros(1, 1, 4),) * 2), "state h must have"),
    "a state too few": (lambda s: setattr(s, "state", torch.zeros(1, 1, 5)), "1 were given"),
    "another's save": (lambda s: s.restore({"h": torch.zeros(1, 1, 5)}), "holds C, h, steps, not h"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_told_and_changes_nothing(what):
    call, match = BAD[what]
    stream = conveyor.LSTM(3, 5).stream()
    stream.step(torch.ones(3))
    before = stream.save()
    with pytest.raises(ValueError, match=match):
        call(stream)
    after = stream.save()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_has_no_stream_is_told():
    layer = conveyor.LSTM(3, 5)
    for arguments in ({"rows": 0}, {"weights": "int4"}, {"start": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            layer.stream(**arguments)
    with pytest.raises(conveyor.NotCompiled, match="bidirectional"):
        conveyor.LSTM(3, 5, bidirectional=True).stream()
    with pytest.raises(ValueError, match="eval"):
        conveyor.GRU(3, 5, num_layers=2, dropout=0.1).stream()
    with pytest.raises(ValueError, match="float64"):
        layer.double().stream(weights="int8")
    with pytest.raises(TypeError, match="takes nothing for the whole sequence, not keys"):
        conveyor.LSTM(3, 5).stream(keys=torch.zeros(1, 2))
    stream = conveyor.LSTM(3, 5).stream()
    stream.close()
    with pytest.raises(RuntimeError, match="closed"):
        stream.step(torch.zeros(3))
