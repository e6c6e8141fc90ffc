"""Runs an exported module in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conveyor.exporting.exported import Exported
from conveyor.exporting.format import Ran

NEEDED = "class Private { #field = 1; } let all; all ??= null?.length ?? (await 1);"  # the newest syntax of a module

# Reads what is given, runs the chunks, then all of it again for the time, and writes the outputs and the last state.
DRIVER = """
import { readFileSync, writeFileSync } from "node:fs";
const [module, given, found] = process.argv.slice(2);
const { load } = await import(module);
const { lengths, streams, constants } = JSON.parse(readFileSync(given, "utf8"));
const model = await load();
const stream = model.stream();
const part = ({ values, size }, from, to) => Float32Array.from(values.slice(from * size, to * size), Number);
const chunk = (from, to) => {
  const parts = Object.entries(streams).map(([name, all]) => [name, part(all, from, to)]);
  const { x, ...others } = Object.fromEntries(parts);
  return [x, others];
};
const start = () => stream.reset(constants);
start();
const outputs = {};
let at = 0;
for (const length of lengths) {
  const [x, further] = chunk(at, at + length);
  if (length === 1) stream.step(TOKEN, further);
  else stream.run(x, further);
  for (const [name, values] of Object.entries(stream.outputs)) {
    const all = (outputs[name] ??= []);
    for (const value of values) all.push(value); // one by one, as there are more than a call can take
  }
  at += length;
}
const { values } = stream.state;
const [x, further] = chunk(0, at);
let seconds = Infinity;
for (let k = 0; k < 5; k++) {
  start();
  const before = performance.now();
  stream.run(x, further);
  seconds = Math.min(seconds, (performance.now() - before) / 1000 / at);
}
const text = (numbers) => Array.from(numbers, String);
const all = (named) => Object.fromEntries(Object.entries(named).map(([name, numbers]) => [name, text(numbers)]));
writeFileSync(found, JSON.stringify({ outputs: all(outputs), states: all(values), seconds }));
"""


def why_not() -> str | None:
    """Why no module can be run on this machine; None if one can."""
    if shutil.which("node") is None:
        return "there is no node (Node.js) on this machine"
    tried = subprocess.run(["node", "--input-type=module", "-e", NEEDED], capture_output=True, text=True, check=False)
    return f"node (Node.js) is too old or broken: {tried.stderr.strip()[-200:]}" if tried.returncode else None


def run(exported: Exported, folder: Path, inputs: Mapping[str, Tensor], lengths: Sequence[int]) -> Ran:
    """Runs chunks of these lengths, one of a single step by `step`."""
    streams = {
        name: {"values": _numbers(inputs[name]), "size": 1 if exported.tokens else int(np.prod(dims, dtype=int))}
        for name, dims in exported.streams.items()
    }
    constants = {name: _numbers(inputs[name]) for name in exported.constants}
    with tempfile.TemporaryDirectory() as place:
        driver, given, found = (Path(place) / name for name in ("driver.mjs", "given.json", "found.json"))
        driver.write_text(DRIVER.replace("TOKEN", "x[0]" if exported.tokens else "x"), encoding="utf-8")
        given.write_text(json.dumps({"lengths": list(lengths), "streams": streams, "constants": constants}))
        module = (folder / f"{exported.name}.js").resolve().as_uri()
        ended = subprocess.run(["node", driver, module, given, found], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"the exported module fails in Node: {ended.stderr.strip()[-500:]}")
        result: dict[str, Any] = json.loads(found.read_text())
    outputs = {name: _tensor(result["outputs"][name]).reshape(-1, *dims) for name, dims in exported.outputs.items()}
    return Ran(outputs, {name: _tensor(values) for name, values in result["states"].items()}, result["seconds"])


def _numbers(value: Tensor) -> list[float]:
    return [float(number) for number in value.float().ravel().tolist()]


def _tensor(texts: list[str]) -> Tensor:
    return torch.tensor([float(text) for text in texts])
