"""Where kernels are kept, by whom they may be written, and what happens where none can be made."""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import pytest
import torch

import conveyor
from command import LIMITED, environment
from conveyor.layer import backends
from conveyor.targets import CannotBuild, build_once
from conveyor.targets.c import build
from conveyor.targets.cpu import loading
from tiers import slow

SOURCE = "int answer(void) { return 42; }\n"
# A layer as a person uses it, then with the kernel on request; what was told, and whether the numbers are the loop's.
USE = """
import json, sys, warnings
import torch, conveyor
torch.set_num_threads(1)
torch.manual_seed(0)
layer, x = conveyor.Recurrent(conveyor.zoo.LSTM, 2, 3, dtype=torch.float64), torch.randn(4, 2, 2, dtype=torch.float64)
def run():
    (gradient,) = torch.autograd.grad(layer(x)[0].sum(), layer.cells[0].forget.bias)
    with torch.no_grad():
        return torch.cat([layer(x)[0].flatten(), gradient])
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    found = [run(), run()]
refused = None
try:
    with conveyor.backend("compiled"):
        run()
except RuntimeError as error:
    refused = str(error)
with conveyor.backend("eager"):
    right = all((value - run()).abs().max() < 1e-12 for value in found)
print(json.dumps({"told": [str(w.message) for w in told], "refused": refused, "right": bool(right)}))
"""


def begin(cache, file_limit=None, **variables):
    """A process of its own that uses a layer. Its kernels need not be fast, but soon there."""
    given = environment() | {"CONVEYOR_CFLAGS": "-O0", "XDG_CACHE_HOME": str(cache)} | variables
    given.pop("CONVEYOR_BACKEND", None)
    line = [sys.executable, "-c", USE]
    line = line if file_limit is None else [sys.executable, "-c", LIMITED, str(file_limit), *line]
    return subprocess.Popen(line, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def end(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()
    found = json.loads(out)
    assert found["right"]
    return found


def assert_compiled(process):
    found = end(process)
    assert found["told"] == []
    assert found["refused"] is None


def assert_told_once(process, reason):
    """One warning with the reason and the cure; on request for a kernel, an error that says the same."""
    found = end(process)
    assert len(found["told"]) == 1, found["told"]
    for text in (found["told"][0], found["refused"]):
        assert re.search(reason, text), text
        assert re.search(r"conveyor\[compiler\]|XDG_CACHE_HOME|CC", text), text


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def kernels(cache):
    return sorted((cache / "conveyor" / "kernels").iterdir())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that this process keeps kernels in, empty; it has loaded none yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("CC", "CONVEYOR_CFLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    build._load.cache_clear()
    yield tmp_path / "cache"
    build._load.cache_clear()


def answer():
    build._load.cache_clear()
    return build.load(SOURCE, False).answer()


@contextmanager
def mounted(folder, options):
    """A file system of its own at the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# --- what is kept ---


@slow
def test_processes_that_begin_at_once_keep_whole_private_files(tmp_path):
    for process in [begin(tmp_path / "cache") for _ in range(4)]:
        assert_compiled(process)
    files = kernels(tmp_path / "cache")
    assert len(files) == 4, files  # the runtime, inference, forward and backward
    for file in files:
        assert build._is_sound(file, file.stem)
        assert file.stat().st_mode & 0o777 == 0o700
    times = [file.stat().st_mtime_ns for file in files]
    assert_compiled(begin(tmp_path / "cache"))
    assert [file.stat().st_mtime_ns for file in kernels(tmp_path / "cache")] == times


@slow
def test_a_process_killed_in_the_middle_leaves_nothing_for_ever(tmp_path):
    waiting = script(tmp_path / "waiting", f"touch {tmp_path}/begun; sleep 100")
    process = begin(tmp_path / "cache", CC=str(waiting))
    give_up = time.monotonic() + 100
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    left = kernels(tmp_path / "cache")
    assert left
    assert_compiled(begin(tmp_path / "cache"))
    assert all(folder.exists() for folder in left)  # whoever made them might still be at work
    for folder in left:
        os.utime(folder, (0, 0))
    assert_compiled(begin(tmp_path / "cache", CONVEYOR_CFLAGS="-O0 -g"))
    assert all(file.suffix == ".so" for file in kernels(tmp_path / "cache"))


SPOILT = {
    "empty": lambda _: b"",
    "cut short": lambda content: content[:-1],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "another's": lambda _: b"\x7fELF" + bytes(5000),
    "changed": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_not_whole_is_made_anew(cache, how):
    assert answer() == 42
    (file,) = kernels(cache)
    whole = file.read_bytes()
    file.unlink()  # it is in use
    file.write_bytes(SPOILT[how](whole))
    file.chmod(0o700)
    assert not build._is_sound(file, file.stem)
    assert answer() == 42
    assert build._is_sound(file, file.stem)


def test_a_file_of_another_kernel_is_made_anew(cache):
    other = build.load("int answer(void) { return 7; }\n", False)
    (file,) = kernels(cache)
    assert answer() == 42
    (mine,) = [path for path in kernels(cache) if path != file]
    mine.unlink()
    shutil.copy2(file, mine)
    assert answer() == 42
    assert other.answer() == 7


def test_a_file_that_others_could_have_written_is_made_anew(cache, tmp_path):
    assert answer() == 42
    (file,) = kernels(cache)
    file.chmod(0o722)
    assert not build._is_sound(file, file.stem)
    assert answer() == 42
    assert build._is_sound(file, file.stem)
    elsewhere = tmp_path / "elsewhere.so"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert answer() == 42
    assert not file.is_symlink()
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
        assert answer() == 42
        assert file.stat().st_uid == 0


# --- folders that cannot be used: a kernel is made in a temporary one, of which nothing is left ---


def assert_made_elsewhere(tmp_path):
    before = sorted((tmp_path / "cache").rglob("*")) if (tmp_path / "cache").is_dir() else None
    assert answer() == 42
    assert before is None or sorted((tmp_path / "cache").rglob("*")) == before
    assert not any((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("below", ["", "conveyor", "conveyor/kernels"])
@pytest.mark.parametrize("how", ["all", "a group", "another user"])
def test_a_folder_that_others_may_write_is_not_used(cache, tmp_path, below, how, monkeypatch):
    assert answer() == 42
    folder = cache / below
    if how == "another user":
        if os.geteuid():
            pytest.skip("only root may give a folder away")
        os.chown(folder, 12345, -1)
    else:
        folder.chmod(0o777 if how == "all" else 0o770)
        monkeypatch.setattr(build, "_is_own_group", lambda _: False)
    (file,) = kernels(cache)
    file.unlink()  # it is in use
    file.write_bytes(b"not to be read")
    assert_made_elsewhere(tmp_path)
    assert file.read_bytes() == b"not to be read"


def test_a_folder_of_the_users_own_group_or_in_one_like_tmp_is_used(cache, monkeypatch):
    assert answer() == 42
    cache.chmod(0o1777)
    (cache / "conveyor").chmod(0o770)
    monkeypatch.setattr(build, "_is_own_group", lambda _: True)
    (file,) = kernels(cache)
    file.unlink()
    assert answer() == 42
    assert file.exists()


@pytest.mark.parametrize("place", ["", "conveyor", "conveyor/kernels"])
def test_a_file_in_the_place_of_a_folder(cache, tmp_path, place):
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    (cache / place).write_text("mine")
    assert_made_elsewhere(tmp_path)
    assert (cache / place).read_text() == "mine"


@pytest.mark.parametrize("options", ["ro", "size=8k", "size=16k", "nr_inodes=4", "noexec"])
def test_a_folder_that_cannot_be_written_or_is_full_or_runs_nothing(cache, tmp_path, options):
    with mounted(cache, f"mode=700,{options}"):
        assert answer() == 42
        assert not any(path.name.startswith(build.MAKING) for path in cache.rglob("*"))
    assert not any((tmp_path / "temporary").iterdir())


def test_no_folder_at_all(cache, tmp_path):
    with mounted(cache, "size=8k"), mounted(tmp_path / "temporary", "size=8k"), pytest.raises(CannotBuild):
        answer()


@slow
def test_files_that_cannot_grow(tmp_path):
    assert_told_once(begin(tmp_path / "cache", file_limit=4096), "fails|nowhere")


@pytest.mark.usefixtures("cache")
def test_a_relative_folder_is_not_made_where_one_happens_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert answer() == 42
    assert not (tmp_path / "here").exists()
    assert len(list((tmp_path / "home").rglob("*.so"))) == 1


# --- compilers ---


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("false", "false fails"),
        *(pytest.param(*one, marks=slow) for one in (("/nonexistent", "not there"), ("/", "not there"))),
        pytest.param("cc '", "cannot be read", marks=slow),
    ],
)
def test_a_compiler_that_fails_or_is_none_is_told_once(tmp_path, name, reason):
    assert_told_once(begin(tmp_path / "cache", CC=name), reason)


def test_what_the_compiler_says_is_told(tmp_path):
    failing = script(tmp_path / "failing", "echo 'kernel.c:1: it is too warm in here' >&2; exit 3")
    assert_told_once(begin(tmp_path / "cache", CC=str(failing)), "too warm in here")
    assert kernels(tmp_path / "cache") == []


@pytest.mark.usefixtures("cache")
def test_a_compiler_that_makes_nothing_or_not_what_was_asked_for(tmp_path, monkeypatch):
    for text in ("exit 0", 'while [ "$1" != -o ]; do shift; done; echo text > $2'):
        monkeypatch.setenv("CC", str(script(tmp_path / "idle", text)))
        with pytest.raises(CannotBuild):
            answer()


def test_no_compiler_is_told_once(tmp_path):
    if "ziglang" in sys.modules or build.importlib.util.find_spec("ziglang"):
        pytest.skip("there is always one")
    assert_told_once(begin(tmp_path / "cache", PATH=str(tmp_path)), "there is no C compiler")


@pytest.mark.usefixtures("cache")
def test_no_compiler_is_told_under_torch_compile(monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent")
    monkeypatch.delenv("CONVEYOR_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_warned", set())
    loading.runtime.cache_clear()
    layer, x = conveyor.Recurrent(conveyor.zoo.LSTM, 2, 3), torch.randn(4, 2, 2)
    with conveyor.backend("eager"), torch.no_grad():
        wanted, _ = layer(x)
    with torch.no_grad(), pytest.warns(RuntimeWarning, match=r"no kernels, .*CC names /nonexistent"):
        found, _ = torch.compile(layer, backend="eager")(x)
    assert torch.equal(found, wanted)


def test_a_compiler_that_does_not_know_the_machine(cache, tmp_path, monkeypatch):
    text = f'for w; do case $w in -m*) echo "what is $w?" >&2; exit 1;; esac; done; exec {shutil.which("cc")} "$@"'
    monkeypatch.setenv("CC", str(script(tmp_path / "plain", text)))
    assert answer() == 42
    (file,) = kernels(cache)
    with pytest.raises(CannotBuild, match="answer"):
        build.load("int answer(void) { return }\n", False)
    assert kernels(cache) == [file]


def test_another_compiler_or_other_flags_make_another_file(cache, tmp_path, monkeypatch):
    for count, text in enumerate(("", "# another", "# and one more"), 1):
        monkeypatch.setenv("CC", str(script(tmp_path / "mine", f'{text}\nexec {shutil.which("cc")} "$@"')))
        assert answer() == 42
        assert len(kernels(cache)) == count
    monkeypatch.setenv("CONVEYOR_CFLAGS", "-DSOMETHING='of mine'")
    assert answer() == 42
    assert len(kernels(cache)) == 4


@pytest.mark.usefixtures("cache")
def test_what_could_not_be_built_is_not_tried_at_every_call(tmp_path, monkeypatch):
    counting = script(tmp_path / "counting", f"echo >> {tmp_path}/count; exit 1")
    monkeypatch.setenv("CC", str(counting))
    attempt, now = build_once.BuildOnce(), time.monotonic()
    told = []
    for later in (0, 1, build_once.RETRY_AFTER / 2, build_once.RETRY_AFTER + 1):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        with pytest.raises(CannotBuild) as caught, attempt:
            answer()
        told.append((str(caught.value), len((tmp_path / "count").read_text())))
    first, *between, last = told
    assert between == [first, first]
    assert last == (first[0], 2 * first[1])


def test_zig_builds_kernels_where_there_is_no_other_compiler(tmp_path):
    if not build.importlib.util.find_spec("ziglang"):
        pytest.skip("conveyor[compiler] is not installed")
    assert_compiled(begin(tmp_path / "cache", PATH=str(tmp_path)))


def test_a_library_is_not_in_the_way_once_it_is_loaded(cache, tmp_path):
    (cache.parent / "cache").write_text("no folder")
    library = build.load(SOURCE, False)
    assert isinstance(library, ctypes.CDLL)
    assert not any((tmp_path / "temporary").iterdir())
    assert library.answer() == 42
