"""Kernels in CUDA C, run on the processor with their threads as fibers: a cell's are its loop, whatever shares the work
and in whatever order threads run between two barriers."""

import json
import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import conveyor
from both import assert_float32_is_as_good, assert_kernel_is_loop, by_both, draw_inputs, results
from cases import CASES
from conveyor import backend, compile
from conveyor.compiler import inference
from conveyor.layer import backends, delegation
from conveyor.targets import CannotBuild, registry
from conveyor.targets.cuda import CUDA, driver, nvrtc
from conveyor.targets.cuda.driver import Driver
from conveyor.targets.cuda.plan import GPU, Schedule
from fibers import SMALL, cuda
from test_compiler_laws import EVERY, FEW, QUICK, drawn
from tiers import quick, slow
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


def by_turns(few=1, many=2):
    """Every cell with some of the ways to run it, each cell with others: `few` in the quick tests, `many` in all."""
    found = []
    for number, name in enumerate(EVERY):
        for k in range(many):
            schedule, order, gpu = TURNS[(number + 5 * k) % len(TURNS)]
            marks = () if name in QUICK and k < few else slow
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


@pytest.mark.parametrize("kind", [conveyor.RNN, conveyor.LSTM, conveyor.GRU])
def test_the_kernel_of_a_layer_with_the_weights_of_torch_nn_is_the_loop(kind, on):
    """Whose gates are parts of one matrix; so are their gradients."""
    api = on(Schedule.GRID)
    layer = kind(3, 7, num_layers=2, bidirectional=True, dtype=torch.float64)
    inputs = {"x": torch.randn(6, 4, 3, dtype=torch.float64)[1:].requires_grad_()}  # which begins within another
    for lengths in (None, [5, 1, 3, 2]):
        assert_kernel_is_loop(layer, inputs, lengths=lengths)
    assert api.launches


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


WAYS = [(0, SMALL), (1, GPU(5, 90, threads=1)), (2, GPU(2, 90, threads=17)), (1, SMALL), (3, MANY)]


# Not understood yet: their first barrier is missed in a process of its own, but not always after other tests.
UNDECIDED = ("attention-soft", "attention-hard")


@pytest.mark.parametrize("name", quick({n: case for n, case in CASES.items() if n not in UNDECIDED}, FEW))
def test_each_barrier_that_is_left_out_is_missed(name, on):
    """By some order of the threads, for some inputs: a value is read before it is there, or when it is gone."""
    api = on(Schedule.GRID)
    layer, inputs = drawn(name, 4, 9, 3, 5)
    draws = [inputs, *(draw_inputs(layer, 4, 9) for _ in range(4))]
    with backend("compiled"):
        right = [results(layer, each) for each in draws]
        for module, (count, left_out) in enumerate(api.barriers()):
            for number in range(count):
                left_out.value = number
                assert any(
                    is_missed(layer, each, expected, api, way)
                    for each, expected in zip(draws, right, strict=True)
                    for way in WAYS
                ), f"barrier {number} of {count} of kernel {module} is needed by nobody"
            left_out.value = -1


def is_missed(layer, inputs, expected, api, way):
    """Whether a result is another."""
    api.order, api.facts = way
    api.driver.forget()
    found = results(layer, inputs)
    return any(not torch.equal(found[what], value) for what, value in expected.items())


def test_blocks_that_do_not_fit_side_by_side_are_launched_in_turn(on):
    """The driver says so when it is asked for a cooperative launch, and the numbers are the same."""
    api = on(Schedule.GRID)
    layer, inputs = drawn("lstm", dtype=torch.float32)
    together, _ = by_both(layer, inputs)
    assert [kinds for *_, kinds in api.launches if kinds]
    api.launches.clear()
    api.fits = 0
    apart, _ = by_both(layer, inputs)
    assert len(api.launches) > 5
    assert not [kinds for *_, kinds in api.launches if kinds]
    for what, value in together.items():
        assert torch.equal(apart[what], value)


@pytest.mark.parametrize(
    ("elements", "facts", "expected"),
    [
        (16, GPU(132, 90), Schedule.BLOCK),
        (256, GPU(132, 90), Schedule.CLUSTER),
        (256, GPU(108, 80), Schedule.GRID),
        (1024, GPU(132, 90), Schedule.GRID),
        (1024, GPU(108, 80, cooperates=False), Schedule.LAUNCHES),
    ],
)
def test_the_schedule_goes_by_the_size_of_a_step_and_by_the_gpu(elements, facts, expected):
    target = cuda()
    graph = compile(conveyor.zoo.LSTM(32, elements)).traced
    assert target.plan(inference(graph).program).schedule(facts) == expected


def test_a_launch_that_fails_names_the_kernel_and_the_cure_and_the_next_call_works(on):
    api = on()
    layer, inputs = drawn("lstm")
    api.failing = 719
    said = r"kernel\d+ cannot be launched on cpu.*error 719.*eager"
    with backend("compiled"), pytest.raises(RuntimeError, match=said):
        results(layer, inputs)
    api.failing = 0
    assert_kernel_is_loop(layer, inputs)


def too_old(on, _monkeypatch):
    on(facts=GPU(6, 61))


def no_nvrtc(on, monkeypatch):
    machine = on().driver
    monkeypatch.setattr(machine, "check", partial(Driver.check, machine))
    monkeypatch.setattr(nvrtc, "loaded", nvrtc.loaded.__wrapped__)
    monkeypatch.setattr(nvrtc, "NAMES", ())
    monkeypatch.setattr(nvrtc, "folders", list)


def no_driver(_on, monkeypatch):
    monkeypatch.setattr(driver, "LIBRARY", "libnothing.so")
    monkeypatch.setattr(registry, "TARGETS", (CUDA(device="cpu"),))


def old_driver(on, _monkeypatch):
    on().refusing = 222


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (too_old, "compute capability 6.1, and kernels need 7.0"),
        (no_nvrtc, "there is no NVRTC, the compiler of CUDA: pip install"),
        (no_driver, "NVIDIA's driver cannot be loaded.*libnothing.so"),
        (old_driver, "(?s)the driver does not take what NVRTC compiles.*newer driver"),
    ],
)
def test_trouble_with_a_gpu_is_one_warning_and_the_loop(trouble, message, on, monkeypatch):
    trouble(on, monkeypatch)
    monkeypatch.setattr(CUDA, "tried", True)
    monkeypatch.setattr(backends, "_warned", set())
    layer, inputs = drawn("gru-reset-before")
    with backend("compiled"), pytest.raises(conveyor.NotCompiled, match=message):
        results(layer, inputs)
    with pytest.warns(RuntimeWarning, match=message):
        found = results(layer, inputs)
    with backend("eager"):
        expected = results(layer, inputs)
    for what, value in found.items():
        assert torch.equal(value, expected[what])
    results(layer, inputs)  # with no other warning


@slow
def test_under_torch_compile_a_kernel_is_one_operation(on):
    api = on()
    layer, inputs = drawn("lstm", dtype=torch.float32)
    x = inputs["x"].detach()
    with torch.no_grad(), backend("compiled"):
        found = torch.compile(layer, fullgraph=True, backend="eager")(x)[0]
        with backend("eager"):
            assert_equal(found, layer(x)[0])
    assert api.launches


def test_products_outside_the_loop_are_not_rounded_under_autocast(on):
    """As those in it: autocast rounds what goes into a layer and what comes out of it."""
    layer, inputs = drawn("gru", dtype=torch.float32)

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16), backend("compiled"):
            return results(layer, inputs)["output"]

    found = run()
    on()
    assert_equal(run(), found)


def test_the_script_for_a_machine_with_a_gpu_runs_all_its_checks(tmp_path, monkeypatch, capsys):
    """Here on fibers. What fails is told at the end, and the rest goes on."""
    monkeypatch.setattr(registry, "TARGETS", registry.TARGETS)
    path = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
    scope = runpy.run_path(str(path))
    monkeypatch.setattr(delegation, "DEVICES", delegation.DEVICES)
    told = scope["main"].__globals__
    told["target"] = lambda schedule, _device: cuda(schedule)
    told["nvrtc"] = SimpleNamespace(version=lambda: (12, 9))
    given = ["--device", "cpu", "--small", "--json", str(tmp_path / "gpu.json")]
    assert scope["main"](given) == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [one["right"] for one in found if one["check"].startswith("right")] == [True] * 7
    assert {"block", "cluster", "grid", "launches", "as chosen", "loop", "torch.nn"} < set(found[-2])
    told["target"] = lambda _schedule, _device: CUDA(NoGPU(), device="cpu")
    assert scope["main"](given) == 1
    assert "13 of 14 failed" in capsys.readouterr().out


class NoGPU(Driver):
    def check(self):
        raise CannotBuild("there is none")
