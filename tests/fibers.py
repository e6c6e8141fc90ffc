"""A GPU for the tests: the text of kernels runs on the processor, its threads as fibers.

`Fibers` is the driver with another library below it: one that checks every call as NVIDIA's does, or more, and whose
compiler is that of C.
"""

import ctypes
import re
import threading
from contextlib import nullcontext
from itertools import count
from pathlib import Path

from conveyor.targets.c import build, maths
from conveyor.targets.cuda import CUDA
from conveyor.targets.cuda.driver import (
    CLUSTER_DIMENSION,
    COOPERATIVE,
    COOPERATIVE_LAUNCH,
    MAJOR,
    MINOR,
    MULTIPROCESSORS,
    THREADS_PER_BLOCK,
    TOO_LARGE,
    Config,
    Driver,
    headers,
)
from conveyor.targets.cuda.plan import GPU
from conveyor.targets.cuda.run import TEAM, struct

HERE = Path(__file__).parent
SMALL = GPU(6, 90, threads=4)
STREAM = 77


class Library:
    """The driver's functions, so far as they are called; `order`: of the threads between two barriers, 0 from the first
    to the last, 1 from the last, or shuffled. `fits`: the blocks that can be had side by side."""

    def __init__(self, facts, order):
        self.facts, self.order, self.fits = facts, order, facts.processors
        self.modules, self.functions, self.launches, self.failing = [], [], [], 0
        self.refusing = 0  # the error of a module or a launch
        self.lock = threading.Lock()  # both directions are loaded side by side

    def cuDeviceGetAttribute(self, value, which, device):  # noqa: N802
        facts = self.facts
        value._obj.value = {
            MULTIPROCESSORS: facts.processors,
            MAJOR: facts.capability // 10,
            MINOR: facts.capability % 10,
            COOPERATIVE_LAUNCH: int(facts.cooperates),
            THREADS_PER_BLOCK: facts.threads,
        }[which]
        return 0

    def barriers(self):
        """Of each module, how many the text has, and what is set to the number of one that is to be left out."""
        found = sorted(self.modules, key=lambda one: one[1])
        return [(text.count("left_out != "), ctypes.c_int.in_dll(module, "left_out")) for module, text in found]

    def cuModuleLoadData(self, module, image):  # noqa: N802
        if self.refusing:
            return self.refusing
        double, text = image.decode().split("\n", 1)
        library = build.load(text, double == "double")
        with self.lock:
            self.modules.append((library, text))
            module._obj.value = len(self.modules)
        return 0

    def cuModuleGetFunction(self, function, module, name):  # noqa: N802
        library, _ = self.modules[module.value - 1]
        with self.lock:
            self.functions.append((library, getattr(library, name.decode())))
            function._obj.value = len(self.functions)
        return 0

    def cuGetErrorString(self, error, text):  # noqa: N802
        text._obj.value = {1: b"invalid argument"}.get(error, b"unspecified launch failure")
        return 0

    def cuLaunchKernelEx(self, config, function, given, extra):  # noqa: N802
        one, facts = config._obj, self.facts
        if self.failing:
            return self.failing
        assert isinstance(one, Config)
        assert extra is None
        assert one.stream == STREAM
        assert one.shared == 0
        (blocks, slices, z), threads = one.grid, one.block[0]
        assert z == 1
        assert list(one.block[1:]) == [1, 1]
        assert 0 < threads <= facts.threads
        assert 0 < blocks < 2**31
        assert 0 < slices < 2**16
        kinds = [one.attributes[k].id for k in range(one.count)]
        together = 1
        if COOPERATIVE in kinds:
            assert facts.cooperates
            assert one.attributes[0].value.cooperative == 1
            if blocks * slices > self.fits:
                return TOO_LARGE
            together = blocks
        if CLUSTER_DIMENSION in kinds:
            together, *rest = one.attributes[0].value.cluster
            assert facts.capability >= 90
            assert rest == [1, 1]
            assert 0 < together <= 8
            assert blocks % together == 0
        check(ctypes.cast(given[0], ctypes.POINTER(struct(TEAM, "call")))[0], blocks, kinds)
        library, kernel = self.functions[function.value - 1]
        numbers = map(ctypes.c_longlong, (blocks, slices, threads, together))
        self.launches.append((blocks, slices, threads, kinds))
        assert library.launch(kernel, given, *numbers, ctypes.c_uint(self.order)) == 0, "some threads wait for ever"
        return 0


def check(call, blocks, kinds):
    """What a kernel is told agrees with its launch."""
    assert 0 <= call.begin <= call.end
    assert call.start >= 0
    assert call.rows > 0
    assert call.batch >= 0
    assert blocks % call.blocks == 0
    assert call.blocks == blocks or call.kind < 2
    assert blocks // call.blocks * call.rows >= min(call.batch, call.rows), "some sequences have no team"
    assert call.kind == {(): call.kind, (CLUSTER_DIMENSION,): 1, (COOPERATIVE,): 2}[tuple(kinds)]
    assert (call.only >= 0) == (call.kind == 3), "a section by itself is for launches"
    assert call.kind != 2 or ctypes.cast(call.arrived, ctypes.POINTER(ctypes.c_longlong))[0] == 0
    assert call.d
    assert call.arrived
    assert call.end == 0 or (call.at and call.before and call.count)


class Fibers(Driver):
    def __init__(self, facts=SMALL, order=0):
        super().__init__()
        self.api = Library(facts, order)
        self.api.driver = self

    def forget(self):
        """What has been asked of the GPU."""
        self._gpus.clear()

    def check(self):
        build.compiler()

    def at_work(self, device):
        return nullcontext()

    def stream(self, device):
        return STREAM

    def image(self, text, double, capability):
        """As the text is, with another machine in it."""
        bodies = {"gpu.h": (HERE / "fibers.h").read_text(), "maths.h": maths(), "team.h": TEAM.read_text()}
        assert set(headers()) == set(bodies)
        for name, body in bodies.items():
            assert f'#include "{name}"\n' in text
            text = text.replace(f'#include "{name}"\n', body)
        numbers = count()
        text = re.sub(r"(?<=  )sync\(&c\);", lambda _: f"if (left_out != {next(numbers)}) sync(&c);", text)
        return f"{'double' if double else 'float'}\n{text}".encode()


def cuda(schedule=None, facts=SMALL, order=0):
    """The target, on this machine."""
    return CUDA(Fibers(facts, order), device="cpu", schedule=schedule)
