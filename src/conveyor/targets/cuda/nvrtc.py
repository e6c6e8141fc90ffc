"""NVRTC, the compiler of CUDA C: it comes with PyTorch for CUDA, and by itself as nvidia-cuda-nvrtc-cu12.

image, log = nvrtc.compile(text, headers, "sm_90", ["-DREAL=float"])
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conveyor.targets.target import CannotBuild

CURE = "pip install nvidia-cuda-nvrtc-cu12, or a PyTorch for CUDA"
NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll")


@cache
def loaded() -> ctypes.CDLL:
    """NVRTC, from where PyTorch's packages are or where the system has it. Raises CannotBuild."""
    packaged = [found for folder in folders() for found in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*"))]
    for name in [*(str(path) for path in packaged if ".alt." not in path.name), *NAMES]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CannotBuild(f"there is no NVRTC, the compiler of CUDA: {CURE}")


def folders() -> list[Path]:
    """Where Python's packages are."""
    return [Path(folder) for folder in sys.path]


def version() -> tuple[int, int]:
    """That of NVRTC, as (12, 9)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(loaded().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def architectures() -> list[int]:
    """The compute capabilities that it compiles for, as 90 for 9.0."""
    count = ctypes.c_int()
    _check(loaded().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(loaded().nvrtcGetSupportedArchs(found))
    return sorted(found)


def architecture(capability: int) -> str:
    """What to compile for: the GPU's own, or what the driver can translate for it. Raises CannotBuild."""
    known = architectures()
    if capability in known:
        return f"sm_{capability}"
    older = [one for one in known if one < capability]
    if not older:
        raise CannotBuild(
            f"NVRTC {'.'.join(map(str, version()))} compiles for compute capability {known[0] / 10} and later, "
            f"and this GPU has {capability / 10}"
        )
    return f"compute_{older[-1]}"


def compile(text: str, headers: Mapping[str, str], target: str, options: Sequence[str] = ()) -> tuple[bytes, str]:
    """The image of a text that includes `headers` by their names, and what the compiler says. Raises CannotBuild."""
    nvrtc, program = loaded(), ctypes.c_void_p()
    names = (ctypes.c_char_p * len(headers))(*(name.encode() for name in headers))
    bodies = (ctypes.c_char_p * len(headers))(*(body.encode() for body in headers.values()))
    given = [f"--gpu-architecture={target}", "--std=c++17", *options]
    words = (ctypes.c_char_p * len(given))(*map(str.encode, given))
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"conveyor.cu", len(headers), bodies, names))
    try:
        failed = nvrtc.nvrtcCompileProgram(program, len(given), words)
        log = (
            _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            .rstrip(b"\0")
            .decode(errors="replace")
        )
        if failed:
            raise CannotBuild("\n".join([f"NVRTC fails (error {failed}):", *log.strip().splitlines()[:8]]))
        kind = "CUBIN" if target.startswith("sm_") else "PTX"
        return _read(getattr(nvrtc, f"nvrtcGet{kind}Size"), getattr(nvrtc, f"nvrtcGet{kind}"), program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor: registers of each thread, bytes of these that are spilled to memory or
    lie there as a stack, and bytes of memory that a block shares."""

    registers: int
    spilled: int
    stack: int
    shared: int


def resources(text: str, headers: Mapping[str, str], target: str, options: Sequence[str] = ()) -> dict[str, Resources]:
    """Of each kernel of a text, by its name. Raises CannotBuild."""
    _, log = compile(text, headers, target, [*options, "--ptxas-options=-v"])
    found = {}
    for name, said in re.findall(r"entry function '(\w+)'(.*?Used \d+ registers[^\n]*)", log, re.DOTALL):
        registers, stack, stored, loaded, shared = (
            sum(map(int, re.findall(pattern, said)))
            for pattern in (
                r"Used (\d+) registers",
                r"(\d+) bytes stack frame",
                r"(\d+) bytes spill stores",
                r"(\d+) bytes spill loads",
                r"(\d+) bytes smem",
            )
        )
        found[name] = Resources(registers, stored + loaded, stack, shared)
    return found


def _read(size_of: Any, read: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    found = ctypes.create_string_buffer(size.value)
    _check(read(program, found))
    return found.raw


def _check(result: int) -> None:
    if result:
        raise CannotBuild(f"NVRTC fails (error {result}): {CURE}")
