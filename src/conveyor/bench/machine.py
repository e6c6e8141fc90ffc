"""The limits of the machine, measured in the same run as the contenders."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conveyor.targets import CannotBuild
from conveyor.targets.cpu.run import sgemm

SIZE = 1024  # of the square matrices
# Cache sizes of a small core, used if the system does not report them.
ASSUMED = {"L1": 32 * 2**10, "L2": 512 * 2**10, "L3": 8 * 2**20}
SYSTEM = Path("/sys/devices/system/cpu")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Conditions:
    """What times depend on besides the code that is timed: those of two runs compare where these are the same."""

    processor: str  # its name, as the system tells it
    processors: int  # how many of them the machine has
    vectors: str  # the widest vector instructions that PyTorch's operations take, such as "AVX2"
    torch: str  # its version

    @classmethod
    def here(cls) -> Conditions:
        """Those of this machine and process."""
        vectors = torch.backends.cpu.get_cpu_capability()
        return cls(processor_name(), os.cpu_count() or 1, vectors, torch.__version__)


@dataclass(frozen=True)
class Machine:
    """The machine with a given number of threads.

    `products` are floating-point operations per second of float32 matrix products, by library. `caches` are bytes by
    level, summed over the cores of all threads. `reads` are bytes per second from L2, L3 and memory. `pinned` tells
    whether the process is restricted to as many processors.
    """

    threads: int
    pinned: bool
    products: dict[str, float]
    caches: dict[str, int]
    reads: dict[str, float]

    @property
    def sgemm(self) -> float:
        """Floating-point operations per second of the fastest matrix product measured."""
        return max(self.products.values())

    def bandwidth(self, size: int) -> float:
        """Bytes per second at which `size` bytes can be read repeatedly; infinite for L1, which is never the limit."""
        for level, capacity in sorted(self.caches.items()):
            if size <= capacity:
                return self.reads.get(level, math.inf)
        return self.reads["memory"]


def measure(threads: int, pinned: bool, cpus: list[int], seconds: float = 0.5) -> Machine:
    """Measures the machine: the best of many repetitions, with `seconds` for each figure."""
    caches = cache_sizes(cpus)
    products = {}
    for name, product in SGEMMS.items():
        with contextlib.suppress(ImportError, CannotBuild):  # not installed, or no compiler
            products[name] = product(seconds)
    levels = {level: size // 2 for level, size in caches.items() if level != "L1"}
    levels["memory"] = min(4 * max(caches.values()), 2**30)
    reads = {level: _reading_speed(size, seconds) for level, size in levels.items()}
    return Machine(threads, pinned, products, caches, reads)


def torch_sgemm(seconds: float) -> float:
    """Floating-point operations per second of PyTorch's matrix product."""
    a, b, c = (torch.ones(SIZE, SIZE) for _ in range(3))
    return 2 * SIZE**3 / _fastest(lambda: torch.mm(a, b, out=c), seconds)


def jax_sgemm(seconds: float) -> float:
    """Floating-point operations per second of JAX's matrix product, which is twice as fast on some machines."""
    import jax

    product, a = jax.jit(jax.numpy.matmul), jax.numpy.ones((SIZE, SIZE))
    product(a, a).block_until_ready()
    return 2 * SIZE**3 / _fastest(lambda: product(a, a).block_until_ready(), seconds)


def own_sgemm(seconds: float) -> float:
    """Floating-point operations per second of the matrix product that our kernels call."""
    product = sgemm(SIZE)
    return 2 * SIZE**3 / _fastest(product, seconds)


# The matrix products that are measured; the fastest counts as the limit of the machine.
SGEMMS: dict[str, Callable[[float], float]] = {"torch": torch_sgemm, "conveyor": own_sgemm, "jax": jax_sgemm}


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """The name of the processor, or its architecture where the system does not tell the name."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cache_sizes(cpus: list[int], system: Path = SYSTEM) -> dict[str, int]:
    """Bytes of each cache level, summed over the caches of these processors."""
    found: dict[str, dict[str, int]] = {}
    for cpu in cpus:
        for index in (system / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                level, kind, size, shared = (
                    (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
                )
            except OSError:  # a virtual machine may report only part of it
                continue
            if kind != "Instruction":
                found.setdefault(f"L{level}", {})[shared] = _bytes(size)
    if not found:
        return {level: size * (1 if level == "L3" else len(cpus)) for level, size in ASSUMED.items()}
    return {level: sum(instances.values()) for level, instances in sorted(found.items())}


def _bytes(text: str) -> int:
    """ "512K" """
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def _reading_speed(size: int, seconds: float) -> float:
    # The sum is PyTorch's fastest operation that only reads.
    values = torch.ones(max(size // 4, 1))
    total = torch.empty(())
    return size / _fastest(lambda: torch.sum(values, 0, out=total), seconds)


def _fastest(run: Callable[[], Any], seconds: float) -> float:
    end, best = time.perf_counter() + seconds, math.inf
    while best == math.inf or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best
