"""Kernels in CUDA C, run on the processor with their threads as fibers: a cell's are its loop, whatever shares the work
and in whatever order threads run between two barriers."""

from functools import partial

import pytest
import torch

from both import assert_float32_is_as_good, assert_kernel_is_loop, by_both, draw_inputs
from cases import CASES
from conveyor.targets import registry
from conveyor.targets.cuda.plan import GPU, Schedule
from fibers import SMALL, cuda
from test_compiler_laws import EVERY, FEW, QUICK, drawn
from tiers import slow
from tolerance import KERNEL, assert_equal

pytestmark = pytest.mark.filterwarnings(r"ignore:var\(\)")
SCHEDULES = list(Schedule)
MANY = GPU(24, 90, threads=4)  # so many that a team has a sequence or two
TURNS = [(schedule, order, gpu) for order, gpu in ((0, SMALL), (1, MANY), (2, SMALL)) for schedule in SCHEDULES]


@pytest.fixture
def on(monkeypatch):
    """Has layers run by such a target."""

    def use(schedule=None, order=0, facts=SMALL):
        target = cuda(schedule, order=order, facts=facts)
        monkeypatch.setattr(registry, "TARGETS", (target,))
        return target.machine.api

    return use


def by_turns(quick=QUICK, few=1, many=2):
    """Every cell with some of the ways to run it, each cell with others: `few` in the quick tests, `many` in all."""
    found = []
    for number, name in enumerate(EVERY):
        for k in range(many):
            schedule, order, gpu = TURNS[(number + 5 * k) % len(TURNS)]
            marks = () if name in quick and k < few else slow
            label = f"{name}-{schedule}-{order}"
            found.append(pytest.param(name, (schedule, order, gpu), marks=marks, id=label))
    return found


@pytest.mark.parametrize(("name", "way"), by_turns())
def test_the_kernel_is_the_loop(name, way, on):
    """In float64, forward and every gradient."""
    machine = on(*way)
    assert_kernel_is_loop(*drawn(name))
    assert machine.launches


@pytest.mark.parametrize(("name", "way"), by_turns(many=1))
def test_the_kernel_of_layers_directions_lengths_and_recorded_values_is_the_loop(name, way, on):
    """With NaN as padding, of which nothing may be seen."""
    on(*way)
    layer, inputs = drawn(name, 4, 3, 2, 5, bidirectional=True, num_layers=2)
    lengths = [2, 4, 0]
    with torch.no_grad():
        for stream in (v for n, v in inputs.items() if n not in layer.cell.constant + layer.cell.state):
            for row, length in enumerate(lengths):
                stream[length:, row] = torch.nan
    kernel, loop = by_both(layer, inputs, record=True, lengths=lengths)
    for what, value in kernel.items():
        assert_equal(value, loop[what], what, KERNEL)


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_in_float32_is_as_good_as_the_loop(name, on):
    on(SCHEDULES[len(name) % 4])
    assert_float32_is_as_good(partial(drawn, name, 5, 7, 3, 13, dtype=torch.float32))


@pytest.mark.parametrize("name", FEW)
def test_the_kernel_with_dropout_and_zoneout_is_the_loop(name, on):
    """With the same masks."""
    on(SCHEDULES[len(name) % 4])
    rate = 0.4 if CASES[name].drops else 0
    layer, inputs = drawn(name, zoneout=0.3, recurrent_dropout=rate, input_dropout=0.2, num_layers=2, dropout=0.1)
    assert_kernel_is_loop(layer, inputs)
    assert_kernel_is_loop(layer, inputs, lengths=[5, 0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_kernel_of_no_steps_and_of_no_rows_is_the_loop(name, schedule, on):
    on(schedule)
    layer, _ = drawn(name, 1, 1, 3, 5)
    for steps, batch in ((0, 3), (3, 0), (0, 0)):
        assert_kernel_is_loop(layer, draw_inputs(layer, steps, batch))


@pytest.mark.parametrize("name", FEW)
def test_every_way_to_share_the_work_gives_the_same_bits(name, on):
    layer, inputs = drawn(name, dtype=torch.float32)
    first = None
    for way in TURNS:
        on(*way)
        kernel, _ = by_both(layer, inputs)
        first = first or kernel
        for what, value in kernel.items():
            assert torch.equal(value, first[what]), (what, way)
