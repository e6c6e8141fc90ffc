"""C for single steps of few rows on a processor: plan, emit, pack, run."""

from conveyor.targets.step.pack import pack
from conveyor.targets.step.plan import KINDS, Plan, plan
from conveyor.targets.step.run import StepKernel, step_kernel

__all__ = ["KINDS", "Plan", "StepKernel", "pack", "plan", "step_kernel"]
