"""Whatever is wrong with the input: one line says so, the code is 2, and nothing has changed."""

import gzip
import io
import math
import os
import pickle
import random
import re
import shutil
import socket
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command import (
    SMALL,
    TEXT,
    begun,
    called,
    checkpoint,
    command,
    conveyor,
    done,
    flags,
    lines,
    same,
    snapshot,
    tensors,
    wait,
)
from conveyor import cli
from conveyor.errors import BadInput
from conveyor.language.settings import Settings
from conveyor.tasks.digits import read as read_digits
from conveyor.tasks.mnist import mnist
from conveyor.training.run import Run
from conveyor.training.settings import flag
from tiers import slow

CELLS = """
import torch
from conveyor import Cell

class Plain(Cell):
    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h, C):
        h = torch.tanh(self.candidate(h, x))
        return h, C

class TooFew(Plain):
    def step(self, x, h, C):
        return h

class TooMany(Plain):
    def step(self, x, h, C):
        return h, C, C

class WrongShape(Plain):
    def step(self, x, h, C):
        return h[:, :1], C

class NoTensors(Plain):
    def step(self, x, h, C):
        return 1.0, 2.0

class Fails(Plain):
    def step(self, x, h, C):
        return h @ x, C

class CannotBeMade(Plain):
    def __init__(self, input_size, hidden_size):
        raise ValueError("no such size")

class NeedsMore(Plain):
    def step(self, x, h, C, attention):
        return h, C

class NoEquations(Cell):
    pass

class NaNLater(Plain):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.drift = torch.nn.Parameter(torch.zeros(hidden_size))

    def step(self, x, h, C):
        h, C = super().step(x, h, C)
        return torch.where(self.drift.abs() > 0.01, float("nan"), h + self.drift), C
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in it and with things that can be given wrongly."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(TEXT)
    (folder / "latin.txt").write_bytes("the café\n".encode("latin-1") * 100)
    (folder / "empty.txt").touch()
    (folder / "blank.txt").write_text(" \n\t\n" * 100)
    (folder / "short.txt").write_text("the cat")
    (folder / "one.txt").write_text("t")
    (folder / os.fsdecode(b"\xff.txt")).write_text(TEXT)
    (folder / "new.txt").write_text("the zebra quits\n")
    (folder / "nothing").mkdir()
    (folder / "prose").mkdir()
    (folder / "prose" / "a.txt").write_text(TEXT)
    (folder / "cells.py").write_text(CELLS)
    (folder / "raises.py").write_text("import nowhere_to_be_found\n")
    (folder / "syntax.py").write_text("class :\n")
    (folder / "unknown.toml").write_text("hiden_size = 3\n")
    (folder / "type.toml").write_text('steps = "many"\n')
    (folder / "broken.toml").write_text("steps = \n")
    (folder / "latin.toml").write_bytes(b'cell = "\xe9"\n')
    done("train", "text.txt", *SMALL, "--steps", 10, "--out", "run", cwd=folder)
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder, where a test can do damage."""
    return shutil.copytree(made, tmp_path / "home")


@pytest.fixture
def run(home: Path) -> Path:
    return home / "run"


Refused = Callable[..., str]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """The one line that the command says when it refuses; what was there before is still there, and nothing else.

    The command runs within this process, where an error that would have been a traceback fails the test.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(*args: Any, cwd: Path) -> str:
        before = snapshot(cwd)
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["conveyor", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, told = capfd.readouterr()
        assert re.fullmatch("conveyor: .*\n", told), told
        assert end.value.code == 2
        assert out == ""
        assert snapshot(cwd) == before
        return told

    return run


def assert_says(line: str, *words: str) -> None:
    assert [word for word in words if word not in line] == [], line


# What is given, and what the message must have in it. All are tried with --force over a run, which must survive.
TEXTS = {
    "missing": ("nowhere.txt", "nowhere.txt"),
    "a near miss of a corpus": ("pydok", "did you mean pydoc?"),
    "not UTF-8": ("latin.txt", "latin.txt", "byte 7 ", "--tokens byte"),
    "empty": ("empty.txt", "empty.txt", "empty"),
    "only whitespace": ("blank.txt", "blank.txt", "empty"),
    "shorter than a window": ("short.txt", "7 tokens", "--window"),
    "a folder of nothing": ("nothing", "nothing"),
}
FLAGS = {
    "unknown cell": ("--cell=lstmm", "lstmm", "did you mean lstm?"),
    "far off cell": ("--cell=transformer", "transformer", "lstm-coupled"),
    "unknown kind": ("--tokens=sylable", "--tokens", "sylable", "char, byte, word"),
    "unknown flag": ("--lern=3", "--lern"),
    "no number": ("--steps=ten", "--steps"),
    "half a number": ("--steps=1.5", "--steps"),
    "a rate past what weights can be": ("--lr=1e38", "--lr must be at most 1000"),
    "a rate that is no number": ("--lr=nan", "--lr must be a finite number, not nan"),
    "no room": ("--hidden-size=1000000000000000", "--hidden-size"),
    "no such device": ("--device=tpu", "tpu"),
    "no such GPU": ("--device=cuda:99", "cuda:99"),
    "a device of no numbers": ("--device=meta", "meta"),
    "unknown key": ("--config=unknown.toml", "unknown.toml", "hiden_size", "did you mean hidden_size?"),
    "wrong type": ("--config=type.toml", "type.toml", "steps", "whole number", "many"),
    "broken TOML": ("--config=broken.toml", "broken.toml", "line 1"),
    "TOML not UTF-8": ("--config=latin.toml", "latin.toml"),
    "missing TOML": ("--config=nowhere.toml", "nowhere.toml"),
    "missing cell file": ("--cell=nowhere.py:Cell", "nowhere.py"),
    "a file and no cell of it": ("--cell=cells.py", "cells.py:ClassName"),
    "missing cell class": ("--cell=cells.py:Plane", "Plane", "did you mean Plain?"),
    "cell file raises": ("--cell=raises.py:Any", "raises.py", "nowhere_to_be_found"),
    "cell file has no syntax": ("--cell=syntax.py:Any", "syntax.py", "SyntaxError"),
    "too few states": ("--cell=cells.py:TooFew", "TooFew", "h, C"),
    "too many states": ("--cell=cells.py:TooMany", "TooMany", "h, C"),
    "states of a wrong shape": ("--cell=cells.py:WrongShape", "WrongShape", "h, C"),
    "states that are no tensors": ("--cell=cells.py:NoTensors", "NoTensors"),
    "a step that raises": ("--cell=cells.py:Fails", "Fails"),
    "a cell that cannot be made": ("--cell=cells.py:CannotBeMade", "CannotBeMade", "no such size"),
    "a cell that needs more": ("--cell=cells.py:NeedsMore", "NeedsMore", "attention"),
    "a cell without equations": ("--cell=cells.py:NoEquations", "NoEquations"),
}


# A bad text or a bad flag of a training that would write over a run.
OVER = [*SMALL, "--steps", "2", "--out", "run", "--force"]


@pytest.mark.parametrize(("text", "words"), [(text, words) for text, *words in TEXTS.values()], ids=TEXTS)
def test_a_bad_text_is_refused(text: str, words: list[str], home: Path, refused: Refused) -> None:
    assert_says(refused("train", text, *OVER, cwd=home), *words)


@pytest.mark.parametrize(("wrong", "words"), [(wrong, words) for wrong, *words in FLAGS.values()], ids=FLAGS)
def test_a_bad_flag_is_refused(wrong: str, words: list[str], home: Path, refused: Refused) -> None:
    assert_says(refused("train", "text.txt", *OVER, wrong, cwd=home), *words)


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["train", "nowhere.txt", *OVER], marks=slow),
        pytest.param(["train", "text.txt", *OVER, "--lern=3"], marks=slow),
        pytest.param(["train", "text.txt", *OVER, "--cell=cells.py:TooFew"], marks=slow),
        pytest.param(["generate", "run", "--prompt=é"], marks=slow),
        ["evaluate", "nothing"],
    ],
    ids=lambda args: f"{args[0]} {args[-1]}",
)
def test_a_process_that_refuses_ends_with_one_line_and_code_2(args: list[str], home: Path) -> None:
    before = snapshot(home)
    result = conveyor(*args, cwd=home)
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch("conveyor: .*\n", result.stderr), result.stderr
    assert snapshot(home) == before


def out_of_bounds(setting: Field[Any]) -> list[Any]:
    bounds = setting.metadata
    kind = type(setting.default)
    if kind not in (int, float):
        return []

    def beyond(bound: Any, way: int) -> Any:
        return bound + way if kind is int else math.nextafter(bound, way * math.inf)

    below = [] if bounds["low"] is None else [beyond(bounds["low"], -1), -7]
    below += [] if bounds["above"] is None else [bounds["above"], -7]
    above = [] if bounds["high"] is None else [beyond(bounds["high"], 1)]
    return [*below, *above, "many", *(["1.5"] if kind is int else ["nan", "inf", "-inf"])]


@pytest.mark.parametrize(
    ("name", "value"), [(flag(setting.name), value) for setting in fields(Settings) for value in out_of_bounds(setting)]
)
def test_a_value_out_of_bounds_is_refused(name: str, value: Any, home: Path, refused: Refused) -> None:
    assert name in refused("train", "text.txt", *SMALL, "--steps=1", f"{name}={value}", cwd=home)


COMMANDS = {
    "a run is there": ("train text.txt --steps 1 --out run", "--resume run", "--force", "--out"),
    "the folder is a file": ("train text.txt --steps 1 --out text.txt", "text.txt", "--out"),
    "the folder is in a file": ("train text.txt --steps 1 --out text.txt/run", "text.txt/run"),
    "the folder is a link to nothing": ("train text.txt --steps 1 --out dangling", "dangling", "--out"),
    "the folder is a pipe": ("train text.txt --steps 1 --out pipe", "pipe", "--out"),
    "the folder is a device": ("train text.txt --steps 1 --out /dev/null", "/dev/null", "--out"),
    "the folder has no name": ("train text.txt --steps 1 --out=", "--out", "empty"),
    "no name to resume": ("train --resume=", "--resume", "empty"),
    "the folder is that of the text": ("train prose --steps 1 --out prose", "prose", "--out"),
    "no run to resume": ("train --resume nowhere", "nowhere", "conveyor train"),
    "a folder without a run": ("train --resume nothing", "nothing", "conveyor train"),
    "a file is no run": ("train --resume text.txt", "text.txt"),
    "resume and a flag": ("train text.txt --resume run --steps 5", "--resume", "--steps", "TEXT"),
    "resume and more": ("train --resume run --force --out a --config b", "--force", "--out", "--config"),
    "an unknown command": ("trian text.txt", "trian", "train"),
    "no run to evaluate": ("evaluate nowhere", "nowhere"),
    "no run to generate from": ("generate nothing", "nothing"),
    "no text to evaluate": ("evaluate run nowhere.txt", "nowhere.txt"),
    "new characters to evaluate": ("evaluate run new.txt", "'b', 'i', 'q', 'r', 'u', 'z'", "--tokens byte"),
    "too short to evaluate": ("evaluate run one.txt", "two tokens"),
    "nothing to evaluate": ("evaluate run empty.txt", "empty.txt"),
    "new characters to go on from": ("generate run --prompt café", "'f', 'é'"),
    "nothing to go on from": ("generate run --prompt=", "prompt is empty"),
    "a prompt that is not UTF-8": ("generate run --prompt \udcff", "prompt"),
    "a text's name that is not UTF-8": ("train \udcff.txt --steps 1", "UTF-8"),
    "negative length": ("generate run --length -1", "--length"),
    "negative temperature": ("generate run --temperature -1", "--temperature"),
    "no temperature": ("generate run --temperature nan", "--temperature"),
    "endless temperature": ("generate run --temperature inf --top-k 2", "--temperature"),
    "negative choice": ("generate run --top-k -1", "--top-k"),
    "a seed too large": (f"generate run --seed {2**64}", "--seed"),
    "no device to evaluate on": ("evaluate run --device tpu", "tpu"),
    "no device to generate on": ("generate run --device cuda:99", "cuda:99"),
}


@pytest.mark.parametrize(("line", "words"), [(line, words) for line, *words in COMMANDS.values()], ids=COMMANDS)
def test_a_bad_command_is_refused(line: str, words: list[str], home: Path, refused: Refused) -> None:
    (home / "dangling").symlink_to("nowhere")
    os.mkfifo(home / "pipe")
    assert_says(refused(*line.split(" "), cwd=home), *words)


def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as unreadable:  # to root as well, whom no permission stops
        unreadable.bind("text.txt")
        assert_says(refused("train", "text.txt", "--steps=1", cwd=tmp_path), "cannot read", "text.txt")


@pytest.mark.parametrize("command", [["train", "--resume"], ["evaluate"]], ids=" ".join)
def test_a_run_whose_text_has_changed_is_refused(command: list[str], made: Path, run: Path, refused: Refused) -> None:
    (made / "text.txt").write_text(TEXT + "the cat\n")
    try:
        assert_says(refused(*command, run, cwd=run), "text", "changed")
    finally:
        (made / "text.txt").write_text(TEXT)


def saved(contents: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", "no pickle")
    return buffer.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing in it": lambda _: b"",
    "one byte": lambda whole: whole[:1],
    "the first half": lambda whole: whole[: len(whole) // 2],
    "all but the last byte": lambda whole: whole[:-1],
    "random bytes": lambda whole: random.Random(0).randbytes(len(whole)),
    "text": lambda _: TEXT.encode(),
    "a zip of something else": lambda _: zipped(),
    "a pickle": lambda _: pickle.dumps({"step": 3}),
    "a pickle of an object": lambda _: saved(Settings()),
    "tensors": lambda _: saved({"step": torch.zeros(3)}),
    "a tensor": lambda _: saved(torch.zeros(3)),
    "a safe tensor": lambda _: safetensors.torch.save({"step": torch.zeros(3)}),
    "a byte changed in the middle": lambda whole: flip(whole, len(whole) // 2),
}
WITHOUT_CHECKSUM = {name: damage for name, damage in DAMAGE.items() if "changed" not in name}


def flip(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_refused(damage: Callable[[bytes], bytes], run: Path, refused: Refused) -> None:
    path = run / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert_says(refused("train", "--resume", run, cwd=run), "checkpoint.pt", "--force")


@pytest.mark.parametrize("command", ["evaluate", "generate"])
@pytest.mark.parametrize("damage", WITHOUT_CHECKSUM.values(), ids=WITHOUT_CHECKSUM)
def test_a_damaged_model_is_refused(
    damage: Callable[[bytes], bytes], command: str, run: Path, refused: Refused
) -> None:
    path = run / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert_says(refused(command, run, cwd=run), "model.safetensors")


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_no_damage_to_a_checkpoint_goes_unseen(data: st.DataObject, made: Path) -> None:
    whole = (made / "run" / "checkpoint.pt").read_bytes()
    places = st.integers(0, len(whole) - 1)
    cut = places.map(lambda place: whole[:place])
    flipped = places.map(lambda place: flip(whole, place))
    damaged = data.draw(st.one_of(cut, flipped, st.binary(), st.binary().map(lambda tail: b"\x80\x02" + tail)))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.checkpoint.write_bytes(damaged)
        try:
            contents = run.load_checkpoint(Run(made / "run").settings(Settings, "conveyor train"))
        except BadInput:
            return
    assert same(contents, checkpoint(made / "run"))


@pytest.mark.parametrize(
    ("command", "words"),
    [(["train", "--resume"], ["hidden_size was 16, now 17"]), (["evaluate"], ["config.toml"])],
    ids=["resume", "evaluate"],
)
def test_a_run_whose_configuration_was_edited_is_refused(
    command: list[str], words: list[str], run: Path, refused: Refused
) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace("hidden_size = 16", "hidden_size = 17"))
    assert_says(refused(*command, run, cwd=run), *words)


def test_a_run_whose_cell_was_edited_is_refused(home: Path, refused: Refused) -> None:
    done("train", "text.txt", *SMALL, "--cell=cells.py:Plain", "--steps", 1, "--out", "own", cwd=home)
    (home / "cells.py").write_text(CELLS.replace('self.affine("h", "x")', 'self.affine("x", "h", "C")'))
    assert_says(refused("train", "--resume", "own", cwd=home), "cells.py")
    assert_says(refused("evaluate", "own", cwd=home), "cells.py")


def test_a_run_of_a_device_that_is_not_here_is_refused(run: Path, refused: Refused) -> None:
    contents = checkpoint(run)
    contents["settings"]["device"] = "cuda:99"
    (run / "checkpoint.pt").write_bytes(saved(contents))
    config = run / "config.toml"
    config.write_text(config.read_text().replace('device = "cpu"', 'device = "cuda:99"'))
    assert_says(refused("train", "--resume", run, cwd=run), "cuda:99")


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.toml", "model.safetensors"])
def test_a_run_with_a_file_missing_is_refused(name: str, run: Path, refused: Refused) -> None:
    (run / name).unlink()
    command = ["evaluate"] if name == "model.safetensors" else ["train", "--resume"]
    assert_says(refused(*command, run, cwd=run), name)


DAMAGED = {
    "empty": b"",
    "a part of the head": gzip.compress(b"", mtime=0)[:9],
    "cut short": gzip.compress(b"1,2\n" * 99, mtime=0)[:-9],
    "overwritten": gzip.compress(b"1,2\n", mtime=0)[:12] + b"!" * 20,
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_digits_are_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(DAMAGED[how])
    with pytest.raises(BadInput, match=r"reinstall it: pip install 'conveyor\[images\]'"):
        read_digits(path)


GREYS = ["NaN", "1e400", "-0.1", "256", "1" + "0" * 400, "[" * 10**5]


@pytest.mark.parametrize("grey", GREYS, ids=lambda grey: grey[:8])
def test_greys_that_are_none_are_refused(grey: str, tmp_path: Path) -> None:
    path = tmp_path / "src" / "digits" / "0.json"
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"data": [{", ".join(["0"] * 783)}, {grey}]}}')
    with pytest.raises(BadInput, match=r"0\.json is not a list of images of 28 x 28 pixels"):
        mnist(tmp_path)


@slow
def test_a_full_disk_costs_no_checkpoint(home: Path) -> None:
    run = home / "long"
    with begun(command("train", "text.txt", *SMALL, "--steps", 300, "--out", run), home) as process:
        wait(process, lambda: lines(run) >= 3)
        process.terminate()
        process.communicate()
    before = snapshot(run)
    assert checkpoint(run)["step"] < 300

    size = (run / "checkpoint.pt").stat().st_size
    result = conveyor("train", "--resume", run, cwd=home, file_limit=size // 2)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert_says(result.stderr.splitlines()[-1], "conveyor: ", "checkpoint.pt", "File too large")
    assert snapshot(run) == before

    done("train", "--resume", run, cwd=home)
    assert checkpoint(run)["step"] == 300


DIVERGING = {
    "weights thrown far away": flags(lr=1e3, weight_decay=1e30, warmup=0, steps=20, save_every=0),
    "weights thrown far away, in the last step": flags(lr=1e3, weight_decay=1e30, warmup=0, steps=2),
    "a cell that comes to NaN": flags(cell="cells.py:NaNLater", steps=20),
}


@pytest.mark.parametrize("settings", DIVERGING.values(), ids=DIVERGING)
def test_a_training_that_diverges_says_where_and_keeps_what_was_good(settings: list[str], home: Path) -> None:
    run = home / "new"
    result = called("train", "text.txt", *SMALL, *settings, "--out", run, cwd=home)
    line = result.stderr.splitlines()[-1]
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert_says(line, "conveyor: ", "step", "--lr")
    (step,) = map(int, re.findall(r"at step (\d+)", line))
    kept = checkpoint(run)
    assert kept["step"] == step - 1 or f"step {kept['step']}" in line, "what it says it keeps is not what it keeps"
    assert all(tensor.isfinite().all() for tensor in tensors(kept) if tensor.is_floating_point())
