"""Which cell of the zoo reaches which target, and how far each is from PyTorch over 200 steps; a table for the docs.

    python benchmarks/targets.py > docs/reference/targets.md

Two layers of three inputs and eight units, one row, float32, against the loop over `step` in the same type. An error is
the largest difference over outputs and last states, relative to the largest value or 1.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

import conveyor
from conveyor import zoo
from conveyor.exporting.exported import Exported
from conveyor.exporting.format import BOUND, Ran
from conveyor.exporting.proof import cut, largest_error
from conveyor.exporting.recorded import Recorded, record

SIZES, CHUNKS = (3, 8), (1, 7, 64)  # eight units give each period of a clockwork a module
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
    each = state if isinstance(state, tuple) else (state,)
    names = [(n, row) for n in layer.state_names for row in range(layer.num_layers)]
    states = {f"{n}.{row}": each[layer.state_names.index(n)][row, 0] for n, row in names}
    return _error({"output": output[:, 0]}, states, recorded)


def stream(layer: conveyor.Recurrent, recorded: Recorded) -> float:
    """A stream, in chunks of several lengths."""
    made = layer.stream()
    pieces = torch.split(recorded.inputs["x"], cut(recorded.steps, CHUNKS))
    output = torch.cat([found[0] if isinstance(found := made.run(piece), tuple) else found for piece in pieces])
    return _error({"output": output}, recorded.states, recorded)


def _error(outputs: dict[str, Tensor], states: Mapping[str, Tensor], recorded: Recorded) -> float:
    """Of the output and the last states; further outputs are compared where they are exported."""
    wanted = Recorded(recorded.inputs, {"output": recorded.outputs["output"]}, recorded.states)
    return largest_error(Ran(outputs, states, 0), wanted)[0]


def exporting(to: str) -> Callable[[conveyor.Recurrent, Recorded], float]:
    """The proof of an export."""

    def error(layer: conveyor.Recurrent, _: Recorded) -> float:
        with tempfile.TemporaryDirectory() as place:
            report = conveyor.export(layer, Path(place) / "out", to)
        assert report.proof.error is not None, report.proof.obstacle
        return report.proof.error

    return error


def operators(layer: conveyor.Recurrent) -> str:
    """The recurrent operators of ONNX that the cell becomes."""
    import onnx

    with tempfile.TemporaryDirectory() as place:
        report = conveyor.export(layer, Path(place) / "out", "onnx")
        (file,) = (name for name in report.files if name.endswith(".onnx"))
        nodes = onnx.load(Path(place) / "out" / file).graph.node
    return ", ".join(sorted({node.op_type for node in nodes} & {"LSTM", "GRU", "RNN", "Scan"}))


TARGETS = (whole, stream, exporting("c"), exporting("onnx"), exporting("js"))


def main() -> None:
    """Prints the table."""
    print(HEAD.format(*SIZES, BOUND), end="")
    reached = [0] * len(TARGETS)
    for name, kind in zoo.CELLS.items():
        torch.manual_seed(0)
        layer = conveyor.Recurrent(kind, *SIZES, num_layers=2)
        recorded = record(Exported.of(layer), {})
        cells = []
        for k, target in enumerate(TARGETS):
            try:
                with torch.no_grad():
                    error = target(layer, recorded)
            except (ValueError, RuntimeError, AssertionError) as failed:
                print(f"{name}: {failed}", file=sys.stderr)
                cells.append("no")
                continue
            reached[k] += error <= BOUND
            cells.append(f"{error:.1e}")
        print(f"| {name} | {' | '.join([*cells[:4], operators(layer), *cells[4:]])} |", flush=True)
    counts = [f"{count} of {len(zoo.CELLS)}" for count in reached]
    print(f"| within {BOUND:g} | {' | '.join([*counts[:4], '', *counts[4:]])} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
