"""The package as others get it: built, installed, and at work far from the checkout that it was built in."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from command import SMALL, TEXT, flags
from tiers import slow

pytestmark = [slow, pytest.mark.xdist_group("installed")]  # which is built once
ROOT = Path(__file__).parent.parent
# Imported before anything else: whatever is opened in the checkout is written down.
WATCH = """
import os, sys
checkout, borrowed, told = {places!r}
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(checkout) and not path.startswith(borrowed):
            with open(told, "a") as file:
                file.write(path + os.linesep)
sys.addaudithook(watch)
"""
KERNEL = """
import torch, conveyor
layer = conveyor.LSTM(3, 4)
with conveyor.backend("compiled"):
    output, _ = layer(torch.randn(5, 2, 3))
output.sum().backward()
print(conveyor.__file__)
"""


def tracked(folder="."):
    done = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The folder of an sdist of what git tracks, and of the wheel that is made from that."""
    folder = tmp_path_factory.mktemp("build")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=folder)
    return folder / "dist"


class Environment:
    """An environment with the wheel in it, which borrows from the tests' own what the package needs of others."""

    def __init__(self, folder, wheel):
        venv.create(folder / "env", symlinks=True)
        self.bin = folder / "env" / "bin"
        place = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(run(self.bin / "python", "-c", place, cwd=folder).stdout.strip())
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "--disable-pip-version-check")
        run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
        borrowed = sysconfig.get_path("purelib")  # of which no .pth file is read, such as that of the checkout
        (self.site / "borrowed.pth").write_text(borrowed)
        self.reached = folder / "reached"
        places = (f"{ROOT}{os.sep}", borrowed, str(self.reached))
        (self.site / "watch.py").write_text(WATCH.format(places=places))
        (self.site / "watch.pth").write_text("import watch")
        self.package = self.site / "conveyor"
        self.folder = folder / "elsewhere"
        self.folder.mkdir()

    def run(self, program, *arguments, check=True, **variables):
        return run(self.bin / program, *arguments, cwd=self.folder, check=check, **variables)


def run(*words, cwd, check=True, **variables):
    """A command in an environment that says nothing of the checkout, with kernels that need only be soon there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CONVEYOR", "PYTEST"))}
    given = kept | {"OMP_NUM_THREADS": "1", "CONVEYOR_CFLAGS": "-O0"} | variables
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=given, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(packages, tmp_path_factory):
    (wheel,) = packages.glob("*.whl")
    made = Environment(tmp_path_factory.mktemp("installed"), wheel)
    (made.folder / "text.txt").write_text(TEXT)
    made.run("conveyor", "train", "text.txt", "--out", "run", "--steps", 4, *SMALL)
    return made


def test_the_packages_hold_what_git_tracks(packages):
    (wheel,), (sdist,) = packages.glob("*.whl"), packages.glob("*.tar.gz")
    wanted = {name.removeprefix("src/") for name in tracked("src/conveyor")}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == wanted
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in wanted} | {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_a_kernel_is_built_and_run(installed, tmp_path):
    done = installed.run("python", "-W", "error", "-c", KERNEL, XDG_CACHE_HOME=str(tmp_path))
    assert Path(done.stdout.strip()).is_relative_to(installed.package)
    assert list(tmp_path.rglob("*.so"))


def test_the_first_code_of_the_readme_runs(installed):
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].partition("```")[0]
    assert "conveyor.Recurrent" in first
    installed.run("python", "-W", "error", "-c", first)


COMMANDS = {
    "generate": ["generate", "run", "--prompt", "the ", "--length", 20],
    "draw": ["draw", "lstm", "-o", "lstm.svg"],
    "draw as PNG": ["draw", "gru", "-o", "gru.png"],
    "explain": ["explain", "run", "--text", "the cat", "-o", "page.html"],
    "compare": ["compare", *flags(tasks="lag:3", cells="rnn", trials=1, seeds=1, steps=5, workers=1, out="report")],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_works_and_reaches_nothing_of_the_checkout(installed, name):
    installed.reached.unlink(missing_ok=True)
    installed.run("conveyor", *COMMANDS[name])
    assert not installed.reached.exists(), installed.reached.read_text()


def test_the_watch_sees_what_is_reached_for(installed):
    installed.run("python", "-c", f"open({str(ROOT / 'README.md')!r})")
    assert "README.md" in installed.reached.read_text()
    installed.reached.unlink()


class Without:
    """Inside, the installed package lacks a file."""

    def __init__(self, file):
        self.file, self.aside = file, file.with_suffix(".aside")

    def __enter__(self):
        self.file.rename(self.aside)

    def __exit__(self, *_):
        self.aside.rename(self.file)


@pytest.mark.parametrize("name", ["cpu/runtime.c", "c/maths.h"])
def test_missing_c_is_told_with_the_cure(installed, name):
    generate = ("conveyor", "generate", "run", "--prompt", "the ", "--length", 5)
    with Without(installed.package / "targets" / name):
        done = installed.run(*generate)
        refused = installed.run("python", "-c", KERNEL, check=False)
    assert len(done.stderr.splitlines()) == 2  # the second says how many tokens were written
    for said in (done.stderr, refused.stderr.splitlines()[-1]):
        assert f"{name} cannot be read (No such file or directory); pip install --force-reinstall conveyor" in said
    assert refused.stderr.splitlines()[-1].startswith("conveyor.layer.backends.NotCompiled: ")


@pytest.mark.parametrize("name", ["main.js", "variants.json"])
def test_a_missing_file_of_the_page_is_told_with_the_cure(installed, name):
    with Without(installed.package / "explain" / "page" / "web" / name):
        done = installed.run("conveyor", "explain", "run", "--text", "the", "-o", "none.html", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("conveyor: conveyor is not wholly installed: ")
    assert name in done.stderr
    assert "pip install --force-reinstall conveyor" in done.stderr
    assert not (installed.folder / "none.html").exists()
