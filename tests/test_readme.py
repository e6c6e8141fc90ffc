"""What the README says to type works as it stands, in its order, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiers import slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command, folder, given=""):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, input=given, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the README in it, as its commands expect, and with the files that it says to write."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "README.md").write_text(README, encoding="utf-8")
    for _, code in BLOCKS:
        if named := re.match(r"# (\w+\.py)\n", code):
            (folder / named[1]).write_text(code, encoding="utf-8")
    return folder


@slow
def test_the_commands_run_in_order(folder):
    lines = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines() if line]
    assert len(lines) >= 5
    for line in lines:
        done = run(["bash", "-c", line], folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


CODE = [code for language, code in BLOCKS if language == "python"]
EACH = """
import json, linecache, sys
for number, code in enumerate(json.load(sys.stdin), 1):
    name = f"<block {number}>"
    linecache.cache[name] = len(code), None, code.splitlines(True), name
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
"""


def test_the_code_runs(folder):
    """Each block by itself, but in one process, since they all begin with imports that take seconds."""
    assert len(CODE) >= 5
    done = run([sys.executable, "-W", "error", "-c", EACH], folder, json.dumps(CODE))
    assert done.returncode == 0, done.stderr


def test_its_files_and_scripts_are_there():
    for name in re.findall(r"\]\((\w+\.md)\)", README):
        assert (ROOT / name).is_file(), name
    for name in set(re.findall(r"(?:scripts|benchmarks)/[\w./]*\w", README + (ROOT / "CONTRIBUTING.md").read_text())):
        assert (ROOT / name).exists(), name
    assert all(os.access(ROOT / name, os.X_OK) for name in ("scripts/demo", "scripts/test", ".ci/run"))


def test_a_python_that_is_too_old_is_named_with_the_cure(tmp_path):
    """With a PATH on which no Python fits: the script must say what it needs, and make nothing."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("environment", "demo"):
        (scripts / name).write_text((ROOT / "scripts" / name).read_text())
    old = tmp_path / "bin"
    old.mkdir()
    (old / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    (old / "python3").chmod(0o755)
    for tool in ("bash", "dirname", "cat"):
        (old / tool).symlink_to(next(p for p in map(Path, ("/bin", "/usr/bin")) if (p / tool).exists()) / tool)
    done = subprocess.run(
        [old / "bash", scripts / "demo"], cwd=tmp_path, env={"PATH": str(old)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Python 3.11" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()
