"""What `conveyor bench` makes of times, by small fakes; and the command on a tiny shape."""

import json
import math
import signal
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec

import pytest
import torch

from command import begun, command, conveyor, done, wait
from conveyor import cli, zoo
from conveyor.bench import contenders, earlier, memory, plot, report, suite, timing, worker
from conveyor.bench.contenders import Work, choose
from conveyor.bench.cost import Cost
from conveyor.bench.machine import Conditions, Machine, cache_sizes, processor_name
from conveyor.bench.plan import SHAPES, Plan, Shape, Task, check_mode, check_threads, sweep
from conveyor.bench.results import Results, Row, geometric_mean
from conveyor.errors import BadInput
from tiers import slow

SHAPE = Shape(10, 4, 3, 8)
MACHINE = Machine(
    1, True, products={"slow": 1e8, "fast": 1e9}, caches={"L1": 100, "L2": 1000}, reads={"L2": 1e9, "memory": 1e8}
)
TINY = ["bench", "--shape", "3,2,4,5", "--seconds", "0", "--threads", "1", "--against", "eager"]


class Clock:
    """Time that passes only where a run says so."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def run(self, name, seconds):
        def once():
            self.calls.append(name)
            self.now += seconds

        return once


def row(cell="lstm", mode="training", shape=SHAPE, sweep="", threads=1, **values):
    made = Row.of(Task(cell, mode, shape, sweep), threads)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_every_run_has_its_turn_in_every_round():
    clock = Clock()
    runs = {name: clock.run(name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    times = timing.interleaved(runs, seconds=60, clock=clock)
    assert times == {"a": [1.0] * 10, "b": [2.0] * 10, "c": [3.0] * 10}
    rounds = [clock.calls[i : i + 3] for i in range(0, len(clock.calls), 3)]
    assert all(sorted(calls) == ["a", "b", "c"] for calls in rounds)
    assert len(set(map(tuple, rounds))) > 1, "always in the same order"


def test_a_budget_that_is_too_small_still_gives_a_median():
    clock = Clock()
    assert timing.interleaved({"a": clock.run("a", 5.0)}, seconds=0, clock=clock) == {"a": [5.0] * 3}
    assert timing.interleaved({}, seconds=1e9) == {}


def test_a_short_run_wakes_its_threads_before_it_is_timed():
    clock = Clock()
    timing.interleaved({"short": clock.run("short", 0.01), "long": clock.run("long", 9.0)}, 0, 2, clock)
    assert (clock.calls.count("short"), clock.calls.count("long")) == (5, 3)


def test_the_products_of_a_cell_are_counted_from_its_affine_maps():
    assert Cost.of(zoo.LSTM(3, 8)) == Cost(outer=4 * 2 * 3 * 8, inner=4 * 2 * 8 * 8)
    assert Cost.of(zoo.GRU(3, 8)) == Cost(outer=3 * 2 * 3 * 8, inner=3 * 2 * 8 * 8)
    assert Cost.of(zoo.PeepholeLSTM(3, 8)) == Cost.of(zoo.LSTM(3, 8)), "a diagonal block is no product"
    assert Cost.of(zoo.FullPeepholeLSTM(3, 8)).inner == 7 * 2 * 8 * 8
    assert Cost.of(zoo.ProjectedLSTM(3, 8, 2)) == Cost(outer=4 * 2 * 3 * 8, inner=4 * 2 * 2 * 8 + 2 * 8 * 2)
    assert Cost.of(zoo.RNN(3, 8)).weight_bytes == 4 * 8 * 8


def test_the_operations_of_training_leave_out_the_gradient_of_the_input():
    cost = Cost(outer=10, inner=100)
    assert cost.operations(SHAPE, training=False) == 40 * 110
    assert cost.operations(SHAPE, training=True) == 40 * (2 * 10 + 3 * 100)


def test_the_floor_is_the_products_or_the_reading_of_the_weights():
    # 400 bytes of weights, from L2: a step takes 400 ns to read them, and 200 ns of products for each row.
    cost = Cost(outer=100, inner=200)
    one_row, rows = Shape(10, 1, 3, 8), Shape(10, 4, 3, 8)
    assert cost.floor(one_row, False, MACHINE) == pytest.approx(10 * (100e-9 + 400e-9))
    assert cost.floor(one_row, True, MACHINE) == pytest.approx(10 * (2 * 100e-9 + 200e-9 + 2 * 400e-9))
    assert cost.floor(rows, False, MACHINE) == pytest.approx(40 * 300e-9)
    assert cost.floor(rows, True, MACHINE) == pytest.approx(cost.operations(rows, True) / MACHINE.sgemm)


def test_the_bandwidth_is_that_of_the_first_cache_that_is_large_enough():
    assert [MACHINE.bandwidth(size) for size in (100, 101, 1000, 1001)] == [math.inf, 1e9, 1e9, 1e8]


def test_a_cache_that_cores_share_counts_once(tmp_path):
    caches = {
        0: [("1", "Data", "32K", "0"), ("1", "Instruction", "32K", "0"), ("2", "Unified", "1M", "0-1")],
        1: [("1", "Data", "32K", "1"), ("2", "Unified", "1M", "0-1")],
    }
    for cpu, indices in caches.items():
        for number, values in enumerate(indices):
            index = tmp_path / f"cpu{cpu}" / "cache" / f"index{number}"
            index.mkdir(parents=True)
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                (index / name).write_text(f"{value}\n")
    assert cache_sizes([0, 1], tmp_path) == {"L1": 2 * 32 * 1024, "L2": 1024 * 1024}
    assert cache_sizes([0], tmp_path) == {"L1": 32 * 1024, "L2": 1024 * 1024}
    assert cache_sizes([0, 1], tmp_path / "nothing")["L2"] > 0


def test_ratios_are_to_our_kernel_or_else_to_our_loop():
    assert row(seconds={"kernel": 2.0, "eager": 10.0, "jax": 3.0}).ratios == {"eager": 5.0, "jax": 1.5}
    assert row(seconds={"eager": 10.0, "jax": 5.0}).ratios == {"jax": 0.5}
    assert row(seconds={"jax": 5.0}).ratios == {}
    assert row(seconds={"kernel": 2.0, "eager": 10.0}, floor=1.0).fraction == 0.5
    assert row(seconds={"kernel": 1.0}, saved={"kernel": 3, "torch.nn": 4}).saved_ratio == 0.75


def test_means_are_geometric_and_of_whole_columns_only():
    results = Results()
    results.rows = [
        row(seconds={"kernel": 1.0, "eager": 2.0, "jax": 4.0}, floor=0.5),
        row(seconds={"kernel": 1.0, "eager": 8.0}, floor=0.125),
        row(seconds={"kernel": 1.0, "eager": 100.0}, sweep="T"),
        row(seconds={"eager": 2.0, "jax": 1.0}, mode="inference"),
    ]
    training, inference = results.groups()
    assert training.ratios == {"eager": pytest.approx(4.0)}
    assert training.fraction == pytest.approx(0.25)
    assert (inference.ours, inference.ratios) == ("eager", {"jax": pytest.approx(0.5)})
    assert geometric_mean([]) is None


def test_the_time_of_an_operation_is_compared_with_the_lstm_at_the_same_shape():
    results = Results()
    results.rows = [
        row(seconds={"kernel": 1.0}, operations=100),
        row(seconds={"kernel": 9.0}, operations=100, threads=2),
        row("gru", seconds={"kernel": 3.0}, operations=200),
    ]
    assert results.per_operation(results.rows[2]) == pytest.approx(1.5)
    results.rows[0].seconds = {"eager": 1.0}
    assert results.per_operation(results.rows[2]) is None, "a kernel against a loop"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123"), (0, "0"), (None, "–")],
)
def test_three_digits_are_shown(value, text):
    assert report.digits(value) == text


def test_storages_saved_for_backward_count_once_and_those_that_are_there_anyway_not():
    weight, x = torch.randn(5, requires_grad=True), torch.randn(5)

    def forward():
        y = weight * x  # saves both, which are there anyway
        y = y.exp()  # saves its result
        return y * y.view(5)  # saves the same storage twice

    assert memory.saved_bytes(forward, [weight, x]) == 5 * 4


@pytest.mark.parametrize("name", ["rnn", "rnn-relu", "lstm", "gru"])
def test_torch_gives_the_same(name):
    work = Work.make(zoo.CELLS[name], SHAPE, training=True)
    ours, theirs = contenders.eager(work), contenders.torch_nn(work)
    torch.testing.assert_close(ours(), theirs())
    assert contenders.torch_nn(Work.make(zoo.PeepholeLSTM, SHAPE, training=True)) is None


def test_what_is_not_there_or_fails_or_differs_is_said_and_the_rest_is_measured(monkeypatch):
    def missing(_):
        raise ImportError("No module named 'jax'")

    def failing(_):
        return lambda: 1 / 0

    monkeypatch.setitem(contenders.CONTENDERS, "jax", missing)
    monkeypatch.setitem(contenders.CONTENDERS, "kernel", failing)
    monkeypatch.setitem(contenders.CONTENDERS, "onnxruntime", lambda _: lambda: torch.full((10, 4, 8), 7.0))
    monkeypatch.setitem(contenders.CONTENDERS, "torch.compile", lambda _: lambda: torch.full((10, 4, 8), math.nan))
    told = {}
    names = ("kernel", "torch.nn", "onnxruntime", "jax", "torch.compile")
    measured = worker.measure(
        Task("lstm", "inference", SHAPE), names, 0.0, MACHINE, lambda **message: told.update(message)
    )
    assert set(measured.seconds) == {"torch.nn", "onnxruntime", "torch.compile", "eager"}, "the loop stands in for ours"
    results = Results(rows=[measured], absent=told["absent"], complete=True)
    missed, failed, *others = report.remarks(results)
    assert missed == "not measured: jax: ImportError: No module named 'jax': pip install 'conveyor[bench]'"
    assert failed == "kernel fails on lstm, inference: ZeroDivisionError: division by zero"
    assert [line.partition(" on ")[0] for line in others] == [
        "onnxruntime has different outputs",
        "torch.compile has outputs that are not finite",
    ]


def test_the_tasks_are_all_combinations_and_the_sweeps_of_a_picture():
    plan = Plan(("lstm", "gru"), SHAPES, modes=("training", "inference"))
    assert len(list(plan.tasks())) == 2 * 8 * 2
    only = Plan(shapes=(SHAPE,), modes=("training",), sweeps=True)
    assert [task.sweep for task in only.tasks()] == ["", *"TTTTT", *"BBBB", *"HHHH"]
    for size, shape in sweep(SHAPE):
        changed = {
            name for name, one, other in zip("TBIH", astuple(shape), astuple(SHAPE), strict=True) if one != other
        }
        assert changed <= ({"H", "I"} if size == "H" else {size})


def astuple(shape):
    return shape.steps, shape.batch, shape.inputs, shape.hidden


def test_a_shape_is_four_numbers():
    assert Shape.of("100,16,64,128") == Shape(100, 16, 64, 128)
    for text in ("", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3,0", "1,2,-3,4", "1.5,2,3,4"):
        with pytest.raises(BadInput, match="T,B,I,H"):
            Shape.of(text)
    with pytest.raises(BadInput, match="memory"):
        Shape.of("1000000,1000000,1000,1000")


def test_choices():
    assert choose([]) == ("kernel", "eager", "torch.nn", "onnxruntime", "jax")
    assert choose(["torch.compile", "torch.nn"]) == ("kernel", "torch.nn", "torch.compile")
    assert check_mode("both") == ("training", "inference")
    assert check_threads([1, 1]) == (1,)
    assert check_threads([])[0] == 1
    with pytest.raises(BadInput, match=r"did you mean torch\.nn"):
        choose(["torch-nn"])
    with pytest.raises(BadInput, match="did you mean training"):
        check_mode("train")
    with pytest.raises(BadInput, match="processors"):
        check_threads([10**6])


def test_the_picture_shows_what_was_measured(tmp_path):
    results = Results()
    results.rows = [
        row(seconds={"eager": 0.1}, floor=0.01, shape=shape, sweep=size, threads=threads)
        for size, shape in sweep(SHAPE)
        for threads in (1, 2)
    ]
    plot.draw(results, tmp_path / "times.png")
    assert (tmp_path / "times.png").read_bytes().startswith(b"\x89PNG")
    plot.draw(Results(), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@slow
def test_the_command_prints_a_table_that_is_markdown_and_writes_a_file(tmp_path):
    file = tmp_path / "times.json"
    table = done(*TINY, "--against", "torch.nn", "--json", file, cwd=tmp_path).stdout
    written = file.read_bytes()
    assert len(json.loads(written)["rows"]) == 2
    again = conveyor(*TINY, "--json", file, cwd=tmp_path)
    assert (again.returncode, file.read_bytes()) == (2, written)
    assert "already" in again.stderr
    assert "lstm, training, 1 thread" in table
    assert "lstm, inference, 1 thread" in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert "torch.nn" in lines[0]
    assert lines[2].split("|")[1].strip() == "3, 2, 4, 5"


@slow
def test_json_has_every_figure(tmp_path):
    cells = ["--cell", "lstm", "--cell", "lstm-coupled", "--mode", "training"]
    values = json.loads(done(*TINY, *cells, "--against", "torch.nn", "--json", "-", cwd=tmp_path).stdout)
    assert values["complete"] is True
    (machine,) = values["machines"]
    assert machine["threads"] == 1
    assert min(*machine["products"].values(), *machine["reads"].values()) > 0
    lstm, coupled = values["rows"]
    assert lstm["shape"] == {"steps": 3, "batch": 2, "inputs": 4, "hidden": 5}
    assert (lstm["cell"], lstm["mode"], lstm["threads"]) == ("lstm", "training", 1)
    assert {"eager", "torch.nn"} <= set(lstm["seconds"])
    assert lstm["rounds"] == timing.LEAST_ROUNDS
    assert lstm["operations"] == Cost.of(zoo.LSTM(4, 5)).operations(Shape(3, 2, 4, 5), True)
    assert 0 < lstm["floor"] < lstm["seconds"][lstm["ours"]]
    assert lstm["saved"]["torch.nn"] > 0
    assert lstm["per_operation_of_lstm"] == 1
    assert max(lstm["errors"].values()) < 1e-6
    assert "torch.nn" not in coupled["seconds"]
    assert [mean["cell"] for mean in values["means"]] == ["lstm", "lstm-coupled"]


def run_of(*rows, **values):
    return Results(list(values.pop("machines", [MACHINE])), list(rows), complete=True, **values)


def test_a_file_gives_back_what_was_written(tmp_path):
    gone = row("gru", failed={"kernel": "no"}, errors={"jax": None}, saved={"eager": 3})
    then = run_of(row(seconds={"kernel": 1.0}, floor=0.5), gone, absent={"jax": "no"}, load=0.5)
    (tmp_path / "times.json").write_text(json.dumps(then.to_dict()))
    assert earlier.read(tmp_path / "times.json") == then


def test_what_is_measured_again_is_what_the_file_has():
    seconds = {"kernel": 1.0, "torch.nn": 1.0}
    rows = [row(cell, mode, seconds=seconds) for cell in ("gru", "rnn") for mode in ("training", "inference")]
    plan = earlier.plan(run_of(*rows, row(seconds={"jax": 1.0}, sweep="T")))
    assert (plan.cells, plan.shapes, plan.threads) == (("gru", "rnn"), (SHAPE,), (1,))
    assert (plan.modes, plan.against) == (("training", "inference"), ("kernel", "torch.nn"))
    earlier.check(plan, run_of(*rows))
    with pytest.raises(BadInput, match="has no rnn, inference, 10, 4, 3, 8 with --threads 1: choose what it has"):
        earlier.check(plan, run_of(*rows[:-1]))  # as of a run that was stopped


def test_a_ratio_is_now_to_then_and_beside_torch_that_of_the_ratios():
    # The machine was twice as fast then: torch.nn takes twice its time, ours three times.
    then = row(seconds={"kernel": 1.0, "torch.nn": 5.0})
    pair = earlier.Pair(then, row(seconds={"kernel": 3.0, "torch.nn": 10.0}))
    assert (pair.ratio, pair.of("torch.nn"), pair.beside) == (3.0, 2.0, 1.5)
    loop = earlier.Pair(then, row(seconds={"eager": 7.0}))
    assert (loop.ratio, loop.of("torch.nn"), loop.beside) == (7.0, None, None), "what the layer does by itself"
    assert earlier.Pair(then, row(failed={"kernel": "no"})).ratio is None


def test_the_settings_of_two_runs_are_paired_and_summed_up():
    one, other = row(seconds={"kernel": 1.0}), row("gru", seconds={"kernel": 1.0})
    then = run_of(one, other, row("rnn", seconds={"kernel": 1.0}), row("gru", seconds={"kernel": 9.0}, threads=2))
    now = run_of(row("gru", seconds={"kernel": 8.0}), row(seconds={"kernel": 0.5}), row(seconds={}, sweep="T"))
    assert [(pair.now.cell, pair.ratio) for pair in earlier.pairs(then, now)] == [("gru", 8.0), ("lstm", 0.5)]
    written = earlier.to_dict(then, now)
    assert (written["ratio"], written["beside"]) == (pytest.approx(2.0), None)
    assert json.loads(json.dumps(written))["products"] == {"1": 1.0}


def shown(then, now, capsys):
    report.show_against(then, now, report.Console(width=200))
    return capsys.readouterr().out


def test_what_else_has_changed_between_two_runs_is_told(capsys):
    here = Conditions("Model 1", 2, "AVX2", "2.13.0")
    then = run_of(row(seconds={"kernel": 2.0}), conditions=here)
    same = shown(then, run_of(row(seconds={"kernel": 1.0}), conditions=here), capsys)
    assert "As it was: the machine (2 x Model 1, AVX2), PyTorch (2.13.0), the numbers of threads" in same
    assert "1.00 times as fast" in same
    assert "geometric mean" not in same, "of one setting"
    elsewhere = replace(here, processor="Model 9", vectors="AVX512")
    slower = replace(MACHINE, products={"slow": 1e8})
    other = shown(then, run_of(row(seconds={"eager": 1.0}), conditions=elsewhere, machines=[slower]), capsys)
    assert "Not as it was: the processor, Model 1 then, Model 9 now\n" in other
    assert "Not as it was: the vector instructions, AVX2 then, AVX512 now\n" in other
    assert "the ratios are not those of the code alone" in other
    assert "0.10 times as fast" in other
    assert "| 1,000 (its loop) |     0.50 |" in other
    assert set(report.CONDITIONS) == set(asdict(here))


def test_the_name_of_the_processor(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Model 9 @ 3 GHz\n")
    assert processor_name(tmp_path / "cpuinfo") == "Model 9 @ 3 GHz"
    assert processor_name(tmp_path / "none")


@slow
def test_the_command_measures_again_and_compares(tmp_path):
    done(*TINY, "--against", "torch.nn", "--json", "times.json", cwd=tmp_path)
    again = ["bench", "--seconds", "0", "--against-file", "times.json"]
    table = done(*again, cwd=tmp_path).stdout.partition("Against the earlier run")[2]
    assert "As it was: the machine" in table
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    assert [[word.strip() for word in words[1:5]] for words in (rows[0], *rows[2:4])] == [
        ["cell", "mode", "threads", "T, B, I, H"],
        ["lstm", "training", "1", "3, 2, 4, 5"],
        ["lstm", "inference", "1", "3, 2, 4, 5"],
    ]
    values = json.loads(done(*again, "--mode", "training", "--json", "-", cwd=tmp_path).stdout)
    (row,) = values["rows"]
    then = json.loads((tmp_path / "times.json").read_text())["rows"][0]
    assert values["against_file"]["ratio"] == pytest.approx(row["seconds"]["kernel"] / then["seconds"]["kernel"])
    assert values["against_file"]["beside"] > 0


@pytest.mark.parametrize(
    ("text", "words", "cause"),
    [
        (None, [], "times.json cannot be read: No such file"),
        ("no", [], "is not JSON: name one that conveyor bench --json wrote"),
        ("\udcff", [], "is not JSON"),
        ("[1]", [], "is no file of conveyor bench: name one that"),
        ('{"rows": []}', [], "is of another version of conveyor bench (format none; this one reads 1)"),
        ({"format": 99}, [], "is of another version of conveyor bench (format 99; this one reads 1)"),
        ({"rows": [{"cell": "lstm"}]}, [], "is no file of conveyor bench"),
        ({"torch": None, "machines": [1]}, [], "is no file of conveyor bench"),
        ({"rows": []}, [], "holds no times"),
        ({}, ["--cell", "gru"], "--against-file has no gru, training, 10, 4, 3, 8 with --threads 1"),
        ({}, ["--shape", "1,2,3,4"], "--against-file has no lstm, training, 1, 2, 3, 4"),
        ({}, ["--mode", "both"], "--against-file has no lstm, inference, 10, 4, 3, 8"),
    ],
    ids=[
        "no file",
        "no JSON",
        "no text",
        "a list",
        "no format",
        "another format",
        "a row alone",
        "machines",
        "no rows",
        "another cell",
        "another shape",
        "another mode",
    ],
)
def test_a_file_that_cannot_be_compared_with_is_told_in_one_line(text, words, cause, tmp_path, monkeypatch, capfd):
    file = tmp_path / "times.json"
    if isinstance(text, dict):
        text = json.dumps(run_of(row(seconds={"kernel": 1.0})).to_dict() | text)
    if text is not None:
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "argv", ["conveyor", "bench", "--against-file", str(file), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert cause in said
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, "1", None])
def test_a_file_whose_times_are_none_is_refused(seconds, tmp_path):
    values = run_of(row(seconds={"kernel": 1.0})).to_dict()
    values["rows"][0]["seconds"]["kernel"] = seconds
    (tmp_path / "times.json").write_text(json.dumps(values))
    with pytest.raises(BadInput, match="is no file of conveyor bench"):
        earlier.read(tmp_path / "times.json")


@slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal")
def test_ctrl_c_shows_what_there_is(tmp_path):
    line = command("bench", "--cell", "rnn", "--shape", "2,1,3,4", "--shape", "3,1,3,4", "--seconds", "0.1")
    line += ["--against", "eager", "--mode", "inference", "--threads", "1"]
    with begun([*line, "--shape", "4,1,3,4", "--seconds", "60"], tmp_path) as process:
        wait(process, lambda: "1 of 3" in process.stderr.readline())
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "incomplete" in out
    assert "Traceback" not in error


CELLS = """
import torch
from conveyor import Cell

class Gated(Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, gate=hidden_size)
        self.hidden = self.affine("h", "x")

    def step(self, x, h, gate, t):
        print("not a line of JSON")
        return gate / (1 + t) * torch.tanh(self.hidden(h, x))

class Unknown(Gated):
    def step(self, x, h, gate, other):
        return h

class Broken(Gated):
    def step(self, x, h, gate):
        return h + torch.zeros(7)
"""


@slow
def test_a_cell_of_ones_own_with_a_further_stream(tmp_path):
    (tmp_path / "cells.py").write_text(CELLS)
    result = done(*TINY, "--cell", "cells.py:Gated", "--json", "-", cwd=tmp_path)
    assert [row["failed"].get("eager") for row in json.loads(result.stdout)["rows"]] == [None, None]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--cell", "lstn"], "did you mean lstm"),
        (["--cell", "cells.py:Unknown"], "the width of other is not known"),
        (["--cell", "cells.py:Broken"], "does not run"),
        (["--shape", "1,2,3"], "T,B,I,H"),
        (["--mode", "neither"], "--mode cannot be 'neither'"),
        (["--against", "tensorflow"], "--against cannot be"),
        (["--threads", "0"], "--threads"),
        (["--threads", "99999"], "processors"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "inf"], "--seconds"),
        (["--json", "missing/times.json"], "folder missing does not exist"),
        (["--plot", "times.doc"], "must end with"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(words, cause, tmp_path, monkeypatch, capfd):
    (tmp_path / "cells.py").write_text(CELLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["conveyor", "bench", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert cause in said
    assert len(said.splitlines()) == 1, said


def test_a_process_that_ends_too_early_is_bad_input(monkeypatch):
    monkeypatch.setattr(suite.sys, "executable", "/bin/false")
    with pytest.raises(BadInput, match="smaller shapes"):
        suite.run(Plan(shapes=()), Results(), note=print)


@slow
@pytest.mark.parametrize(
    ("name", "library", "cells"),
    [
        ("jax", "jax", ["rnn", "lstm", "lstm-peephole", "gru"]),
        ("onnxruntime", "onnxruntime", ["lstm", "lstm-peephole", "lstm-coupled"]),
    ],
)
def test_other_libraries_give_the_same(name, library, cells, tmp_path):
    """In a process of their own, which may be left with threads."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    words = [word for cell in cells for word in ("--cell", cell)]
    words += ["--mode", "inference"] * (name == "onnxruntime")
    values = json.loads(done(*TINY, *words, "--against", name, "--json", "-", cwd=tmp_path).stdout)
    for row in values["rows"]:
        assert row["failed"] == {}
        assert row["errors"][name] < 1e-6
