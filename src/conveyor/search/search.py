"""A search on this machine, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conveyor.compare.compare import Result, Tell, carry_out
from conveyor.search import report
from conveyor.search.quest import Quest, Worth


def search(
    quest: Quest, folder: Path, url: str | None, workers: int, budget: float | None, tell: Tell
) -> tuple[Result, str]:
    """Tries all candidates that have not been, and writes the report into the folder; the source of the best.

    `url`, `budget` and what is raised: as in a comparison.
    """
    ledger, result = carry_out("conveyor.search", quest, folder, url, workers, budget, tell)
    worths = ledger.outcomes()
    if worths:
        report.write(folder, quest, worths)
    return result, "".join((folder / one.file).read_text() for one in report.ranked(worths)[:1])


def best(worths: Sequence[Worth]) -> str:
    """The best so far, in a few words."""
    return "".join(f"{one.name}, {one.worth:.3f} of the GRU" for one in report.ranked(worths)[:1]) or "none yet"
