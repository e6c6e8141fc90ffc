"""The front end: from the equations of one step to its programs. It knows no cell, and no machine."""

from conveyor.compiler.exact import steps_within
from conveyor.compiler.graph import Graph
from conveyor.compiler.pipeline import inference, training
from conveyor.compiler.program import Program
from conveyor.compiler.trace import Argument, CannotCompile, trace

__all__ = [
    "Argument",
    "CannotCompile",
    "Graph",
    "Program",
    "inference",
    "steps_within",
    "trace",
    "training",
]
