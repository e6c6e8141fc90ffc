"""The cards of the tasks are what the tasks say now, and what they say is true."""

import re
from pathlib import Path

import pytest
import torch

from conveyor.compare.page import checksum, page
from conveyor.compare.problems import PROBLEMS, find
from conveyor.tasks import Parity
from conveyor.tasks.task import PARTS

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "tasks.md"
DATA = {name: problem.made().data for name, problem in PROBLEMS.items()}
DRAWN = [name for name, data in DATA.items() if data is None]
COUNTED = [name for name, data in DATA.items() if data and data.counts and name != "speakers"]


def test_the_page_of_the_tasks_is_current():
    """If not: python -m conveyor.compare.page > docs/reference/tasks.md"""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_task_has_a_card():
    text = PAGE.read_text(encoding="utf-8")
    for name, problem in PROBLEMS.items():
        card = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        data = DATA[name]
        assert re.search("^- (validation|checksum): [0-9a-f]{64}", card, re.M) or (data and not data.checksum), name
        assert "- licence: " in card or data is None
        assert bool(problem.unit) == (problem.number is not None) == ("- the number: " in card)


@pytest.mark.parametrize("name", COUNTED)
def test_the_counts_are_those_of_what_is_read(name):
    task = find(name)
    assert tuple(len(task.parts[part].lengths) for part in ("learn", *PARTS)) == task.data.counts


def test_the_speakers_are_as_many_as_their_files_have():
    """Which are in a package that the tests do without: every ninth of the first file's 270 is for validation."""
    assert DATA["speakers"].counts == (270 - 270 // 9, 270 // 9, 370)


def test_a_checksum_tells_another_sequence():
    class Other(Parity):
        def held_out(self, part, rows):
            batch = super().held_out(part, rows)
            batch.inputs[0, -1] = 1 - batch.inputs[0, -1]
            return batch

    assert checksum(Parity(9)) == checksum(Parity(9)) != checksum(Other(9))
    assert len({checksum(find(name)) for name in DRAWN}) == len(DRAWN)


def test_sequences_do_not_depend_on_what_was_drawn_before():
    before = checksum(find("copy"))
    torch.rand(5)
    find("copy").draw(3, torch.Generator().manual_seed(9))
    assert checksum(find("copy")) == before
