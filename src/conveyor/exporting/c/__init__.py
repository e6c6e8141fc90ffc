"""The format c: C99 without allocation, global state or other files, which also is C++.

text.py      NAME.h, NAME.c, an example main.c and a Makefile
numbers.py   the weights in NAME.c, or in NAME.bin
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.exporting.c.text import sources
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
    """NAME.c and NAME.h, with the weights in the source or in NAME.bin: for any C compiler and machine."""

    name = "c"
    operations = frozenset((*ARRAYS, *SPELLING))

    def write(self, exported: Exported, folder: Path, weights: str = "float32", inline: bool = True) -> Written:
        """Writes the sources.

        `weights`: what matrices are stored in, "float32", "bfloat16" or "int8"; `inline`: they are in the source.
        """
        if weights not in KINDS:
            raise BadInput(f"weights are stored in {', '.join(KINDS)}, not {weights}")
        if exported.name.lower() == "main":
            raise BadInput("main.c is the example: give the export another name")
        made = sources(exported, weights, inline)
        for name, text in made.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        if made.weights is not None:
            (folder / f"{exported.name}.bin").write_bytes(made.weights)
        facts = {"weights": weights, "state_bytes": made.state_bytes, "states_at": dict(made.states)}
        return Written(BOUNDS[weights], facts)

    def obstacle(self, exported: Exported, folder: Path) -> str | None:
        """None where there is a C compiler."""
        try:
            build.compiler()
        except CannotBuild as error:
            return str(error)
        return None

    def run(
        self,
        exported: Exported,
        folder: Path,
        written: Written,
        inputs: Mapping[str, Tensor],
        cuts: Iterable[Sequence[int]],
    ) -> Iterator[Ran]:
        """Compiled once, with every warning an error and with the example, as a library of this process."""
        with tempfile.TemporaryDirectory() as place:
            file = str(Path(place, "export.so"))
            command = [*build.compiler(), *STRICT, *FAST, "-march=native", "-shared", "-fPIC"]
            texts = [str(folder / f"{exported.name}.c"), str(folder / "main.c")]
            done = subprocess.run([*command, *texts, "-o", file, "-lm"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{command[0]} refuses what was written: {done.stderr[:500]}")
            library, weights = ctypes.CDLL(file), folder / f"{exported.name}.bin"
            kept = [ctypes.create_string_buffer(weights.read_bytes())] if weights.is_file() else []
            for lengths in cuts:
                yield _run(exported, written.facts, library, kept, inputs, lengths)


def _run(
    exported: Exported,
    facts: Mapping[str, Any],
    library: Any,
    kept: Sequence[Any],
    inputs: Mapping[str, Tensor],
    lengths: Sequence[int],
) -> Ran:
    """Some steps, in chunks, from the first state. `kept`: the weights, where they are in a file."""
    state = (ctypes.c_uint32 * (facts["state_bytes"] // 4))()
    constants = [inputs[name].float().contiguous() for name in exported.constants]
    getattr(library, f"{exported.name}_reset")(state, *kept, *(ctypes.c_void_p(v.data_ptr()) for v in constants))
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
        run(state, *kept, ctypes.c_size_t(length), *map(ctypes.c_void_p, places))
        seconds += time.perf_counter() - began
        at += length
    memory = torch.frombuffer(state, dtype=torch.float32)
    states = {name: memory[k : k + exported.states[name]].clone() for name, k in facts["states_at"].items()}
    return Ran(outputs, states, seconds / steps)


FORMAT = C()
