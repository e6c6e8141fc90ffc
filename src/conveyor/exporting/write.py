"""`conveyor.export`: writes a layer or a language model for other languages, and proves what it wrote."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from conveyor.exporting.exported import Exported
from conveyor.exporting.folder import MARK, appearing, check_folder, digest
from conveyor.exporting.format import Format, Written
from conveyor.exporting.formats import check_options, format_of, having
from conveyor.exporting.proof import Proof, prove
from conveyor.exporting.recorded import record

if TYPE_CHECKING:
    from conveyor.tasks.text import Vocabulary


@dataclass(frozen=True)
class Report:
    """What was exported; it prints. `files`: their sizes in bytes, by name in the folder; `data`: export.json."""

    folder: Path
    files: Mapping[str, int]
    proof: Proof
    data: Mapping[str, Any]

    def __str__(self) -> str:
        width = max(map(len, self.files))
        lines = [f"{name:{width}}  {size:>12,} bytes" for name, size in self.files.items()]
        proof = self.proof
        if proof.obstacle is not None:
            return "\n".join([*lines, f"not run here: {proof.obstacle}"])
        assert proof.seconds is not None
        chunks = ", ".join(map(str, proof.chunks))
        lines.append(
            f"largest error over {proof.steps} steps, whole, in chunks of {chunks}, and single: {proof.error:.3g}"
        )
        return "\n".join([*lines, f"time a step: {proof.seconds * 1e6:,.2f} us"])


def export(
    module: nn.Module,
    directory: str | os.PathLike[str],
    to: str = "c",
    *,
    inputs: Mapping[str, Tensor] | None = None,
    head: nn.Linear | None = None,
    vocabulary: Vocabulary | None = None,
    name: str | None = None,
    **options: Any,
) -> Report:
    """Writes a layer or a language model as C, ONNX or JavaScript, runs what it wrote, and compares.

        rnn = conveyor.LSTM(16, 32, num_layers=2)
        print(conveyor.export(rnn, "lstm", to="c"))         # lstm/lstm.c, lstm.h, ..., and export.json: the proof

    Arguments:
        module: a `Recurrent` of any cell, `conveyor.RNN`, `LSTM`, `GRU`, or a `conveyor.language.LanguageModel`. It is
            exported as in evaluation mode, and in float32, whatever its own type. It is not changed.
        directory: a new or empty folder, or an earlier export, whose files are replaced unless they were changed.
        to: "c", "onnx" or "js".
        inputs: examples of what the layer is called with besides its state, by name: x and further streams [T, B, ...],
            constants [B, ...]. Needed where the cell does not know a width, and good where a proof on normal numbers
            would say little: the recorded steps are those of the first row, repeated.
        head: a linear map after the layer, which becomes part of the export.
        vocabulary: that of a language model, for text instead of numbers where the format has text.
        name: of functions and files; else that of the cell.
        options: of the format: for C weights="int8" or "bfloat16"; inline=False (C) or True (JavaScript, whose default
            is a file) for weights in a file or in the source.

    The proof: 200 steps, at once, in chunks and one by one, each from the state of the last, are compared with the loop
    over `step` in PyTorch. `export.json` has the largest error, sizes in bytes and the time a step, or why nothing
    could be run on this machine.
    A model of ONNX takes the states, `h_0`, which a layer with a learnt start may go without, and of a cell that counts
    the number of the first step, `start`, exact up to 2^24. ONNX Runtime needs one step at least.
    Raises BadInput (a ValueError) for what has no single step, an operation that the format has not, or a folder with
    other or changed files; `proof.Wrong` (a RuntimeError) if the results differ; OSError. Nothing is written then.
    """
    form, folder = format_of(to), Path(directory)
    check_options(form, options)
    check_folder(folder)
    exported = Exported.of(module, inputs, head, vocabulary, name)
    _check_operations(form, exported)
    with appearing(folder) as made:
        written = form.write(exported, made, **options)
        proof = prove(form, exported, made, written, record(exported, inputs))
        paths = {str(path.relative_to(made)): path for path in sorted(made.rglob("*")) if path.is_file()}
        files = {name: path.stat().st_size for name, path in paths.items()}
        data = _data(form, exported, written, files, proof)
        data["sha256"] = {name: digest(path) for name, path in paths.items()}
        (made / MARK).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return Report(folder, files, proof, data)


def _check_operations(form: Format, exported: Exported) -> None:
    for op in {node.op for node in exported.graph.nodes} - {"input"} - form.operations:
        exported.require(form.operations, form.name, having(op))


def _data(form: Format, exported: Exported, written: Written, files: Mapping[str, int], proof: Proof) -> dict[str, Any]:
    shapes = {"streams": exported.streams, "constants": exported.constants, "outputs": exported.outputs}
    return {
        "format": form.name,
        "name": exported.name,
        "made_of": repr(exported.layer if exported.model is None else exported.model).splitlines()[0].rstrip("("),
        "conveyor": importlib.metadata.version("conveyor"),
        "parameters": exported.parameters,
        "tokens": exported.tokens,
        **{kind: {name: list(dims) for name, dims in each.items()} for kind, each in shapes.items()},
        "states": exported.states,
        **written.facts,
        "files": dict(files),
        "bytes": sum(files.values()),
        "proof": proof.data,
    }
