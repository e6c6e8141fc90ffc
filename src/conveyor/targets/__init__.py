"""Where the programs of a step run: what every target has, and what all of them share. A target is a folder in here."""

from __future__ import annotations

from conveyor.targets.target import CannotBuild, Kernel, Plan, Request, Result, Target

__all__ = ["CannotBuild", "Kernel", "Plan", "Request", "Result", "Target"]
