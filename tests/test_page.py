"""The page of all cells is what the cells say now."""

from pathlib import Path

from conveyor.zoo.page import page

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cells.md"


def test_the_page_of_the_cells_is_current():
    """If not: python -m conveyor.zoo.page > docs/reference/cells.md"""
    assert PAGE.read_text(encoding="utf-8") == page()
