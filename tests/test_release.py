"""Where the version stands it is the same, and the changelog has a day for each release."""

import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TIDY = ROOT / "scripts" / "tidy.py"


def test_the_changelog_has_what_is_unreleased_and_then_dated_releases():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading).groups() for heading in headings[1:]]
    days = [date.fromisoformat(day) for _, day in released]
    assert days == sorted(days, reverse=True), "the newest comes first"
    assert released[0][0] == VERSION
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\ndate-released: {released[0][1]}\n" in citation


def tidy(*files):
    return subprocess.run([sys.executable, TIDY, *files], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no end", "does not end with one newline"),
        (b"two ends\n\n", "does not end with one newline"),
        (b"one\ntwo \n", ":2: blanks at the end of the line"),
        (b"\0" * 500_001, "500,001 bytes are more than 500,000"),
    ],
    ids=["no end", "two ends", "blanks", "big"],
)
def test_what_is_not_tidy_is_not_committed(content, said, tmp_path):
    (tmp_path / "file").write_bytes(content)
    done = tidy(tmp_path / "file")
    assert done.returncode == 1
    assert said in done.stdout


def test_what_is_tidy_passes(tmp_path):
    for name, content in {"text": b"one\n\ntwo\n", "empty": b"", "bytes": b"\0\1 "}.items():
        (tmp_path / name).write_bytes(content)
    done = tidy(*tmp_path.iterdir())
    assert (done.returncode, done.stdout) == (0, "")


def test_every_file_is_tidy():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    done = tidy(*(ROOT / name for name in listed.split("\0") if name))
    assert done.returncode == 0, done.stdout
