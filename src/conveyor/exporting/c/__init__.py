"""The format c: C99 without allocation, global state or other files, which also is C++.

text.py   NAME.h, NAME.c, an example main.c and a Makefile
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.exporting.c.text import Sources, sources
from conveyor.exporting.exported import Exported
from conveyor.exporting.format import BOUND, Format, Ran, Written
from conveyor.targets import CannotBuild
from conveyor.targets.c import build
from conveyor.targets.c.spelling import SPELLING
from conveyor.targets.step import KINDS

ARRAYS = ("const", "permute", "slice", "expand", "reshape", "cat", "pad", "sum", "max", "matmul", "contract")
BOUNDS = {"float32": BOUND, "bfloat16": 5e-2, "int8": 2.5e-1}
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
FAST = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")


class C(Format):
    """NAME.c and NAME.h, with the weights in the source: to be compiled by any C compiler for any machine."""

    name = "c"
    operations = frozenset((*ARRAYS, *SPELLING))

    def write(self, exported: Exported, folder: Path, weights: str = "float32") -> Written:
        """Writes the sources. `weights`: what matrices are stored in, "float32", "bfloat16" or "int8"."""
        if weights not in KINDS:
            raise BadInput(f"weights are stored in {', '.join(KINDS)}, not {weights}")
        made = sources(exported, weights)
        for name, text in made.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return Written(BOUNDS[weights], {"weights": weights, "state_bytes": made.state_bytes})

    def obstacle(self, exported: Exported, folder: Path) -> str | None:
        """None where there is a C compiler."""
        try:
            build.compiler()
        except CannotBuild as error:
            return str(error)
        return None

    def run(self, exported: Exported, folder: Path, inputs: Mapping[str, Tensor], lengths: Sequence[int]) -> Ran:
        """Compiled with every warning an error, as a library of this process."""
        kept = (
            "int8" if "INT8" in (text := _source(exported, folder)) else "bfloat16" if "BFLOAT16" in text else "float32"
        )
        made = sources(exported, kept)
        with tempfile.TemporaryDirectory() as place:
            file = str(Path(place, "export.so"))
            command = [*build.compiler(), *STRICT, *FAST, "-march=native", "-shared", "-fPIC"]
            source = str(folder / f"{exported.name}.c")
            done = subprocess.run([*command, source, "-o", file, "-lm"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{command[0]} refuses what was written: {done.stderr[:500]}")
            return _run(exported, made, ctypes.CDLL(file), inputs, lengths)


def _source(exported: Exported, folder: Path) -> str:
    return (folder / f"{exported.name}.c").read_text(encoding="utf-8")


def _run(exported: Exported, made: Sources, library: Any, inputs: Mapping[str, Tensor], lengths: Sequence[int]) -> Ran:
    """Some steps, in chunks, from the first state."""
    state = (ctypes.c_uint32 * (made.state_bytes // 4))()
    constants = [inputs[name].float().contiguous() for name in exported.constants]
    getattr(library, f"{exported.name}_reset")(state, *(ctypes.c_void_p(value.data_ptr()) for value in constants))
    run = getattr(library, f"{exported.name}_run")
    steps, given = sum(lengths), []
    for name in exported.streams:
        value = inputs[name].to(torch.int32 if exported.tokens and name == "x" else torch.float32)
        given.append(value.reshape(steps, -1).contiguous())
    outputs = {name: torch.empty(steps, *dims) for name, dims in exported.outputs.items()}
    at, seconds = 0, 0.0
    for length in lengths:
        places = [v.data_ptr() + at * v.stride(0) * 4 for v in (*given, *(o.view(steps, -1) for o in outputs.values()))]
        began = time.perf_counter()
        run(state, ctypes.c_size_t(length), *map(ctypes.c_void_p, places))
        seconds += time.perf_counter() - began
        at += length
    memory = torch.frombuffer(state, dtype=torch.float32)
    return Ran(outputs, made.states(memory), seconds / steps)


FORMAT = C()
