"""C for whole sequences on a processor, forward and backward: plan, emit, build, run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from conveyor.compiler.differentiate import Costs
from conveyor.compiler.program import Program
from conveyor.targets.cpu.emit import emit
from conveyor.targets.cpu.loading import load_at_once
from conveyor.targets.cpu.plan import Plan, plan
from conveyor.targets.cpu.run import CKernel
from conveyor.targets.target import Request


class CPU:
    """Kernels in C, compiled for the processor at hand."""

    name = device = "cpu"
    tried = True
    costs = Costs(recompute=24)  # one tanh, not two

    def refuses(self, request: Request) -> str | None:
        """What it does not run, or None."""
        if not request.insists and not request.gradients and request.steps == 1:
            return "a single step"  # matrices are packed for each run, which takes longer than the step by the loop
        for tensor in request.tensors:
            if tensor.device.type != "cpu":
                return f"tensors on {tensor.device}"
            real = tensor.is_floating_point() or tensor.is_complex()
            if real and tensor.dtype not in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu"):
                return f"elements of {tensor.dtype}"
        return None

    def plan(self, program: Program) -> Plan:
        """How a processor computes a program."""
        return plan(program)

    def source(self, plan: Plan) -> str:
        """The C source."""
        return emit(plan).text

    def build(self, plans: Sequence[Plan], dtype: torch.dtype) -> list[CKernel]:
        """The kernels of some plans, compiled side by side. Raises CannotBuild."""
        sources = [emit(one) for one in plans]
        load_at_once([source.text for source in sources], dtype == torch.float64)
        return [CKernel(one, source, dtype) for one, source in zip(plans, sources, strict=True)]
