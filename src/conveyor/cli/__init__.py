"""The command line: one function per command. The commands parse flags and call the other packages."""

from conveyor.cli.commands import main

__all__ = ["main"]
