"""JavaScript: an ES module with its types and weights, for browsers and Node.

runtime.js   what a user of the module calls      types.py   its types
run.py       runs a module in Node
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from conveyor.exporting.exported import Exported
from conveyor.exporting.format import Format, Ran, Written
from conveyor.exporting.js.run import run, why_not
from conveyor.exporting.js.types import types
from conveyor.targets.js import source
from conveyor.targets.js.emit import SPELLING, WRITTEN, emit
from conveyor.targets.js.memory_map import MemoryMap, Plain

EXPORT = re.compile(r"^export ", re.MULTILINE)


class JavaScript(Format):
    """`NAME.js`, `NAME.d.ts`, `package.json`, and `NAME.bin`, or with `inline` the weights in the module."""

    name = "js"
    operations = frozenset({*SPELLING, *WRITTEN})

    def write(self, exported: Exported, folder: Path, *, inline: bool = False) -> Written:
        """Writes the module and its weights."""
        described = _Described(exported)
        text = json.dumps(described.data)  # in ASCII, which has a surrogate by itself, too
        weights = np.concatenate(described.values).astype("<f4").tobytes() if described.values else b""
        inside = f'Uint8Array.from(atob("{base64.b64encode(weights).decode()}"), (c) => c.charCodeAt(0))'
        parts = [
            f"// {exported.name}, exported by conveyor: see {exported.name}.d.ts.\n",
            f"const DESCRIPTION = {text};\nconst WEIGHTS = {inside if inline else 'null'};\n",
            *(EXPORT.sub("", part) for part in (source("arithmetic.js"), described.steps)),
            EXPORT.sub("", source("vocabulary.js")) if exported.vocabulary is not None else "",
            (resources.files(__name__) / "runtime.js").read_text(encoding="utf-8"),
        ]
        (folder / f"{exported.name}.js").write_text("\n".join(filter(None, parts)), encoding="utf-8")
        (folder / f"{exported.name}.d.ts").write_text(types(exported), encoding="utf-8")
        (folder / "package.json").write_text(json.dumps(_package(exported.name), indent=1) + "\n", encoding="utf-8")
        if not inline:
            (folder / f"{exported.name}.bin").write_bytes(weights)
        return Written()

    def obstacle(self, exported: Exported, folder: Path) -> str | None:
        """None where there is a Node.js that runs modules."""
        return why_not()

    def run(
        self,
        exported: Exported,
        folder: Path,
        written: Written,
        inputs: Mapping[str, Tensor],
        cuts: Iterable[Sequence[int]],
    ) -> Iterator[Ran]:
        """Runs the module in Node."""
        return (run(exported, folder, inputs, lengths) for lengths in cuts)


def _package(name: str) -> dict[str, Any]:
    main = {"types": f"./{name}.d.ts", "default": f"./{name}.js"}
    return {"name": name.lower(), "version": "1.0.0", "private": True, "type": "module", "exports": {".": main}}


class _Described:
    """What the module is told: where everything lies in its weights, and in the memory of a step."""

    def __init__(self, exported: Exported):
        self.exported = exported
        self.memory = MemoryMap(Plain(exported.graph))
        self.values: list[np.ndarray] = []
        self.known: dict[int, dict[str, int]] = {}

    @cached_property
    def steps(self) -> str:
        """The step in JavaScript."""
        return emit([self.memory])

    @cached_property
    def data(self) -> dict[str, Any]:
        """As JSON."""
        exported, memory = self.exported, self.memory
        weights = [self.tensor(exported.weights[name]) for name in memory.weights]
        streams = [self.given("stream", name, dims) for name, dims in exported.streams.items()]
        if exported.embedding is not None:
            streams[0]["embedding"] = self.tensor(exported.embedding)["at"]
        states = [
            {**self.given("state", name, value.shape), **self.end(name), "initial": self.tensor(value)}
            for name, value in exported.initial.items()
        ]
        vocabulary = exported.vocabulary
        return {
            "name": exported.name,
            "tokens": exported.tokens,
            "vocabulary": vocabulary and {"kind": vocabulary.kind, "symbols": list(vocabulary.symbols)},
            "weights": weights,
            "streams": streams,
            "constants": [self.given("constant", name, dims) for name, dims in exported.constants.items()],
            "states": states,
            "outputs": [{"name": name, **self.end(name)} for name in exported.outputs],
            "t": self.given("step", "t", ())["to"],
            "numbers": sum(map(len, self.values)),
        }

    def tensor(self, value: Tensor) -> dict[str, int]:
        """Where a tensor lies in the weights."""
        if id(value) not in self.known:
            at = sum(map(len, self.values))
            self.known[id(value)] = {"at": at, "size": value.numel()}
            self.values.append(value.numpy().ravel())
        return self.known[id(value)]

    def given(self, kind: str, name: str, dims: Sequence[int]) -> dict[str, Any]:
        """Where an input goes; -1 for one that the step does not read."""
        found = self.memory.graph.inputs(kind).get(name)
        read = found is not None and found in self.memory.at
        size = int(np.prod(dims, dtype=int))
        return {"name": name, "to": self.memory.at[found].at if read else -1, "size": size}  # type: ignore[index]

    def end(self, name: str) -> dict[str, int]:
        """Where an output is."""
        i = self.memory.end(name)
        return {"from": self.memory.at[i].at, "size": self.memory.graph.nodes[i].size}


FORMAT = JavaScript()
