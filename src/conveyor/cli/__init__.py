"""The commands, one verb each. What they do is in other folders; here is how a person asks for it."""

from conveyor.cli.commands import main

__all__ = ["main"]
