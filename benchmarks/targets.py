"""Which cell of the zoo reaches which target, and how far each is from PyTorch over 200 steps; a table for the docs.

    python benchmarks/targets.py > docs/reference/targets.md

Two layers of three inputs and eight units, one row, float32, against the loop over `step` in the same type. An error is
the largest difference over outputs and last states, relative to the largest value or 1.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

import conveyor
from conveyor import zoo
from conveyor.exporting.exported import Exported
from conveyor.exporting.format import BOUND, Ran
from conveyor.exporting.proof import CHUNKS, cut, largest_error
from conveyor.exporting.recorded import Recorded, record
from conveyor.exporting.write import Report

T = TypeVar("T")
SIZES = (3, 8)  # eight units give each period of a clockwork a module
HEAD = """# Cells and targets

One definition reaches all of these. The figures are the largest errors over 200 steps, at once or in chunks, of two
layers with {} inputs and {} units in float32, relative to the largest value or 1; {} is the bound. They are printed by
`python benchmarks/targets.py`; the last row says how many cells reach each target.

| cell | whole sequences | stream | C | ONNX | its operators | JavaScript |
|---|---|---|---|---|---|---|
"""


def whole(layer: conveyor.Recurrent, recorded: Recorded) -> float:
    """The kernels of sequences."""
    with conveyor.backend("compiled"):
        output, state, *_ = layer(recorded.inputs["x"][:, None])
    return _error(output[:, 0], _states(layer, state), recorded)


def stream(layer: conveyor.Recurrent, recorded: Recorded) -> float:
    """A stream, in chunks of several lengths."""
    made = layer.stream()
    pieces = torch.split(recorded.inputs["x"], cut(recorded.steps, CHUNKS))
    output = torch.cat([found[0] if isinstance(found := made.run(piece), tuple) else found for piece in pieces])
    return _error(output, _states(layer, made.state), recorded)


def _states(layer: conveyor.Recurrent, state: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The states of the one row by their names in an export."""
    each = state if isinstance(state, tuple) else (state,)
    named = zip(layer.state_names, each, strict=True)
    return {f"{n}.{row}": value[row, 0] for n, value in named for row in range(layer.num_layers)}


def _error(output: Tensor, states: Mapping[str, Tensor], recorded: Recorded) -> float:
    """Of the output and the last states; further outputs are compared where they are exported."""
    wanted = Recorded(recorded.inputs, {"output": recorded.outputs["output"]}, recorded.states)
    return largest_error(Ran({"output": output}, states, 0), wanted)[0]


def exported(layer: conveyor.Recurrent, to: str) -> Report:
    """An export with its proof. Ends the program where it cannot be run, since nothing would be known then."""
    with tempfile.TemporaryDirectory() as place:
        report = conveyor.export(layer, Path(place) / "out", to)
    if report.proof.error is None:
        raise SystemExit(f"{to}: {report.proof.obstacle}")
    return report


def errors(layer: conveyor.Recurrent, recorded: Recorded) -> Iterator[tuple[float | None, str]]:
    """The error in each target, None where it is not reached, and the recurrent operators of ONNX."""
    yield tried(lambda: whole(layer, recorded)), ""
    yield tried(lambda: stream(layer, recorded)), ""
    for to in ("c", "onnx", "js"):
        report = tried(partial(exported, layer, to))
        used = () if report is None else report.data.get("layers", ())
        yield report and report.proof.error, ", ".join(sorted({*used}))


def tried(make: Callable[[], T]) -> T | None:
    """What it gives, or None with the reason among the messages."""
    try:
        with torch.no_grad():
            return make()
    except (ValueError, RuntimeError) as failed:
        print(failed, file=sys.stderr)
        return None


def main() -> None:
    """Prints the table."""
    print(HEAD.format(*SIZES, BOUND), end="")
    reached = [0] * 5
    for name, kind in zoo.CELLS.items():
        torch.manual_seed(0)
        layer = conveyor.Recurrent(kind, *SIZES, num_layers=2)
        found = list(errors(layer, record(Exported.of(layer), {})))
        reached = [
            count + (error is not None and error <= BOUND) for count, (error, _) in zip(reached, found, strict=True)
        ]
        cells = ["no" if error is None else f"{error:.1e}" for error, _ in found]
        print(f"| {name} | {' | '.join([*cells[:4], found[3][1], *cells[4:]])} |", flush=True)
    counts = [f"{count} of {len(zoo.CELLS)}" for count in reached]
    print(f"| within {BOUND:g} | {' | '.join([*counts[:4], '', *counts[4:]])} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
