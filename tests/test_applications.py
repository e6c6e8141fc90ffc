"""Every application: it trains, goes on as if never stopped, leaves its pictures, and refuses what cannot be."""

import math
import os
import re
import signal
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from command import begun, checkpoint, command, done, flags, lines, metrics, model, same, snapshot, wait
from conveyor import cli
from conveyor.applications import APPLICATIONS, applications
from conveyor.errors import BadInput
from conveyor.training import train
from conveyor.training.parallel import Group
from conveyor.training.progress import Progress
from conveyor.training.settings import flag
from tiers import slow

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
    assert without_pictures(folder) == without_pictures(whole)


def without_pictures(folder):
    """The results as bytes; a picture's may differ by the libraries that draw it."""
    return {path.name: path.read_bytes() for path in (folder / "results").iterdir() if path.suffix != ".png"}


@slow
def test_killed_while_it_trains_it_is_the_same_to_the_bit(tmp_path: Path):
    settings = replace(settings_of("draw"), steps=150, evaluate_every=7, save_every=0.0)
    (tmp_path / "config.toml").write_text(settings.to_toml())
    with begun(command("run", "draw", "--config", "config.toml", "--out", "killed"), tmp_path) as process:
        wait(process, lambda: lines(tmp_path / "killed") >= 4)
        process.kill()
    killed = checkpoint(tmp_path / "killed")["step"]
    assert 0 < killed < 150
    done("run", "draw", "--resume", "killed", cwd=tmp_path)
    train.start(applications()["draw"], settings, tmp_path / "whole", Progress())
    one, other = tmp_path / "killed", tmp_path / "whole"
    assert metrics(one) == metrics(other)
    assert same(checkpoint(one), checkpoint(other))
    assert model(one) == model(other)
    assert without_pictures(one) == without_pictures(other)


def said(capfd, monkeypatch, *args):
    """What the command says, in this process, and its code."""
    monkeypatch.setattr("sys.argv", ["conveyor", *args])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    return end.value.code, out + err


def test_each_is_a_command_that_explains_itself(capfd, monkeypatch):
    code, shown = said(capfd, monkeypatch, "run")
    assert not code
    for name, kind in applications().items():
        assert name in shown
        assert kind.__doc__
        code, told = said(capfd, monkeypatch, "run", name, "--help")
        told = " ".join(told.split())
        assert not code
        assert kind.__doc__ in told
        for setting in fields(kind.settings_type):
            assert re.search(rf"(?<!\S){re.escape(flag(setting.name))}\b", told), f"{name} {setting.name}"
            assert setting.metadata["meaning"] in told, f"{name} {setting.name}"


def numbers_of(kind):
    return [one for one in fields(kind.settings_type) if type(one.default) in (int, float)]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_no_number_out_of_bounds_is_taken(name):
    kind = applications()[name]
    for one in numbers_of(kind):
        bounds = one.metadata
        assert bounds["low"] is not None or bounds["above"] is not None, f"{name} {one.name} has no lower bound"
        beyond = [-1, bounds["low"] - 1] if bounds["above"] is None else [bounds["above"]]
        beyond += [] if bounds["high"] is None else [2 * bounds["high"] + 1]
        beyond += [math.nan, math.inf] if type(one.default) is float else [2**63]
        for value in beyond:
            with pytest.raises(BadInput, match=flag(one.name)):
                kind.settings_type.of({one.name: type(one.default)(value)})


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("size", [10**12, 2**62])
def test_a_network_that_does_not_fit_is_told(name, size, tmp_path):
    kind, tiny = applications()[name], settings_of(name)
    with pytest.raises(BadInput, match="not enough memory for these sizes"):
        train.start(kind, replace(tiny, hidden_size=size), tmp_path / "run", Progress())
    assert not list(tmp_path.iterdir())


def test_a_size_that_a_network_cannot_have_is_told(tmp_path):
    odd = replace(settings_of("translate"), hidden_size=7)
    with pytest.raises(BadInput, match=r"conveyor run translate cannot run with these settings: .*7"):
        train.start(applications()["translate"], odd, tmp_path / "run", Progress())
    assert not list(tmp_path.iterdir())


def test_the_command_trains_and_refuses(tmp_path: Path, monkeypatch, capfd):
    small = flags(**TINY["draw"], steps=1)
    (tmp_path / "mine" / "results").mkdir(parents=True)
    done("run", "draw", *small, "--out", "run", cwd=tmp_path)
    before = snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    for wrong, words in [
        (["run", "draw", *small, "--out", "run"], "already holds a run"),
        (["run", "draw", *small, "--out", "mine"], "already holds results"),
        (["run", "draw", "--glimpses", 0], "--glimpses must be at least 1"),
        (["run", "drow"], "drow"),
        (["run", "vrnn", "--resume", "run"], "made by conveyor run draw, not by conveyor run vrnn"),
        (["train", "--resume", "run"], "made by conveyor run draw, not by conveyor train"),
        (["generate", "run"], "made by conveyor run draw, not by conveyor train"),
    ]:
        code, shown = said(capfd, monkeypatch, *map(str, wrong))
        assert code == 2, shown
        assert words in shown.splitlines()[-1]
        assert snapshot(tmp_path) == before


def test_one_process_alone_trains_it(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "join", lambda device: nullcontext(Group(0, 2, torch.device(device))))
    with pytest.raises(BadInput, match="conveyor run draw does not support several processes"):
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
    folder = tmp_path / "run"
    train.start(applications()["draw"], settings_of("draw"), folder, Progress())
    made = {path.name for path in (folder / "results").iterdir()}
    train.start(applications()["draw"], settings_of("draw"), folder, Stops(), force=True)
    assert ".written" in made
    assert not list((folder / "results").iterdir())
