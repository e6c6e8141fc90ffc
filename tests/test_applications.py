"""Every application: it trains, goes on as if never stopped, leaves its pictures, and refuses what cannot be."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from command import checkpoint, conveyor, done, flags, metrics, model, same, snapshot
from conveyor.applications import APPLICATIONS, applications
from conveyor.errors import BadInput
from conveyor.training import train
from conveyor.training.parallel import Group
from conveyor.training.progress import Progress

# So small that a step takes no time, but with everything in it.
TINY = {
    "attend": {"attention": "hard", "hidden_size": 6, "annotation_size": 4, "held_out": 6, "batch_size": 2, "beam": 2},
    "draw": {"attention": False, "glimpses": 2, "hidden_size": 6, "latent_size": 2, "samples": 2, "batch_size": 2},
    "storn": {"hidden_size": 6, "latent_size": 3, "samples": 2, "batch_size": 2},
    "translate": {"data": "numbers", "hidden_size": 6, "embedding_size": 4, "held_out": 6, "batch_size": 2, "beam": 2},
    "vrnn": {"hidden_size": 6, "latent_size": 3, "feature_size": 4, "samples": 2, "batch_size": 2},
}
STEPS = 4


class Stops(Progress):
    """Interrupts the training after the second step."""

    def stepped(self, step, loss, amount):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def settings_of(name):
    kind = applications()[name]
    return kind.settings_type(steps=STEPS, evaluate_every=2, device="cpu", **TINY[name])


@pytest.fixture(scope="module", params=APPLICATIONS)
def ran(request, tmp_path_factory):
    """An application's name, what its training told at the end, and its folder."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    result = train.start(applications()[request.param], settings_of(request.param), folder, Progress())
    return request.param, result, folder


def test_it_leaves_what_it_has_learnt_and_says_so(ran):
    _, result, folder = ran
    assert (result.step, result.signal) == (STEPS, None)
    assert result.summary.strip()
    made = {path.name for path in folder.iterdir()}
    assert made == {"config.toml", "metrics.jsonl", "model.safetensors", "checkpoint.pt", "loss.png", "results"}
    pictures = list((folder / "results").glob("*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert [line["step"] for line in metrics(folder) if "held_out_loss" in line] == [2, 4]


def test_interrupted_and_gone_on_with_it_is_the_same_to_the_bit(ran, tmp_path):
    name, _, whole = ran
    kind, folder = applications()[name], tmp_path / "run"
    stopped = train.start(kind, settings_of(name), folder, Stops())
    assert (stopped.step, stopped.signal) == (2, signal.SIGINT)
    before = {path.name for path in folder.iterdir()}
    train.resume(kind, folder, Progress())
    assert metrics(folder) == metrics(whole)
    assert same(checkpoint(folder), checkpoint(whole))
    assert model(folder) == model(whole)
    assert before == {path.name for path in whole.iterdir()} - {"results"}
    assert {path.name for path in (folder / "results").iterdir()} == {
        path.name for path in (whole / "results").iterdir()
    }


def test_each_is_a_command_that_explains_itself(tmp_path: Path):
    shown = done("run", "--help", cwd=tmp_path).stdout
    for name, kind in applications().items():
        assert name in shown
        assert kind.__doc__


def test_the_command_trains_and_refuses(tmp_path: Path):
    small = flags(**TINY["draw"], steps=1)
    (tmp_path / "mine" / "results").mkdir(parents=True)
    done("run", "draw", *small, "--out", "run", cwd=tmp_path)
    before = snapshot(tmp_path)
    for wrong, words in [
        (["run", "draw", *small, "--out", "run"], "already holds a run"),
        (["run", "draw", *small, "--out", "mine"], "already holds results"),
        (["run", "draw", "--glimpses", 0], "--glimpses must be at least 1"),
        (["run", "drow"], "drow"),
        (["run", "vrnn", "--resume", "run"], "conveyor run draw made, not conveyor run vrnn"),
        (["train", "--resume", "run"], "conveyor run draw made, not conveyor train"),
        (["generate", "run"], "conveyor run draw made, not conveyor train"),
    ]:
        result = conveyor(*wrong, cwd=tmp_path)
        assert result.returncode == 2, result.stderr
        assert words in result.stderr.splitlines()[-1]
        assert snapshot(tmp_path) == before


def test_one_process_alone_trains_it(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "join", lambda device: nullcontext(Group(0, 2, torch.device(device))))
    with pytest.raises(BadInput, match="conveyor run draw does not go over several processes"):
        train.start(applications()["draw"], settings_of("draw"), tmp_path / "run", Progress())


def test_a_missing_package_is_told_before_anything_is_done(tmp_path):
    class Needy(applications()["draw"]):
        needs = ("no_such_package",)

    with pytest.raises(
        BadInput, match="conveyor run draw needs the package no_such_package: pip install no_such_package"
    ):
        train.start(Needy, settings_of("draw"), tmp_path / "run", Progress())
    assert not list(tmp_path.iterdir())


def test_a_run_written_over_keeps_nothing_of_the_one_before(tmp_path):
    for force in (False, True):
        train.start(applications()["draw"], settings_of("draw"), tmp_path / "run", Progress(), force)
        old = tmp_path / "run" / "results" / "old.png"
        assert not old.exists()
        old.touch()
