"""The targets, in the order in which a layer asks them whether they may run it."""

from __future__ import annotations

from typing import Any

from conveyor.targets.cpu import CPU
from conveyor.targets.cuda import CUDA
from conveyor.targets.target import Target

TARGETS: tuple[Target[Any], ...] = (CPU(), CUDA())


def target(name: str) -> Target[Any]:
    """The target of this name. Raises ValueError for another."""
    found = {one.name: one for one in TARGETS}
    if name not in found:
        raise ValueError(f"there is no target {name!r}: choose among {', '.join(found)}")
    return found[name]
