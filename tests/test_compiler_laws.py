"""What holds of the kernel of every cell: the zoo's, a user's own, and random ones that have all operations in them."""

import resource
import sys
from functools import partial

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from both import assert_float32_is_as_good, assert_kernel_is_loop, by_both, draw_inputs, results
from cases import CASES, FEW_PEEPHOLES, PAPERS, Case
from conveyor import backend
from random_cells import sample
from tiers import quick, slow
from tolerance import KERNEL, assert_equal

RANDOM = {f"random {i}": Case(cell) for i, cell in enumerate(sample())}
EVERY = CASES | PAPERS | RANDOM
SOME = [*CASES, *list(RANDOM)[::3]]
FEW = ["lstm", "lstm-projected", "gru", "own, with streams", "own, nested", "own, with extra outputs"]
pytestmark = pytest.mark.filterwarnings(r"ignore:var\(\)")  # PyTorch warns of the variance of no rows
QUICK = [*CASES, *FEW_PEEPHOLES, *list(RANDOM)[::5]]
every_cell = pytest.mark.parametrize("name", quick(EVERY, QUICK))
some_cells = pytest.mark.parametrize("name", quick(SOME, QUICK))
few_cells = pytest.mark.parametrize("name", FEW)


def drawn(name, *sizes, dtype=torch.float64, **keywords):
    """A layer and its inputs; `sizes`: steps, batch, input and hidden size."""
    steps, batch, *widths = sizes or (5, 7, 3, 13)
    layer = EVERY[name].layer(*widths, dtype=dtype, **keywords)
    if name.startswith("random"):
        print(layer.cell.source)
    return layer, draw_inputs(layer, steps, batch)


SIZES = [(5, 7, 3, 13), (3, 33, 6, 37), (1, 1, 1, 3), (9, 2, 17, 8)]  # the first two have the same kernel


@pytest.mark.parametrize("name", quick(EVERY, [*CASES, *FEW_PEEPHOLES, *RANDOM]))
def test_the_kernel_is_the_loop(name):
    assert_kernel_is_loop(*drawn(name))


@few_cells
@pytest.mark.usefixtures("as_users_have_them")
def test_the_kernel_that_users_have_is_the_loop(name):
    assert_kernel_is_loop(*drawn(name))
    assert_float32_is_as_good(partial(drawn, name, dtype=torch.float32))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        pytest.param(
            name,
            sizes,
            marks=[] if name in QUICK and number % len(SIZES) == i else slow,
            id=f"{name}-{'x'.join(map(str, sizes))}",
        )
        for number, (name, case) in enumerate(EVERY.items())
        for i, sizes in enumerate(SIZES[: 2 if case.heavy else None])
        if i
    ],
)
def test_the_kernel_is_the_loop_at_each_size(name, sizes):
    assert_kernel_is_loop(*drawn(name, *sizes))


@every_cell
def test_the_kernel_of_no_steps_and_of_no_rows_is_the_loop(name):
    layer, _ = drawn(name, 1, 1, 3, 5)
    for steps, batch in ((0, 3), (3, 0), (0, 0)):
        assert_kernel_is_loop(layer, draw_inputs(layer, steps, batch))


@some_cells
def test_the_kernel_in_float32_is_as_good_as_the_loop(name):
    for sizes in ((5, 7, 3, 13), (5, 7, 3, 37)):
        assert_float32_is_as_good(partial(drawn, name, *sizes, dtype=torch.float32))


@every_cell
def test_the_kernel_of_layers_directions_and_lengths_is_the_loop(name):
    """With NaN as padding, of which nothing may be seen."""
    layer, inputs = drawn(name, 6, 5, 3, 7, num_layers=2, bidirectional=True)
    lengths = [6, 0, 1, 4, 6]
    with torch.no_grad():
        for stream in (v for n, v in inputs.items() if n not in layer.cell.constant + layer.cell.state):
            for row, length in enumerate(lengths):
                stream[length:, row] = torch.nan
    kernel, loop = by_both(layer, inputs, lengths=lengths)
    for what, value in kernel.items():
        assert_equal(value, loop[what], what, KERNEL)


@some_cells
def test_the_kernel_with_recorded_values_is_the_loop(name):
    assert_kernel_is_loop(*drawn(name, 4, 3, 2, 5, bidirectional=True, num_layers=2), record=True, lengths=[2, 4, 0])


@few_cells
def test_the_kernel_with_recorded_values_of_whole_sequences_is_the_loop(name):
    assert_kernel_is_loop(*drawn(name, 4, 3, 2, 5), record=True)


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_with_dropout_and_zoneout_is_the_loop(name):
    """With the same masks."""
    rate = 0.4 if CASES[name].drops else 0
    layer, inputs = drawn(name, zoneout=0.3, recurrent_dropout=rate, input_dropout=0.2, num_layers=2, dropout=0.1)
    assert_kernel_is_loop(layer, inputs)
    assert_kernel_is_loop(layer, inputs, lengths=[5, 0, 1, 2, 3, 4, 5])
    if name in FEW:
        assert_kernel_is_loop(layer.eval(), inputs)


@few_cells
def test_the_kernel_counts_its_steps_from_where_the_loop_does(name):
    assert_kernel_is_loop(*drawn(name), start=2)


def test_the_kernel_of_a_random_cell_counts_its_steps_from_where_the_loop_does():
    counting = [name for name, case in RANDOM.items() if "t" in case.cell.arguments]
    assert counting
    for name in counting:
        assert_kernel_is_loop(*drawn(name), start=3)


@few_cells
def test_every_form_of_input_goes_through_the_kernel_as_through_the_loop(name):
    layer, inputs = drawn(name, 5, 4, 3, 6)
    further = {n: v for n, v in inputs.items() if n not in ("x", *layer.state_names)}
    assert_kernel_is_loop(layer, {"x": inputs["x"], **further})  # the initial state is zero
    learnt = EVERY[name].layer(3, 6, learn_initial_state=True, dtype=torch.float64)
    assert_kernel_is_loop(learnt, {"x": inputs["x"], **further})
    first = EVERY[name].layer(3, 6, batch_first=True, dtype=torch.float64)
    turned = {n: v if n in layer.cell.constant + layer.state_names else v.transpose(0, 1) for n, v in inputs.items()}
    assert_kernel_is_loop(first, turned)
    alone = {n: v[0] if n in layer.cell.constant else v[:, 0] for n, v in inputs.items()}
    assert_kernel_is_loop(layer, alone)
    if not further:
        packed = pack_padded_sequence(inputs["x"].detach(), [2, 5, 1, 3], enforce_sorted=False)
        runs = []
        for name in ("compiled", "eager"):
            with backend(name):
                output, last = layer(packed)[:2]
            runs.append((output.data, *(last if isinstance(last, tuple) else (last,))))
        for value, wanted in zip(*runs, strict=True):
            assert_equal(value, wanted, "packed", KERNEL)


@few_cells
@pytest.mark.parametrize("wanted", ["x", "states", "bias", "some", "nothing"])
def test_the_kernel_gives_the_gradients_that_are_asked_for(name, wanted):
    layer, inputs = drawn(name)
    for what, value in [*inputs.items(), *layer.named_parameters()]:
        kinds = {
            "x": what == "x",
            "states": what in layer.state_names,
            "bias": what.endswith("bias"),
            "some": len(what) % 2 == 0,
            "nothing": False,
        }
        value.requires_grad_(kinds[wanted])
    assert_kernel_is_loop(layer, inputs)


@few_cells
def test_the_kernel_without_gradients_is_the_loop(name):
    layer, inputs = drawn(name, num_layers=2, bidirectional=True)
    found = {}
    for way in ("compiled", "eager"):
        for mode in (torch.no_grad, torch.inference_mode):
            with backend(way), mode():
                output, *_ = layer(*arguments(layer, inputs)[0], **arguments(layer, inputs)[1])
            found[way, mode] = output
    for mode in (torch.no_grad, torch.inference_mode):
        assert_equal(found["compiled", mode].clone(), found["eager", mode].clone(), "output", KERNEL)


def arguments(layer, inputs):
    """What a layer is called with."""
    state = tuple(inputs[name] for name in layer.state_names)
    others = {name: value for name, value in inputs.items() if name not in ("x", *layer.state_names)}
    return (inputs["x"], state if len(state) > 1 else state[0]), others


@few_cells
def test_the_kernel_takes_inputs_and_weights_of_every_layout(name):
    layer, inputs = drawn(name, 5, 6, 4, 7)
    spread = {n: torch.empty(*v.shape, 2, dtype=v.dtype)[..., 0].copy_(v.detach()) for n, v in inputs.items()}
    assert_kernel_is_loop(layer, {n: v.requires_grad_() for n, v in spread.items()})
    turned = {n: v.detach().transpose(0, -1).contiguous().transpose(0, -1) for n, v in inputs.items()}
    assert_kernel_is_loop(layer, {n: v.requires_grad_() for n, v in turned.items()})
    rows = {
        n: v.detach()[:1].expand_as(v) if n in layer.cell.constant else v.detach()[:, :1].expand_as(v)
        for n, v in inputs.items()
    }
    assert_kernel_is_loop(layer, {n: v.requires_grad_() for n, v in rows.items()})
    one = {n: v.detach()[..., :1].expand_as(v) for n, v in inputs.items()}
    assert_kernel_is_loop(layer, {n: v.requires_grad_() for n, v in one.items()})
    for parameter in layer.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.t().contiguous().t()
    assert_kernel_is_loop(layer, inputs)


@few_cells
def test_the_kernel_is_the_loop_whatever_the_loss_reads(name):
    layer, inputs = drawn(name)
    for chosen in (["output"], *([f"last {state}"] for state in layer.state_names), ["last h", "output"]):
        assert_kernel_is_loop(layer, inputs, loss_of=chosen)
    for value in layer.cell.extra:
        assert_kernel_is_loop(layer, inputs, loss_of=[f"value {value} 0"])


def test_the_backward_pass_may_come_after_the_block_and_twice():
    layer, inputs = drawn("lstm")
    with backend("compiled"):
        output, _ = layer(inputs["x"])
    first, second = (torch.autograd.grad(output.sum(), inputs["x"], retain_graph=True)[0] for _ in range(2))
    with backend("eager"):
        (wanted,) = torch.autograd.grad(layer(inputs["x"])[0].sum(), inputs["x"])
    assert torch.equal(first, second)
    assert_equal(first, wanted, "gradient", KERNEL)


def test_changed_weights_are_seen():
    layer, inputs = drawn("gru")
    assert_kernel_is_loop(layer, inputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(-0.5)
    assert_kernel_is_loop(layer, inputs)


def test_a_kernel_does_not_write_to_what_it_is_given():
    layer, inputs = drawn("lstm-peephole", num_layers=2)
    everything = [*inputs.values(), *layer.parameters()]
    before = [value.detach().clone() for value in everything]
    with backend("compiled"):
        results(layer, inputs)
    for value, wanted in zip(everything, before, strict=True):
        assert torch.equal(value, wanted)


@pytest.mark.parametrize("name", [*CASES, *list(RANDOM)[::5]])
@pytest.mark.parametrize("sizes", [pytest.param((4, 48, 64, 128), marks=slow), (4, 1, 64, 256), (5, 7, 3, 13)])
def test_two_runs_and_two_threads_give_the_same_bits(name, sizes):
    assert_same_bits(name, *sizes)


@few_cells
@pytest.mark.usefixtures("as_users_have_them")
def test_two_runs_and_two_threads_of_what_users_have_give_the_same_bits(name):
    assert_same_bits(name, 4, 48, 64, 128)


def assert_same_bits(name, *sizes):
    layer, inputs = drawn(name, *sizes, dtype=torch.float32)
    try:
        with backend("compiled"):
            one, again = results(layer, inputs), results(layer, inputs)
            torch.set_num_threads(2)
            two = results(layer, inputs)
    finally:
        torch.set_num_threads(1)
    for what, value in one.items():
        assert torch.equal(again[what], value), f"{what}, two runs"
        assert torch.equal(two[what], value), f"{what}, two threads"


def test_the_steps_are_not_taken_in_python():
    taken = []

    class Watched(CASES["own"].cell):
        def step(self, x, h):
            taken.append(1)
            return super().step(x, h)

    layer = Case(Watched).layer(3, 5)
    counts = []
    with backend("compiled"):
        layer(torch.randn(3, 2, 3))
        for steps in (3, 300):
            taken.clear()
            layer(torch.randn(steps, 2, 3))
            counts.append(len(taken))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["lstm", "gru", "own, with streams"])
def test_a_long_sequence_takes_memory_in_proportion(name):
    """100,000 steps; the loop is asked for the last of them only, from the kernel's state before."""
    steps, tail = 100_000, 200
    layer, inputs = drawn(name, steps, 1, 2, 2)
    before = peak()
    with backend("compiled"):
        with torch.no_grad():
            (x, state), others = arguments(layer, inputs)
            streams = {n: v for n, v in others.items() if n not in layer.cell.constant}
            constants = {n: v for n, v in others.items() if n in layer.cell.constant}
            early = {n: v[:-tail] for n, v in streams.items()}
            _, middle = layer(x[:-tail], state, **early, **constants)
        found = results(layer, inputs, loss_of=["output"])
    grown = peak() - before
    assert grown < 1e9, f"{grown / steps:.0f} bytes a step"
    late = {n: v[-tail:].detach().requires_grad_() for n, v in {"x": x, **streams}.items()}
    middle = middle if isinstance(middle, tuple) else (middle,)
    with backend("eager"):
        given = late | dict(zip(layer.state_names, middle, strict=True)) | constants
        output, _ = layer(*arguments(layer, given)[0], **arguments(layer, given)[1])
        wanted = torch.cos(torch.arange(steps * output.shape[2]).double()).view(steps, 1, -1)[-tail:]
        (gradient,) = torch.autograd.grad((output * wanted).sum(), late["x"])
    assert_equal(found["output"][-tail:], output.detach(), "output", KERNEL)
    assert_equal(found["gradient of x"][-tail:], gradient, "gradient", KERNEL)
    assert all(value.isfinite().all() for value in found.values())


def peak():
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
