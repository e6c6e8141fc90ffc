"""What a person has is kept: an earlier run, files of their own, a run that was moved or is in use."""

import fcntl
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from command import SMALL, TEXT, called, checkpoint, conveyor, done, flags, metrics, same, snapshot
from conveyor import zoo
from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from conveyor.language.settings import Settings
from conveyor.training import train
from conveyor.training.interrupt import signals
from conveyor.training.job import TrainingJob
from conveyor.training.progress import Lines, Progress
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings, setting
from conveyor.training.train import Result, learning_rate, optimiser

TRAIN = ["train", "text.txt", *SMALL, "--steps", 10]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def test_a_run_that_cannot_begin_costs_none_that_was_there(home: Path) -> None:
    done(*TRAIN, "--out", "run", cwd=home)
    before = snapshot(home)
    result = conveyor(*TRAIN, "--hidden-size", 128, "--out", "run", "--force", cwd=home, file_limit=50_000)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("conveyor: run/model.safetensors: File too large")
    assert snapshot(home) == before


@pytest.mark.parametrize("name", ["text.txt", "loss.png", "metrics.jsonl"])
def test_a_file_of_ones_own_is_not_written_over(name: str, home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine" / name).write_text("my novel")
    before = snapshot(home)
    result = called(*TRAIN, "--out", "mine", cwd=home)
    assert result.returncode == 2
    assert name in result.stderr
    assert snapshot(home) == before


def test_a_run_from_standard_input_can_be_moved(home: Path) -> None:
    done("train", "-", *SMALL, "--steps", 10, "--out", "run", cwd=home, stdin=TEXT)
    (home / "run").rename(home / "moved")
    done("evaluate", "moved", cwd=home)
    done("train", "--resume", "moved", cwd=home)


@pytest.mark.parametrize("words", [["train", "--resume", "run"], [*TRAIN, "--out", "run", "--force"]])
def test_a_run_in_use_is_not_trained_twice(words: list[str], home: Path) -> None:
    done(*TRAIN, "--out", "run", cwd=home)
    before = snapshot(home)
    folder = os.open(home / "run", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        result = called(*words, cwd=home)
    finally:
        os.close(folder)
    assert result.returncode == 2
    assert "another process is training run" in result.stderr.splitlines()[-1]
    assert snapshot(home) == before


def test_what_does_not_change_the_result_may_change_in_a_run_that_goes_on(home: Path) -> None:
    done(*TRAIN, "--out", "run", cwd=home)
    config = home / "run" / "config.toml"
    config.write_text(config.read_text().replace("save_every = 60.0", "save_every = 5.0"))
    done("train", "--resume", "run", cwd=home)
    assert checkpoint(home / "run")["step"] == 10


def test_a_cell_that_has_changed_does_not_go_on_as_if_it_had_not(home: Path) -> None:
    cell = "from conveyor.zoo import LSTM\n\nclass Mine(LSTM):\n    pass\n"
    (home / "mine.py").write_text(cell)
    done(*TRAIN, "--cell", "mine.py:Mine", "--out", "run", cwd=home)
    (home / "mine.py").write_text(cell + "    # another\n")
    result = called("train", "--resume", "run", cwd=home)
    assert result.returncode == 2
    assert "has changed since the checkpoint" in result.stderr


def test_the_last_step_is_logged_whatever_its_number(home: Path) -> None:
    done("train", "text.txt", *SMALL, "--steps", 3, "--out", "run", cwd=home)
    assert [line["step"] for line in metrics(home / "run") if "loss" in line] == [3]


def test_an_unknown_word_counts_with_its_own_characters(home: Path) -> None:
    words = flags(tokens="word", vocabulary_size=3)
    done("train", "text.txt", *SMALL, *words, "--steps", 10, "--out", "run", cwd=home)
    result = done("evaluate", "run", "text.txt", cwd=home)
    assert "% of the words" in result.stdout
    figures = done("evaluate", "run", "text.txt", "--json", cwd=home).stdout
    assert f'"characters": {len(TEXT) - len("the")}' in figures


def test_weight_decay_is_for_matrices_and_the_rate_rises_within_a_tenth() -> None:
    model = LanguageModel(5, zoo.LSTM, 4, learn_initial_state=True)
    decayed, kept = optimiser(model, Settings()).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert kept["weight_decay"] == 0 < decayed["weight_decay"]
    assert all("bias" in names[id(p)] or "initial_state" in names[id(p)] for p in kept["params"])
    assert not any("bias" in names[id(p)] or "initial_state" in names[id(p)] for p in decayed["params"])
    short = Settings(steps=50, warmup=1000, lr=1.0)
    rates = [learning_rate(short, step) for step in range(50)]
    assert rates.index(max(rates)) == 4
    assert rates[-1] == pytest.approx(short.lr_end)


@dataclass(frozen=True)
class LineSettings(TrainingSettings):
    steps: int = setting(20, "steps", low=1)
    evaluate_every: int = setting(4, "steps between validations", low=1)
    line_width: int = setting(3, "of what is shown", low=1, results=True)
    shade: float = setting(0.5, "of what is shown", low=0, results=True)


class Line(TrainingJob):
    """The smallest job: a line through a point."""

    settings_type = LineSettings
    command = "conveyor run line"
    digest = "the point"

    def __init__(self, settings):
        self.settings, self.model = settings, nn.Linear(30, 1)

    def loss(self, step):
        return (self.model(torch.ones(30)) - 1).square().mean(), 1

    def measure(self):
        return {"error": self.loss(0)[0].item()}

    def results(self):
        return {"shown.txt": bytes(torch.zeros(self.settings.line_width).byte().tolist())}


class At(Progress):
    """Does something after a step."""

    def __init__(self, step: int, act: Callable[[], object]):
        super().__init__()
        self.at, self.act = step, act

    def stepped(self, step: int, loss: float, amount: int) -> None:
        if step == self.at:
            self.act()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def learn(run: Path, progress: Progress | None = None, force: bool = False, **more: Any) -> Result:
    return train.start(Line, LineSettings(**more), run, progress or Progress(), force)


def go_on(run: Path) -> Result:
    return train.resume(Line, run, Progress())


def test_what_is_too_much_for_the_results_can_be_made_smaller(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(
        BadInput,
        match=r"the model is trained and saved; make line_width smaller in .*, then conveyor run line --resume",
    ):
        learn(run, line_width=10**15)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(f"line_width = {10**15}", "line_width = 2"))
    go_on(run)
    assert (run / "results" / "shown.txt").read_bytes() == bytes(2)


def test_a_run_written_over_costs_nothing_of_ones_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    learn(run)
    (run / "results" / "mine.txt").write_text("my novel")
    stopped = learn(run, At(1, interrupt), force=True)
    assert stopped.step == 1
    assert {path.name for path in (run / "results").iterdir()} == {"mine.txt"}


@pytest.mark.parametrize("name", ["config.toml", "results/shown.txt", "model.safetensors", "text.txt"])
def test_no_force_is_enough_for_a_folder_without_a_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("width = 3\n")
    before = snapshot(tmp_path)
    with pytest.raises(BadInput, match=f"already holds {name.partition('/')[0]}, but no run"):
        learn(tmp_path / "mine", force=True)
    assert snapshot(tmp_path) == before


def other_model(path: Path, steps: int, seed: int) -> None:
    learn(path.parent.parent / "other", steps=steps, seed=seed)
    path.write_bytes((path.parent.parent / "other" / path.name).read_bytes())


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "half": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "of another run": lambda path: other_model(path, 4, 1),
    "of another form": lambda path: path.write_bytes(
        safetensors.torch.save({"a": torch.zeros(2)}, {"conveyor": '{"format": "conveyor run 1"}'})
    ),
}


@pytest.mark.parametrize("stop", [5, None], ids=["stopped", "done"])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_model_that_is_not_the_runs_own_is_told_at_once(
    spoil: Callable[[Path], object], stop: int | None, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    learn(run, At(stop, interrupt) if stop else None)
    spoil(run / "model.safetensors")
    before = snapshot(tmp_path)
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        go_on(run)
    assert snapshot(tmp_path) == before


def test_the_first_checkpoint_needs_as_much_room_as_the_last(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.pt"
    sizes = []
    learn(tmp_path / "run", At(1, lambda: sizes.append(path.stat().st_size)))
    assert sizes[0] == pytest.approx(path.stat().st_size, rel=0.02)


@pytest.mark.parametrize("at", [7, 8, 20])
def test_no_room_for_the_metrics_is_told_and_costs_nothing(at: int, tmp_path: Path) -> None:
    """Step 8 is validated, 10 logged, 20 both."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    metrics_file = run / "metrics.jsonl"

    def fill() -> None:
        kept.append(metrics_file.read_bytes())
        metrics_file.unlink()
        metrics_file.symlink_to("/dev/full")

    kept: list[bytes] = []
    with pytest.raises(OSError, match="No space left") as error:
        learn(run, At(at, fill))
    assert error.value.filename == str(metrics_file)
    metrics_file.unlink()
    metrics_file.write_bytes(kept[0])
    assert checkpoint(run)["step"] == max(at, 8)
    go_on(run)
    learn(whole)
    assert metrics(run) == metrics(whole)
    assert same(checkpoint(run), checkpoint(whole))
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_heard_but_not_a_hangup_that_is_ignored(number: signal.Signals) -> None:
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        before = signal.getsignal(number)
        with signals() as caught:
            os.kill(os.getpid(), number)
        assert caught == [number]
        assert signal.getsignal(number) == before
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with signals() as caught:  # as under nohup
            os.kill(os.getpid(), signal.SIGHUP)
        assert caught == []
    finally:
        signal.signal(signal.SIGHUP, hangup)


def fails(error: type[BaseException], words: str) -> Callable[..., None]:
    def make(*_: object) -> None:
        raise error(words)

    return make


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("odd"), "conveyor run line cannot run with these settings: odd"),
        (TypeError("odd"), "conveyor run line cannot run with these settings: odd"),
        (MemoryError("7 PiB"), r"not enough memory for these sizes: .*\(7 PiB\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory for these sizes"),
        (RuntimeError("Storage size calculation overflowed"), "not enough memory for these sizes"),
    ],
)
def test_a_job_that_cannot_be_made_is_bad_input(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "__init__", fails(type(error), str(error)))
    with pytest.raises(BadInput, match=told):
        learn(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_training_stopped_before_its_first_step_says_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "note", told.append)
    monkeypatch.setattr(Line, "__init__", fails(KeyboardInterrupt, ""))
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", progress)
    assert told == ["stopped before the first step; nothing was written"]


@pytest.mark.parametrize(
    "line", ['{"step": "a"}', '{"step": 1, "loss": "low"}', "[1]", "{", "[" * 10**5], ids=lambda line: line[:30]
)
def test_a_line_that_is_no_metrics_ends_them(line: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics.write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n{{"step": 3}}\n')
    assert run.history() == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_package_that_does_not_work_is_told_before_anything_is_done(
    broken: bool, resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resumed:
        learn(tmp_path / "run", At(1, interrupt))
    name = "broken_package" if broken else "no_such_package"
    (tmp_path / "broken_package.py").write_text("raise ImportError('libnone.so')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(Line, "needs", (name,))
    cure = "which cannot be imported .libnone.so.: pip install --force-reinstall" if broken else ": pip install"
    before = snapshot(tmp_path)
    with pytest.raises(BadInput, match=f"conveyor run line needs the package {name},? ?{cure} {name}"):
        go_on(tmp_path / "run") if resumed else learn(tmp_path / "run")
    assert snapshot(tmp_path) == before


def test_a_loss_is_told_without_a_unit_that_it_may_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Lines("image", seconds=0)
    shown.begin(0, 3)
    shown.stepped(1, 2.5, 4)
    assert re.fullmatch(r"step 1/3  loss 2\.500  [\d,]+ images/s\n", capsys.readouterr().err)
