"""CUDA C for whole sequences on a GPU, forward and backward: plan, emit, build, run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from conveyor.compiler.differentiate import Costs
from conveyor.compiler.program import Program
from conveyor.targets.cuda.driver import Driver
from conveyor.targets.cuda.emit import emit
from conveyor.targets.cuda.plan import MOST_BUFFERS, Plan, Schedule, plan
from conveyor.targets.cuda.run import CUDAKernel, Machine, Module
from conveyor.targets.target import CannotBuild, Request


class CUDA:
    """Kernels in CUDA C, compiled by NVRTC for the GPU at hand."""

    name = "cuda"
    tried = False  # by the fibers of the tests only; benchmarks/gpu.py tries it on a GPU
    costs = Costs(recompute=24)  # memory is farther from a GPU's arithmetic than from a processor's

    def __init__(self, machine: Machine | None = None, device: str = "cuda", schedule: Schedule | None = None):
        self.machine, self.device, self.schedule = machine or Driver(), device, schedule

    def refuses(self, request: Request) -> str | None:
        """What it does not run, or None."""
        if self.device == "cuda" and torch.version.hip is not None:
            return "GPUs of AMD"
        for tensor in request.tensors:
            if tensor.device.type != self.device:
                return f"tensors on {tensor.device}"
            real = tensor.is_floating_point() or tensor.is_complex()
            cast = torch.is_autocast_enabled(self.device)
            if real and tensor.dtype not in (torch.float32, torch.float64) and not cast:
                return f"elements of {tensor.dtype}"
        return None

    def plan(self, program: Program) -> Plan:
        """How a GPU computes a program."""
        return plan(program, self.schedule)

    def source(self, plan: Plan) -> str:
        """The CUDA C source."""
        return emit(plan).text

    def build(self, plans: Sequence[Plan], dtype: torch.dtype) -> list[CUDAKernel]:
        """The kernels of some plans, compiled when they first run on a device. Raises CannotBuild."""
        self.machine.check()
        for one in plans:
            if len(one.program.buffers) > MOST_BUFFERS:
                raise CannotBuild(f"a step of {len(one.program.buffers)} arrays is more than a kernel on a GPU takes")
        module = Module(plans, dtype, self.machine)
        return [CUDAKernel(module, number) for number in range(len(plans))]
