"""What the README and the how-to guides say to type works as it stands, page by page, in an empty folder."""

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
GUIDES = [*sorted((ROOT / "docs/how-to").glob("*.md")), ROOT / "docs/explanation/speed-lstm.md"]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *GUIDES)}
BLOCKS = {name: found for name, text in PAGES.items() if (found := BLOCK.findall(text))}


def commands(name):
    return [line for language, code in BLOCKS[name] if language == "bash" for line in code.splitlines() if line]


def run(command, folder, given=""):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, input=given, capture_output=True, text=True)


@slow
@pytest.mark.parametrize("page", [name for name in BLOCKS if commands(name)])
def test_the_commands_run_in_order(page, tmp_path):
    """In a folder with the README in it, as its commands expect."""
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    for line in commands(page):
        done = run(["bash", "-c", line], tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


EACH = """
import json, linecache, sys
for number, (page, code) in enumerate(json.load(sys.stdin), 1):
    name = f"<block {number}, of {page}>"
    linecache.cache[name] = len(code), None, code.splitlines(True), name
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
"""


def test_the_code_runs(tmp_path):
    """Each block by itself, but in one process, since they all begin with imports that take seconds."""
    code = [(name, code) for name, found in BLOCKS.items() for language, code in found if language == "python"]
    assert len(code) >= 10
    done = run([sys.executable, "-W", "error", "-c", EACH], tmp_path, json.dumps(code))
    assert done.returncode == 0, done.stderr


def test_its_files_and_scripts_are_there():
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).is_file(), name
    for name in set(re.findall(r"(?:scripts|benchmarks)/[\w./]*\w", README + (ROOT / "CONTRIBUTING.md").read_text())):
        assert (ROOT / name).exists(), name
    assert all(os.access(ROOT / name, os.X_OK) for name in ("scripts/demo", "scripts/docs", "scripts/test", ".ci/run"))


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
