"""Runs a search on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from conveyor.compare.compare import RUNS, Result, Tell, carry_out
from conveyor.compare.ledger import Counts
from conveyor.errors import BadInput
from conveyor.search import report
from conveyor.search.config import EVALUATED, Outcome, SearchConfig


def search(
    config: SearchConfig, folder: Path, url: str | None, workers: int, budget: float | None, tell: Tell
) -> tuple[Result, str]:
    """Evaluates all candidates that have not been evaluated and writes the report into the folder.

    Returns the result and the source of the best cell. `url`, `budget` and exceptions are those of
    `compare.compare.compare`; also raises BadInput if the GRU, the reference, learns nothing.
    """

    def checked(counts: Counts, seconds: float, outcomes: Callable[[], list[Outcome]]) -> None:
        if counts.complete == 1:  # the GRU comes first
            check(config, folder, outcomes())
        tell(counts, seconds, outcomes)

    ledger, result = carry_out("conveyor.search", config, folder, url, workers, budget, checked)
    outcomes = ledger.outcomes()
    if outcomes:
        check(config, folder, outcomes)
        report.write(folder, config, outcomes)
    return result, "".join(config.candidate(one.number, outcomes).source for one in report.ranked(outcomes)[:1])


def check(config: SearchConfig, folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Raises BadInput if the GRU learns too little to serve as a reference."""
    reference = next((one for one in outcomes if one.number == 0), None)
    if reference is None:
        return
    weak = report.weak_tasks(config, outcomes)
    cure = f"increase --steps or --parameters, or change --tasks, with another --out; see {folder / RUNS / '0'}"
    if reference.status != EVALUATED:
        raise BadInput(f"the GRU, the reference of the search, failed: {reference.status}; {cure}")
    if len(weak) == len(config.tasks):
        raise BadInput(f"the GRU, the reference of the search, learns next to nothing on {', '.join(weak)}: {cure}")


def best(outcomes: Sequence[Outcome]) -> str:
    """The best candidate so far, for the progress line."""
    first = [f"Candidate{one.number}, fitness {one.fitness:.3f}" for one in report.ranked(outcomes)[:1]]
    return f"best: {''.join(first) or 'none yet'}"
