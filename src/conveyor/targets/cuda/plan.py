"""What a program becomes on a GPU: what a kernel does and what PyTorch, and where threads wait for each other.

A kernel's text is the same for every size. How many threads run it, and how they share the sequences, is a `Grid`,
which a plan gives for a batch and a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from math import prod

from conveyor.compiler.program import Contract, Gemm, Loop, Pack, Program, Reduce, Space, Stage
from conveyor.targets.cuda.barriers import accesses, sections

OLDEST = 70  # compute capability, since which threads of a warp wait for each other one by one
THREADS = 256  # of a block
MOST_BUFFERS = 400  # pointers that a kernel takes: its parameters have 4096 bytes
RESIDENT = 1 << 16  # elements of a step's matrices that one block reads at each step without being slow
CLUSTER = 8  # blocks of a cluster, the most that every GPU of compute capability 9 has
ON_CLUSTER = 1 << 19  # elements of a step's matrices that a cluster reads so


class Schedule(StrEnum):
    """What a team is that has some sequences for all steps, and how its threads wait for each other."""

    BLOCK = "block"  # one block, by the barrier of a block
    CLUSTER = "cluster"  # the blocks of a cluster, by its barrier
    GRID = "grid"  # all blocks, side by side in a cooperative launch, by a counter in memory
    LAUNCHES = "launches"  # all blocks, by the end of a launch: there is one for each section of each step


@dataclass(frozen=True)
class GPU:
    """What a plan must know of a GPU: multiprocessors, compute capability as 90 for 9.0, threads that a block may have,
    and whether all blocks of a launch can be had side by side."""

    processors: int
    capability: int
    threads: int = THREADS
    cooperates: bool = True

    def has(self, schedule: Schedule) -> bool:
        """Whether such a team can be had."""
        return {Schedule.CLUSTER: self.capability >= 90, Schedule.GRID: self.cooperates}.get(schedule, True)


@dataclass(frozen=True)
class Grid:
    """How the sequences are shared: each of `teams` teams of `blocks` blocks of `threads` threads has `rows` of them,
    and where steps do not wait for each other, each of `slices` teams has some of these."""

    schedule: Schedule
    threads: int
    blocks: int = 1
    rows: int = 1
    teams: int = 1
    slices: int = 1


class By(Enum):
    """Who does a part."""

    PYTORCH = "PyTorch"
    KERNEL = "a kernel"


@dataclass(frozen=True)
class Part:
    """Stages done in turn, by PyTorch or by one kernel. `over`: as in schedule.Section.

    `sections`: between two of them the threads of a team wait for each other; after the last, too, if `again`.
    `carries`: a step waits for the one before it.
    """

    over: str
    by: By
    sections: tuple[tuple[Stage, ...], ...]
    again: bool = False
    carries: bool = False

    @property
    def stages(self) -> list[Stage]:
        """All of them."""
        return [stage for section in self.sections for stage in section]

    @property
    def barriers(self) -> list[bool]:
        """Whether threads wait after each section."""
        return [*[True] * (len(self.sections) - 1), self.again]


@dataclass(frozen=True)
class Plan:
    """The parts of a program, in order; `forced`: the schedule of parts that carry a state, where the GPU has it."""

    program: Program
    parts: tuple[Part, ...]
    forced: Schedule | None = None

    @cached_property
    def matrices(self) -> int:
        """The elements of all matrices that a step multiplies by."""
        found = {s.matrix for part in self.parts if part.carries for s in part.stages if isinstance(s, Gemm)}
        return sum(self.program.buffers[i].width * self.program.buffers[i].depth for i in found)

    def schedule(self, gpu: GPU) -> Schedule:
        """That of the parts that carry a state."""
        if self.forced is not None and gpu.has(self.forced):
            return self.forced
        if self.matrices <= RESIDENT:
            return Schedule.BLOCK
        few = self.matrices <= ON_CLUSTER
        wide = (Schedule.CLUSTER, Schedule.GRID) if few else (Schedule.GRID,)
        return next(filter(gpu.has, wide), Schedule.LAUNCHES)

    def grid(self, part: Part, batch: int, steps: int, gpu: GPU, schedule: Schedule | None = None) -> Grid:
        """How a kernel's part is shared, for so many sequences and steps; `schedule`: another than the plan's own."""
        threads, batch = min(THREADS, gpu.threads), max(1, batch)
        chosen = schedule or (self.schedule(gpu) if part.carries else Schedule.BLOCK)
        if part.over == "shared":
            return Grid(Schedule.BLOCK, threads)
        if chosen in (Schedule.GRID, Schedule.LAUNCHES):
            work = max(map(_elements, part.stages), default=1) * batch
            return Grid(chosen, threads, max(1, min(gpu.processors, -(-work // threads))), batch)
        blocks = CLUSTER if chosen == Schedule.CLUSTER else 1
        rows = -(-batch * blocks // gpu.processors)
        teams = -(-batch // rows)
        free = part.over == "time" and not part.carries
        slices = max(1, min(steps, 2 * gpu.processors // teams)) if free else 1
        return Grid(chosen, threads, blocks, rows, teams, slices)

    def __str__(self) -> str:
        lines = []
        for part in self.parts:
            if part.by == By.PYTORCH:
                lines.append(f"  {part.over}, by PyTorch: {len(part.stages)} products, sums and copies of matrices")
                continue
            order = f", the steps in {'order' if part.carries else 'any order'}" if part.over == "time" else ""
            lines.append(f"  {part.over}, by a kernel{order}:")
            for section, waits in zip(part.sections, part.barriers, strict=True):
                lines += [f"    {'; '.join(map(_what, section))}", *(["    barrier"] if waits else [])]
        lines.append(
            f"  a step's matrices have {self.matrices:,} elements: up to {RESIDENT:,} each block has some sequences, "
            f"up to {ON_CLUSTER:,} each cluster of {CLUSTER} (compute capability 9), beyond that the grid has all"
        )
        return "\n".join([str(self.program), "on a GPU:", *lines])


def plan(program: Program, forced: Schedule | None = None) -> Plan:
    """How a GPU does a program."""
    main = _main(program)
    parts = []
    for k, one in enumerate(program.passes):
        by_pytorch = one.over == "bulk" or all(isinstance(stage, Pack) for stage in one.stages)
        if by_pytorch:
            parts.append(Part(one.over, By.PYTORCH, (one.stages,)))
            continue
        carries = one.over == "time" and (k == main or _keeps(program, one.stages))
        cut, again = sections(program, one.stages, one.over == "time")
        parts.append(Part(one.over, By.KERNEL, cut, again, carries))
    return Plan(program, tuple(parts), forced)


def _main(program: Program) -> int:
    """The pass that carries the states, or -1."""
    states = set(program.states.values())
    for k, one in enumerate(program.passes):
        if one.over == "time" and any(a.writes and a.buffer in states for s in one.stages for a in accesses(s)):
            return k
    return -1


def _keeps(program: Program, stages: tuple[Stage, ...]) -> bool:
    """Whether steps write to the same place, as a sum over them does."""
    spaces = (Space.ROWS, Space.SHARED)
    return any(a.writes and program.buffers[a.buffer].space in spaces for s in stages for a in accesses(s))


def _elements(stage: Stage) -> int:
    """The elements of what a stage makes, for each row."""
    if isinstance(stage, Gemm):
        return stage.lead * stage.width
    if isinstance(stage, Contract):
        return prod(dict(stage.sizes)[c] for c in stage.labels[2])
    return prod(stage.dims if isinstance(stage, Loop) else stage.outer if isinstance(stage, Reduce) else ())


def _what(stage: Stage) -> str:
    if isinstance(stage, Gemm):
        return f"product with matrix {stage.matrix}"
    if isinstance(stage, Loop):
        return ", ".join(line.name or line.op for line in stage.lines)
    return stage.op if isinstance(stage, Reduce) else "sum of products"
