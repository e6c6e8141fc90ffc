"""The kernels and the runtime as libraries of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from conveyor.targets.c import build, maths

HERE = Path(__file__).parent


def load(source: str, double: bool, level: str = "-O3") -> ctypes.CDLL:
    """The library that `source` compiles to, with what it includes. Raises CannotBuild."""
    for name, text in (("runtime.h", build.read(HERE / "runtime.h")), ("maths.h", maths())):
        source = source.replace(f'#include "{name}"\n', text)
    return build.load(source, double, level)


def load_at_once(sources: Sequence[str], double: bool) -> None:
    """Has all of them and the runtime compiled side by side, if that is still to be done."""
    with ThreadPoolExecutor(len(sources) + 1) as pool:
        waiting = [pool.submit(runtime, double), *(pool.submit(load, source, double) for source in sources)]
        for one in waiting:
            one.result()


@cache
def runtime(double: bool) -> ctypes.CDLL:
    """The matrix products and threads that every kernel calls."""
    # Its loops are spelled out, so that more than -O2 only takes longer.
    library = load(build.read(HERE / "runtime.c"), double, "-O2")
    library.outer_room.restype, library.outer_room.argtypes = ctypes.c_ssize_t, [ctypes.c_ssize_t]
    return library
