"""What a person has is kept: an earlier run, files of their own, a run that was moved or is in use."""

import fcntl
import os
from pathlib import Path

import pytest

from command import SMALL, TEXT, checkpoint, conveyor, done, flags, metrics, snapshot
from conveyor import zoo
from conveyor.language import LanguageModel
from conveyor.language.settings import Settings
from conveyor.training.train import learning_rate, optimiser

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
    assert result.stderr.splitlines()[-1].startswith("conveyor: run/checkpoint.pt: File too large")
    assert snapshot(home) == before


@pytest.mark.parametrize("name", ["text.txt", "loss.png", "metrics.jsonl"])
def test_a_file_of_ones_own_is_not_written_over(name: str, home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine" / name).write_text("my novel")
    before = snapshot(home)
    result = conveyor(*TRAIN, "--out", "mine", cwd=home)
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
        result = conveyor(*words, cwd=home)
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
    result = conveyor("train", "--resume", "run", cwd=home)
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
