"""The driver's API: GPUs, modules of compiled kernels, launches on PyTorch's current stream."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from conveyor.targets.c import maths
from conveyor.targets.c.build import keep, read
from conveyor.targets.cuda import nvrtc
from conveyor.targets.cuda.plan import GPU, OLDEST, Grid, Schedule
from conveyor.targets.target import CannotBuild

HERE = Path(__file__).parent
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# Numbers of cuda.h.
MULTIPROCESSORS, MAJOR, MINOR, COOPERATIVE_LAUNCH, THREADS_PER_BLOCK = 16, 75, 76, 95, 1
COOPERATIVE, CLUSTER_DIMENSION = 2, 4
TOO_LARGE = 720  # blocks for a cooperative launch
CLUSTER_TOO_LARGE = 912


class Value(ctypes.Union):
    """CUlaunchAttributeValue, so far as it is used."""

    _fields_ = (("cooperative", ctypes.c_int), ("cluster", ctypes.c_uint * 3), ("room", ctypes.c_char * 64))


class Attribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = (("id", ctypes.c_int), ("padding", ctypes.c_int), ("value", Value))


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("count", ctypes.c_uint),
    )


@dataclass(frozen=True)
class Function:
    """A kernel that is loaded on a device."""

    name: str
    handle: ctypes.c_void_p
    device: torch.device


class Driver:
    """NVIDIA's driver, and NVRTC before it."""

    def __init__(self) -> None:
        self._gpus: dict[torch.device, GPU] = {}

    @cached_property
    def api(self) -> Any:
        """The driver's functions. Raises CannotBuild."""
        try:
            return ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CannotBuild(f"NVIDIA's driver cannot be loaded: {error}; install it") from None

    def check(self) -> None:
        """Raises CannotBuild if there is no driver or no NVRTC."""
        assert self.api is not None
        nvrtc.loaded()

    def at_work(self, device: torch.device) -> AbstractContextManager[Any]:
        """Has a device be the current one, in this block."""
        return torch.cuda.device(device)

    def stream(self, device: torch.device) -> int:
        """PyTorch's current stream."""
        return torch.cuda.current_stream(device).cuda_stream

    def gpu(self, device: torch.device) -> GPU:
        """What a plan must know of it."""
        if device not in self._gpus:
            with self.at_work(device):
                processors, major, minor, together, threads = (
                    self._attribute(which, device)
                    for which in (MULTIPROCESSORS, MAJOR, MINOR, COOPERATIVE_LAUNCH, THREADS_PER_BLOCK)
                )
            self._gpus[device] = GPU(processors, 10 * major + minor, threads, bool(together))
        return self._gpus[device]

    def _attribute(self, which: int, device: torch.device) -> int:
        value = ctypes.c_int()
        error = self.api.cuDeviceGetAttribute(ctypes.byref(value), which, device.index or 0)
        if error:
            raise CannotBuild(f"{device} does not say what it is: {self._said(error)}")
        return value.value

    def image(self, text: str, double: bool, capability: int) -> bytes:
        """What a text compiles to, from the cache if it is there. Raises CannotBuild."""
        target, included = nvrtc.architecture(capability), headers()
        content = "\n".join([text, *included.values(), target, *options(double), str(nvrtc.version())])
        return keep(content, ".cubin", lambda: nvrtc.compile(text, included, target, options(double))[0])

    def load(self, text: str, names: Sequence[str], double: bool, device: torch.device) -> Mapping[str, Function]:
        """The functions of these names. Raises CannotBuild."""
        capability = self.gpu(device).capability
        if capability < OLDEST:
            raise CannotBuild(f"{device} has compute capability {capability / 10}, and kernels need {OLDEST / 10}")
        image = self.image(text, double, capability)
        module, found = ctypes.c_void_p(), {}
        with self.at_work(device):
            error = self.api.cuModuleLoadData(ctypes.byref(module), image)
            if error:
                raise CannotBuild(
                    f"the driver does not take what NVRTC compiles: {self._said(error)}; install a newer driver"
                )
            for name in names:
                handle = ctypes.c_void_p()
                error = self.api.cuModuleGetFunction(ctypes.byref(handle), module, name.encode())
                if error:
                    raise CannotBuild(f"there is no {name} in what NVRTC has compiled: {self._said(error)}")
                found[name] = Function(name, handle, device)
        return found

    def launch(self, function: Function, grid: Grid, arguments: Sequence[Any]) -> bool:
        """Launches a function on PyTorch's current stream. False: so many blocks do not fit side by side.

        Raises RuntimeError for what else goes wrong.
        """
        attributes = (Attribute * 1)()
        if grid.schedule == Schedule.CLUSTER:
            attributes[0].id, attributes[0].value.cluster = CLUSTER_DIMENSION, (grid.blocks, 1, 1)
        elif grid.schedule == Schedule.GRID:
            attributes[0].id, attributes[0].value.cooperative = COOPERATIVE, 1
        config = Config(
            grid=(grid.blocks * grid.teams, grid.slices, 1),
            block=(grid.threads, 1, 1),
            stream=self.stream(function.device),
            attributes=attributes,
            count=int(attributes[0].id != 0),
        )
        given = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        with self.at_work(function.device):
            error = self.api.cuLaunchKernelEx(ctypes.byref(config), function.handle, given, None)
        if error in (TOO_LARGE, CLUSTER_TOO_LARGE):
            return False
        if error:
            raise RuntimeError(
                f"{function.name} cannot be launched on {function.device}: {self._said(error)}; "
                "use conveyor.backend('eager')"
            )
        return True

    def _said(self, error: int) -> str:
        """What the driver says of an error."""
        text = ctypes.c_char_p()
        self.api.cuGetErrorString(error, ctypes.byref(text))
        return f"{(text.value or b'unknown error').decode()} (error {error})"


def options(double: bool) -> list[str]:
    """What tells a text the type of its numbers."""
    return ["-DREAL=double", "-DDOUBLE"] if double else ["-DREAL=float"]


def headers() -> dict[str, str]:
    """What a kernel's text includes, by name."""
    return {"gpu.h": read(HERE / "gpu.h"), "maths.h": maths(), "team.h": read(HERE / "team.h")}
