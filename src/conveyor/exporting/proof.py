"""The proof of an export: what its files give on recorded steps, whole and in chunks, is what PyTorch gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conveyor.exporting.exported import Exported
from conveyor.exporting.format import Format, Ran, Written
from conveyor.exporting.recorded import Recorded

CHUNKS = (1, 7, 64)  # lengths of chunks, besides all steps at once and each by itself


class Wrong(RuntimeError):
    """What was written does not compute what it was made from."""


@dataclass(frozen=True)
class Proof:
    """How far an export is from PyTorch.

    `error`: the largest, of outputs and last states over all ways of cutting the sequence, relative to the largest
    value or 1; `seconds`: the time a step; `obstacle`: why it was not run, and then there is neither.
    """

    steps: int
    chunks: tuple[int, ...]
    bound: float
    error: float | None = None
    seconds: float | None = None
    obstacle: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The proof for export.json."""
        if self.obstacle is not None:
            return {"not_run": self.obstacle}
        assert self.seconds is not None
        return {
            "steps": self.steps,
            "chunks": list(self.chunks),
            "largest_error": self.error,
            "bound": self.bound,
            "microseconds_per_step": round(self.seconds * 1e6, 3),
        }


def prove(form: Format, exported: Exported, folder: Path, written: Written, recorded: Recorded) -> Proof:
    """Runs what was written and compares. Raises Wrong."""
    steps = recorded.steps
    obstacle = form.obstacle(exported, folder)
    if obstacle is not None:
        return Proof(steps, CHUNKS, written.bound, obstacle=obstacle)
    worst, seconds = 0.0, float("inf")
    cuts = [[steps], cut(steps, CHUNKS), [1] * steps]
    for lengths, ran in zip(cuts, form.run(exported, folder, written, recorded.inputs, cuts), strict=True):
        found, what = largest_error(ran, recorded)
        if not found <= written.bound:
            raise Wrong(
                f"the export to {form.name} is wrong: {what} is off by {found:.3g} from PyTorch over {steps} steps in "
                f"chunks of {', '.join(map(str, lengths[:3]))}..., more than {written.bound:.3g}; nothing was written"
            )
        worst, seconds = max(worst, found), min(seconds, ran.seconds)
    return Proof(steps, CHUNKS, written.bound, worst, seconds)


def cut(steps: int, lengths: Sequence[int]) -> list[int]:
    """Chunks of these lengths, one after the other and again, that together have so many steps."""
    found: list[int] = []
    while (left := steps - sum(found)) > 0:
        found.append(min(lengths[len(found) % len(lengths)], left))
    return found


def largest_error(ran: Ran, recorded: Recorded) -> tuple[float, str]:
    """The largest, and of what."""
    worst, what = -1.0, ""
    for found, wanted, after in ((ran.outputs, recorded.outputs, ""), (ran.states, recorded.states, " in the end")):
        for name, value in both(found, wanted):
            if value > worst or value != value:
                worst, what = value, name + after
    return worst, what


def both(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    """The error of each; infinite for one of another shape or that is not there."""
    names = dict.fromkeys([*wanted, *found])
    return [(n, _error(found[n], wanted[n]) if n in found and n in wanted else float("inf")) for n in names]


def _error(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    found, wanted = found.double(), wanted.double()
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    finite = wanted[wanted.isfinite()].abs()
    size = max(1.0, finite.max().item()) if finite.numel() else 1.0
    error = torch.where(same, 0.0, (found - wanted).abs()).max().item() / size
    return error if error == error else float("inf")
