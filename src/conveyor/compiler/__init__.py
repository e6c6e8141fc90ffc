"""From the equations of one step to kernels: trace, differentiate, simplify, plan, emit, build, run."""

from conveyor.compiler import operator  # whose operators a saved program wants as soon as the package is imported
from conveyor.compiler.build import BUILDING, CannotBuild
from conveyor.compiler.exact import steps_within
from conveyor.compiler.graph import Graph
from conveyor.compiler.kernel import Job, Kernel, compute
from conveyor.compiler.pipeline import inference, training
from conveyor.compiler.run import even_extent, rows_of, sgemm
from conveyor.compiler.trace import Argument, CannotCompile, trace

__all__ = [
    "BUILDING",
    "Argument",
    "CannotBuild",
    "CannotCompile",
    "Graph",
    "Job",
    "Kernel",
    "compute",
    "even_extent",
    "inference",
    "operator",
    "rows_of",
    "sgemm",
    "steps_within",
    "trace",
    "training",
]
