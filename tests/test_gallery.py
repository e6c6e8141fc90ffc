"""The gallery is what the cells are now."""

from pathlib import Path

import pytest

from conveyor.explain.gallery import SPEED, gallery
from conveyor.zoo import CELLS
from tiers import slow

pytestmark = [slow, pytest.mark.xdist_group("gallery")]  # which is made once
FOLDER = Path(__file__).parent.parent / "docs" / "reference" / "gallery"


@pytest.fixture(scope="module")
def files():
    return gallery(FOLDER)


def test_the_gallery_is_current(files):
    """If not: python -m conveyor.explain.gallery docs/reference/gallery"""
    assert {path.name for path in FOLDER.iterdir()} == {SPEED, *files}
    for name, text in files.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, name


def test_every_cell_is_in_the_gallery_with_a_measured_speed(files):
    text = files["README.md"]
    for name in CELLS:
        assert f"\n## {name}\n" in text
        assert f"]({name}.svg)" in text
    assert text.count("**Speed:**") == len(CELLS)
