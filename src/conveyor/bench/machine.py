"""What the machine can do, measured in the same run as what is compared with it."""

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
# Where the system does not tell the sizes of its caches: those of a small core.
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
        vectors = torch.backends.cpu.get_cpu_capability()
        return cls(processor_name(), os.cpu_count() or 1, vectors, torch.__version__)


@dataclass(frozen=True)
class Machine:
    """The machine with so many threads.

    `products` are floating-point operations a second of float32 matrix products, by library; `caches` are bytes by
    level, those of all threads' cores together; `reads` are bytes a second from L2, L3 and memory. `pinned`: the
    process has just these processors.
    """

    threads: int
    pinned: bool
    products: dict[str, float]
    caches: dict[str, int]
    reads: dict[str, float]

    @property
    def sgemm(self) -> float:
        """Floating-point operations a second of the fastest matrix product: what the machine is known to do."""
        return max(self.products.values())

    def bandwidth(self, size: int) -> float:
        """Bytes a second at which so many bytes can be read over and over; from L1 faster than matters here."""
        for level, capacity in sorted(self.caches.items()):
            if size <= capacity:
                return self.reads.get(level, math.inf)
        return self.reads["memory"]


def measure(threads: int, pinned: bool, cpus: list[int], seconds: float = 0.5) -> Machine:
    """The machine's figures, the best of many tries, with so many seconds for each figure."""
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
    """Floating-point operations a second of PyTorch's matrix product."""
    a, b, c = (torch.ones(SIZE, SIZE) for _ in range(3))
    return 2 * SIZE**3 / _fastest(lambda: torch.mm(a, b, out=c), seconds)


def jax_sgemm(seconds: float) -> float:
    """That of JAX, which on some machines is twice as fast: not every library has a product for every processor."""
    import jax

    product, a = jax.jit(jax.numpy.matmul), jax.numpy.ones((SIZE, SIZE))
    product(a, a).block_until_ready()
    return 2 * SIZE**3 / _fastest(lambda: product(a, a).block_until_ready(), seconds)


def own_sgemm(seconds: float) -> float:
    """Floating-point operations a second of the product that the kernels call."""
    product = sgemm(SIZE)
    return 2 * SIZE**3 / _fastest(product, seconds)


# All ways to multiply matrices; the fastest of them is what the machine can do. A further one is added here.
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
    """Bytes of each level of cache that these processors have together."""
    found: dict[str, dict[str, int]] = {}
    for cpu in cpus:
        for index in (system / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                level, kind, size, shared = (
                    (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
                )
            except OSError:  # a virtual machine may tell only some of it
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
    # Of PyTorch's operations that only read, the sum is the fastest.
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
