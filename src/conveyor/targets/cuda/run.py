"""Kernels run: memory from PyTorch's allocator, launches on its current stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from conveyor.compiler.graph import Key
from conveyor.compiler.program import Space
from conveyor.targets.batch_layout import BatchLayout
from conveyor.targets.build_once import BuildOnce
from conveyor.targets.c.checks import empty
from conveyor.targets.c.structs import Pointer, struct
from conveyor.targets.cuda.emit import emit
from conveyor.targets.cuda.plan import GPU, By, Grid, Part, Plan, Schedule
from conveyor.targets.cuda.products import Products
from conveyor.targets.target import Result

TEAM = Path(__file__).parent / "team.h"
TEAMS = list(Schedule)  # in the order of the enum in team.h


class Machine(Protocol):
    """What makes functions of a text, and launches them."""

    def check(self) -> None:
        """Raises CannotBuild if it can make no function at all."""
        ...

    def gpu(self, device: torch.device) -> GPU:
        """What a plan must know of it."""
        ...

    def load(self, text: str, names: Sequence[str], double: bool, device: torch.device) -> Mapping[str, Any]:
        """The functions of these names. Raises CannotBuild."""
        ...

    def launch(self, function: Any, grid: Grid, arguments: Sequence[Any]) -> bool:
        """Launches a function on PyTorch's current stream. False: so many blocks do not fit side by side."""
        ...


@dataclass(frozen=True)
class _Loaded:
    """A kernel on one device."""

    functions: Mapping[str, Any]
    numbers: Tensor
    constants: Tensor


class Module:
    """Plans that are used together, spelled: compiled for a device, side by side, when one of them first runs there."""

    def __init__(self, plans: Sequence[Plan], dtype: torch.dtype, machine: Machine):
        self.plans, self.dtype, self.machine = plans, dtype, machine
        self.sources = [emit(plan) for plan in plans]
        self._loaded: dict[torch.device, list[_Loaded]] = {}
        self._attempts: dict[torch.device, BuildOnce] = {}

    def on(self, device: torch.device) -> list[_Loaded]:
        """Each plan's functions and tables. Raises CannotBuild."""
        if device not in self._loaded:
            with self._attempts.setdefault(device, BuildOnce()):
                if device not in self._loaded:
                    with ThreadPoolExecutor(len(self.plans)) as pool:
                        made = pool.map(lambda k: self._load(k, device), range(len(self.plans)))
                        self._loaded[device] = list(made)
        return self._loaded[device]

    def _load(self, k: int, device: torch.device) -> _Loaded:
        source = self.sources[k]
        names = [f"kernel{i}" for i, part in enumerate(self.plans[k].parts) if part.by == By.KERNEL]
        functions = self.machine.load(source.text, names, self.dtype == torch.float64, device) if names else {}
        numbers = torch.tensor(source.numbers, dtype=torch.int64, device=device)
        return _Loaded(functions, numbers, torch.tensor(source.constants, dtype=self.dtype, device=device))


class CUDAKernel:
    """One plan of a module."""

    def __init__(self, module: Module, number: int):
        self.module, self.number, self.plan = module, number, module.plans[number]
        self.program, self.dtype, self.machine = self.plan.program, module.dtype, module.machine
        self.Pointers = Pointer * len(self.program.buffers)

    def __call__(
        self, inputs: Mapping[Key, Tensor], states: Sequence[Tensor], layout: BatchLayout, start: int = 0
    ) -> Result:
        device = layout.at.device
        loaded, gpu = self.module.on(device)[self.number], self.machine.gpu(device)
        grids = [
            self.plan.grid(part, layout.batch, layout.steps, gpu) if part.by == By.KERNEL else None
            for part in self.plan.parts
        ]
        slices = max([1, *(grid.slices for grid in grids if grid)])
        buffers = self._buffers(inputs, states, layout, slices, device)
        pointers = self.Pointers(*(buffers[i].data_ptr() for i in range(len(self.program.buffers))))
        arrived = torch.zeros(len(grids), dtype=torch.int64, device=device)
        products = Products(self.program, buffers, layout)
        for k, (part, grid) in enumerate(zip(self.plan.parts, grids, strict=True)):
            if grid is None:
                with torch.autocast(device.type, enabled=False):
                    products.run(part.stages)
                continue
            fixed = self._call(loaded, layout, start, arrived[k])
            function = loaded.functions[f"kernel{k}"]
            if not self._launch(function, part, grid, fixed, pointers):
                grid = self.plan.grid(part, layout.batch, layout.steps, gpu, Schedule.LAUNCHES)
                self._launch(function, part, grid, fixed, pointers)
        return Result(self.program, {i: buffers[i] for i in self.program.kept}, layout)

    def _buffers(
        self,
        inputs: Mapping[Key, Tensor],
        states: Sequence[Tensor],
        layout: BatchLayout,
        slices: int,
        device: torch.device,
    ) -> list[Tensor]:
        """All buffers, [rows, width], with the inputs and first states in their places."""
        program, made = self.program, {}
        for key, i in program.input_buffers.items():
            if inputs[key].device != device:
                raise RuntimeError(f"{key} is on {inputs[key].device}, and the sequences are on {device}")
            made[i] = inputs[key].detach()
        shapes = [self._shape(i, layout, slices) for i in range(len(program.buffers))]
        buffers = [
            made[i].view(shape) if i in made else empty(self.dtype, *shape, device=device)
            for i, shape in enumerate(shapes)
        ]
        for i in program.zero:
            buffers[i].zero_()
        pairs = program.reverse or layout.lengths is not None
        for i, first in zip(program.states.values(), states, strict=True):
            twice = pairs and program.buffers[i].space == Space.PAIR
            for k in range(2 if twice else 1):
                buffers[i][k * layout.batch : (k + 1) * layout.batch] = first.detach()
        return buffers

    def _shape(self, i: int, layout: BatchLayout, slices: int) -> tuple[int, int]:
        one = self.program.buffers[i]
        rows = one.depth if one.space == Space.MATRIX else one.space.rows(layout.rows, layout.batch)
        return rows * (slices if one.space == Space.SCRATCH else 1), one.width

    def _call(self, loaded: _Loaded, layout: BatchLayout, start: int, arrived: Tensor) -> Any:
        return struct(TEAM, "call")(
            d=loaded.numbers.data_ptr(),
            k=loaded.constants.data_ptr(),
            at=layout.at.data_ptr(),
            before=layout.before.data_ptr(),
            count=layout.count.data_ptr(),
            arrived=arrived.data_ptr(),
            batch=layout.batch,
            start=start,
            begin=0,
            end=layout.steps,
            only=-1,
        )

    def _launch(self, function: Any, part: Part, grid: Grid, call: Any, pointers: Any) -> bool:
        """The launches of a part. False: nothing has been run, since so many blocks do not fit side by side."""
        call.rows, call.kind, call.blocks = grid.rows, TEAMS.index(grid.schedule), grid.blocks
        for begin, end, only in self._turns(part, grid, call.end):
            one = type(call).from_buffer_copy(call)
            one.begin, one.end, one.only = begin, end, only
            if not self.machine.launch(function, grid, (one, pointers)):
                return False
        return True

    def _turns(self, part: Part, grid: Grid, steps: int) -> Iterator[tuple[int, int, int]]:
        """The first step, the last, and the only section of each launch, -1 for all."""
        if grid.schedule != Schedule.LAUNCHES:
            yield 0, steps, -1
            return
        order = range(steps) if part.over == "time" else range(1)
        for step in reversed(order) if self.program.reverse else order:
            for section in range(len(part.sections)):
                yield step, step + 1, section
