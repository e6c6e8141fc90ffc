"""A GPU for the tests: the text of kernels runs on the processor, its threads as fibers."""

import ctypes
from pathlib import Path

from conveyor.targets.c import build, maths
from conveyor.targets.cuda import CUDA
from conveyor.targets.cuda.plan import GPU, Schedule
from conveyor.targets.cuda.run import TEAM

HERE = Path(__file__).parent
SMALL = GPU(6, 90, threads=4)


class Fibers:
    """`order`: of the threads between two barriers; 0 from the first to the last, 1 from the last, or shuffled."""

    def __init__(self, facts=SMALL, order=0):
        self.facts, self.order, self.launches = facts, order, []

    def gpu(self, device):
        return self.facts

    def load(self, text, names, double, device):
        for name, body in (
            ("gpu.h", (HERE / "fibers.h").read_text()),
            ("maths.h", maths()),
            ("team.h", TEAM.read_text()),
        ):
            assert f'#include "{name}"\n' in text
            text = text.replace(f'#include "{name}"\n', body)
        library = build.load(text, double)
        return {name: (library, getattr(library, name)) for name in names}

    def launch(self, function, grid, arguments, device):
        library, kernel = function
        given = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        size = ctypes.c_longlong
        blocks = grid.blocks * grid.teams
        together = blocks if grid.schedule == Schedule.GRID else grid.blocks
        numbers = (size(blocks), size(grid.slices), size(grid.threads), size(together), ctypes.c_uint(self.order))
        self.launches.append((grid, numbers))
        assert library.launch(kernel, given, *numbers) == 0, "some threads wait for ever"
        return True


def cuda(schedule=None, **facts):
    return CUDA(Fibers(**facts), device="cpu", schedule=schedule)
