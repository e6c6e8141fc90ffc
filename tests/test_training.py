"""Training, evaluating and generating, as a person does it: with the command, in processes of their own."""

import json
import math
import random
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from command import (
    SMALL,
    TEXT,
    begun,
    checkpoint,
    command,
    conveyor,
    done,
    flags,
    lines,
    metrics,
    model,
    same,
    snapshot,
    wait,
)
from conveyor.language.settings import Settings
from conveyor.zoo import CELLS
from tiers import slow

# Everything that draws random numbers or carries something on is at work.
ROUGH = SMALL + flags(
    learn_initial_state=True,
    dropout=0.2,
    input_dropout=0.1,
    recurrent_dropout=0.1,
    zoneout=0.1,
    window=8,
    steps=160,
    evaluate_every=40,
    save_every=0.05,
)
TWO = SMALL + flags(batch_size=2, steps=120, evaluate_every=40)

WORDY = "Ünlike the cat, the dog sat; on mats. " * 200  # without a new line, from which to write on
OWN_CELL = """
import torch
from conveyor import Cell

class Leaky(Cell):
    state = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        return 0.5 * h + 0.5 * torch.tanh(self.candidate(h, x))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    done("train", "text.txt", *SMALL, "--steps", 200, "--lr", 0.02, "--out", "trained", cwd=home)
    return home / "trained"


@pytest.fixture(scope="module")
def uninterrupted(home: Path) -> Path:
    done("train", "text.txt", *ROUGH, "--out", "uninterrupted", cwd=home)
    return home / "uninterrupted"


def together(*args: Any) -> list[Any]:
    """The command in two processes that train together."""
    return twice(*command(*args)[1:])


def twice(*args: Any) -> list[Any]:
    """Python in two processes that find each other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    launch = f"-m torch.distributed.run --nproc-per-node=2 --master-addr=127.0.0.1 --master-port={port}".split()
    return [sys.executable, *launch, *args]


def together_done(*args: Any, cwd: Path) -> None:
    with begun(together(*args), cwd) as process:
        _, told = process.communicate()
        assert process.returncode == 0, told


@pytest.fixture(scope="module")
def pair(home: Path) -> Path:
    together_done("train", "text.txt", *TWO, "--out", "pair", cwd=home)
    return home / "pair"


def assert_equal_runs(one: Path, other: Path) -> None:
    """Model, checkpoint and metrics are the same, bit for bit; the seconds alone may differ."""
    assert metrics(one) == metrics(other)
    assert same(checkpoint(one), checkpoint(other))
    assert model(one) == model(other)


def test_a_run_leaves_its_files(trained: Path) -> None:
    files = {path.name for path in trained.iterdir()}
    assert files == {"config.toml", "metrics.jsonl", "model.safetensors", "checkpoint.pt", "loss.png"}
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert checkpoint(trained)["step"] == 200
    assert [line["step"] for line in metrics(trained) if "loss" in line] == list(range(10, 201, 10))


def test_tensorboard_has_the_metrics_too(home: Path, tmp_path: Path) -> None:
    done("train", home / "text.txt", *SMALL, "--steps", 20, "--tensorboard", "--out", "run", cwd=tmp_path)
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    data = events.read_bytes()
    assert all(name in data for name in (b"loss", b"lr", b"norm", b"held_out_loss"))


def test_the_loss_falls(trained: Path) -> None:
    held_out = [line["held_out_loss"] for line in metrics(trained) if "held_out_loss" in line]
    assert held_out[-1] < 0.25 * math.log(len(set(TEXT)))
    losses = [line["loss"] for line in metrics(trained) if "loss" in line]
    assert losses[-1] < 0.25 * losses[0]


def test_the_written_configuration_gives_the_run_again(uninterrupted: Path, tmp_path: Path) -> None:
    done("train", "--config", uninterrupted / "config.toml", "--out", "again", cwd=tmp_path)
    assert_equal_runs(tmp_path / "again", uninterrupted)


def test_another_seed_gives_another_model(uninterrupted: Path, tmp_path: Path) -> None:
    other = ["--config", uninterrupted / "config.toml", "--seed", 1, "--steps", 10, "--out", "other"]
    done("train", *other, cwd=tmp_path)
    assert metrics(tmp_path / "other")[0]["loss"] != metrics(uninterrupted)[0]["loss"]


@slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_resumes_bit_for_bit(seed: int, home: Path, uninterrupted: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    run, kept = tmp_path / "run", []
    for moment in sorted(chance.sample(range(lines(uninterrupted) * 3 // 4), chance.choice([1, 2]))):
        start = ["--resume", run] if kept else [home / "text.txt", *ROUGH, "--out", run]
        before = saved(run)
        with begun(command("train", *start), tmp_path) as process:
            wait(process, lambda before=before, moment=moment: saved(run) > before and lines(run) >= moment)
            time.sleep(chance.uniform(0, 0.06))
            process.kill()
        kept.append(checkpoint(run)["step"])
    done("train", "--resume", run, cwd=tmp_path)
    assert min(kept) < checkpoint(uninterrupted)["step"], "no kill came in time"
    assert_equal_runs(run, uninterrupted)
    assert {path.name for path in run.iterdir()} == {path.name for path in uninterrupted.iterdir()}


def saved(run: Path) -> int:
    """When the run's checkpoint was last written."""
    path = run / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


@slow
@pytest.mark.parametrize(
    ("sent", "source", "out"),
    [
        (signal.SIGINT, "-", "run"),
        (signal.SIGTERM, "texts", "texts/run"),
    ],
    ids=["standard input", "a folder around the run"],
)
def test_an_interrupted_run_says_how_to_go_on_and_does(
    sent: signal.Signals, source: str, out: str, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / out
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "text.txt").write_text(TEXT)
    started = command("train", source, *ROUGH, "--save-every", 1000, "--out", out)
    with begun(started, tmp_path, TEXT if source == "-" else "") as process:
        wait(process, lambda: lines(run) >= 5)
        process.send_signal(sent)
        _, told = process.communicate()
    assert process.returncode == 128 + sent
    assert f"conveyor train --resume {out}" in told.splitlines()[-1]
    (step,) = re.findall(r"stopped at step (\d+) and saved", told)
    assert checkpoint(run)["step"] == int(step) < 160
    assert max(line["step"] for line in metrics(run)) == int(step) // 10 * 10  # every tenth is logged

    done("train", "--resume", out, cwd=tmp_path)
    assert model(run) == model(uninterrupted)
    assert metrics(run) == metrics(uninterrupted)


def test_a_finished_run_resumed_says_so_and_stays_as_it_is(trained: Path) -> None:
    before = model(trained), metrics(trained), checkpoint(trained)
    result = done("train", "--resume", trained, cwd=trained.parent)
    assert "done: 200 steps" in result.stderr
    assert same((model(trained), metrics(trained), checkpoint(trained)), before)


@slow
def test_two_processes_train_as_one_with_twice_the_batch(pair: Path, home: Path, tmp_path: Path) -> None:
    done("train", home / "text.txt", *TWO, "--batch-size", 4, "--out", "one", cwd=tmp_path)
    one, two = metrics(tmp_path / "one"), metrics(pair)
    assert [line.keys() for line in one] == [line.keys() for line in two]
    for line, other in zip(one, two, strict=True):
        assert list(other.values()) == pytest.approx(list(line.values()), rel=1e-5)
    torch.testing.assert_close(checkpoint(pair)["model"], checkpoint(tmp_path / "one")["model"], rtol=1e-4, atol=1e-6)


@slow
def test_two_processes_resume_together_bit_for_bit(pair: Path, home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with begun(together("train", home / "text.txt", *TWO, "--out", run), tmp_path) as process:
        wait(process, lambda: lines(run) >= 2)
        process.terminate()
        process.communicate()
    assert checkpoint(run)["step"] < 120
    together_done("train", "--resume", run, cwd=tmp_path)
    assert_equal_runs(run, pair)


@slow
def test_one_process_cannot_resume_what_two_began(pair: Path) -> None:
    before = snapshot(pair)
    result = conveyor("train", "--resume", pair, cwd=pair.parent)
    assert result.returncode == 2
    assert "2 processes" in result.stderr.splitlines()[-1]
    assert snapshot(pair) == before


# A group that something still holds has threads, and a thread that outlives Python aborts the process.
JOIN_AND_LEAVE = """
import weakref
import torch
import torch.distributed as dist
from conveyor.training.parallel import join

with join("cpu"):
    group = weakref.ref(dist.group.WORLD)
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.sum().backward()
    torch.optim.AdamW([parameter]).step()
assert group() is None, "the group is still held"
"""


@slow
def test_nothing_holds_the_group_when_training_together_is_over(tmp_path: Path) -> None:
    (tmp_path / "leave.py").write_text(JOIN_AND_LEAVE)
    with begun(twice("leave.py"), tmp_path) as process:
        _, told = process.communicate()
        assert process.returncode == 0, told


@pytest.mark.parametrize("tokens", ["word", "byte"])
def test_words_and_bytes_train_evaluate_and_generate(tokens: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(WORDY, encoding="utf-8")
    done("train", "text.txt", *SMALL, "--tokens", tokens, "--steps", 20, "--out", "run", cwd=tmp_path)
    figures = json.loads(done("evaluate", "run", "--json", cwd=tmp_path).stdout)
    ratio = figures["tokens"] / figures["characters"]
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["bits_per_character"] == pytest.approx(figures["loss"] * ratio / math.log(2))
    assert {"word": ratio < 0.5, "byte": ratio > 1}[tokens]
    written = done("generate", "run", "--length", 30, cwd=tmp_path)
    assert len(written.stdout) > 10  # of 30 bytes, several may make one character
    assert "30 tokens generated" in written.stderr


def test_ones_own_cell_trains_and_evaluates_from_anywhere(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "own.py").write_text(OWN_CELL)
    cell = ["--cell", "own.py:Leaky", "--steps", 10, "--out", "../run"]
    done("train", home / "text.txt", *SMALL, *cell, cwd=tmp_path / "cells")
    done("evaluate", tmp_path / "run", cwd=home)


def test_a_flag_goes_before_a_file_and_a_file_before_the_defaults(home: Path, tmp_path: Path) -> None:
    kept = {"text": [str(home / "text.txt")], "steps": 3, "device": "cpu"}
    file = different(0.25, 3, True) | {"cell": "gru", "tokens": "byte"} | kept
    other = different(0.125, 4, False) | {"cell": "rnn", "tokens": "word"}
    given = {name: value for name, value in list(other.items())[::2] if name not in kept}
    (tmp_path / "file.toml").write_text(Settings.of(file).to_toml())
    done("train", "--config", "file.toml", "--out", "run", *flags(**given), cwd=tmp_path)
    assert Settings.read(tmp_path / "run" / "config.toml") == Settings.of(file | given)


def different(number: float, whole: int, truth: bool) -> dict[str, Any]:
    """These values for all settings of their types."""
    kinds: dict[type, Any] = {float: number, int: whole, bool: truth}
    return {name: kinds[type(value)] for name, value in vars(Settings()).items() if type(value) in kinds}


def test_generating_with_a_seed_gives_the_same_text(trained: Path) -> None:
    arguments = ["--length", 60, "--temperature", 2, "--seed", 1]
    first, again = (done("generate", trained, *arguments, cwd=trained.parent).stdout for _ in range(2))
    assert first == again


def test_generating_goes_on_from_the_prompt_and_tells_its_speed(trained: Path) -> None:
    arguments = ["--prompt", "the cat ", "--length", 20, "--temperature", 0]
    written = done("generate", trained, *arguments, cwd=trained.parent)
    assert written.stdout == "the cat sat on the mat.\nthe \n"
    assert re.search(r"20 tokens generated, [\d,]+ tokens/s", written.stderr)


def test_generating_into_a_reader_that_leaves_ends_quietly(trained: Path) -> None:
    with begun(command("generate", trained, "--length", 10**9), trained.parent) as process:
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        told = process.stderr.read()
        process.wait()
    assert told == ""
    assert process.returncode == 0


@slow
def test_generating_that_is_interrupted_ends_quietly(trained: Path) -> None:
    with begun(command("generate", trained, "--length", 10**9), trained.parent) as process:
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert "Traceback" not in told
    assert process.returncode == 130


def test_an_evaluation_gives_the_figure_of_the_training(trained: Path) -> None:
    figures = json.loads(done("evaluate", trained, "--json", cwd=trained.parent).stdout)
    assert figures["tokens"] == figures["characters"] == len(TEXT) // 10 - 1
    best = min(line["held_out_loss"] for line in metrics(trained) if "held_out_loss" in line)
    assert figures["loss"] == pytest.approx(best)


def test_an_evaluation_reads_any_text(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("the cat sat on the mat.\n" * 2)
    shown = done("evaluate", trained, "two.txt", cwd=tmp_path)
    assert re.match(r"loss +[\d.]+ nats a token\nbits per character +[\d.]+\nperplexity +[\d.]+\n$", shown.stdout)
    assert shown.stderr.startswith("47 tokens")


def test_the_cells_are_listed(tmp_path: Path) -> None:
    listed = json.loads(done("cells", "--json", cwd=tmp_path).stdout)
    assert {cell["name"]: cell["class"] for cell in listed} == {name: cell.__name__ for name, cell in CELLS.items()}
    shown = done("cells", cwd=tmp_path)
    assert [line.split(maxsplit=1) for line in shown.stdout.splitlines()] == [[c["name"], c["about"]] for c in listed]
    assert shown.stderr == ""
