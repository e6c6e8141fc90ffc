"""A search on this machine, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from conveyor.compare.compare import RUNS, Result, Tell, carry_out
from conveyor.compare.ledger import Counts
from conveyor.errors import BadInput
from conveyor.search import report
from conveyor.search.quest import TRIED, Quest, Worth


def search(
    quest: Quest, folder: Path, url: str | None, workers: int, budget: float | None, tell: Tell
) -> tuple[Result, str]:
    """Tries all candidates that have not been, and writes the report into the folder; the source of the best.

    `url`, `budget` and what is raised: as in a comparison; and BadInput where the GRU learns nothing.
    """

    def told(counts: Counts, seconds: float, outcomes: Callable[[], list[Worth]]) -> None:
        if counts.complete == 1:  # the GRU goes before all
            check(quest, folder, outcomes())
        tell(counts, seconds, outcomes)

    ledger, result = carry_out("conveyor.search", quest, folder, url, workers, budget, told)
    worths = ledger.outcomes()
    if worths:
        check(quest, folder, worths)
        report.write(folder, quest, worths)
    return result, "".join(quest.birth(one.number, worths).source for one in report.ranked(worths)[:1])


def check(quest: Quest, folder: Path, worths: Sequence[Worth]) -> None:
    """Raises BadInput where nobody can be measured by the GRU."""
    reference = next((one for one in worths if one.number == 0), None)
    if reference is None:
        return
    weak = report.weak_tasks(quest, worths)
    cure = f"give more --steps or --parameters, or other --tasks, and another --out; see {folder / RUNS / '0'}"
    if reference.fate != TRIED:
        raise BadInput(f"the GRU, by which all are measured, did not get far enough: it {reference.fate}; {cure}")
    if len(weak) == len(quest.tasks):
        raise BadInput(f"the GRU, by which all are measured, learns next to nothing of {', '.join(weak)}: {cure}")


def best(worths: Sequence[Worth]) -> str:
    """The best so far, in a few words."""
    first = [f"Candidate{one.number}, {one.worth:.3f} of the GRU" for one in report.ranked(worths)[:1]]
    return f"best: {''.join(first) or 'none yet'}"
