"""The examples run as they stand, do what their first lines say, and are short."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiers import quick

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def promised(text):
    """The lines that an example's docstring says it prints."""
    return re.search(r"\n\nprints [^:]*(?:\([^)]*\))?:\n\n((?:    .*\n)+)", text)[1].splitlines()


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]


def pattern(lines):
    """The lines with any numbers in the places of theirs."""
    return [NUMBER.sub("#", re.sub(r" +", " ", line.strip())) for line in lines]


# By example, whether the numbers of what it prints at the end show what it is there to show.
SHOWS = {
    "compare_cells": lambda rnn, gru: max(gru) < min(rnn),
    "gates": lambda fit, gate: fit[0] < fit[1] / 10 and gate[0] < gate[1] / 2,
    "own_cell": lambda difference, told: difference[0] < 1e-5 and told[1] > 90,
    "streaming": lambda error, difference: error[0] < error[1] / 2 and difference[0] < 1e-5,
    "train": lambda error: error[0] < 0.01,
}


QUICK = [file for file in EXAMPLES if file.stem in ("gates", "own_cell")]


@pytest.mark.parametrize("file", quick(EXAMPLES, QUICK), ids=lambda file: file.stem)
def test_an_example_prints_what_it_says(file, tmp_path):
    lines = promised(file.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-len(lines) :]
    assert pattern(last) == pattern(lines)
    for said in (lines, last):  # what is said was measured once
        assert SHOWS[file.stem](*map(numbers, said)), said


def test_there_are_five_short_ones_and_a_tutorial_shows_them():
    assert {file.stem for file in EXAMPLES} == set(SHOWS)
    page = (ROOT / "docs" / "tutorials" / "examples.md").read_text(encoding="utf-8")
    for file in EXAMPLES:
        assert len(file.read_text(encoding="utf-8").splitlines()) < 60, file
        assert f"../examples/{file.name}\n" in page, file
