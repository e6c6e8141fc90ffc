"""The targets, in the order in which a layer asks them whether they may run it."""

from __future__ import annotations

from typing import Any

from conveyor.targets.cpu import CPU
from conveyor.targets.target import Target

TARGETS: tuple[Target[Any], ...] = (CPU(),)
