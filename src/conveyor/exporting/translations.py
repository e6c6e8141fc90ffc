"""How torch.onnx.export writes a layer: the translation of the operator that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conveyor.errors import BadInput
from conveyor.layer.operator import FORWARD

CURE = "pip install 'conveyor[onnx]'"


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What torch.onnx.export needs to write a model that holds layers of this package.

        T, B = torch.export.Dim("T"), torch.export.Dim("B")
        table = conveyor.onnx_translations()
        torch.onnx.export(model, (x,), "model.onnx", dynamo=True, dynamic_shapes=({0: T, 1: B},),
                          custom_translation_table=table)

    A layer becomes an `LSTM`, `GRU` or `RNN` of ONNX where the equations are its, else a `Scan` with the step as its
    body; time and batch are free where `dynamic_shapes` says so. More translations may be added to the table.
    ONNX Runtime needs a step at least: for none it gives an error, arbitrary states, or ends the process. A cell that
    counts its steps does so in the type of its weights: exactly up to 2^24 in float32, which the model does not check.

    Raises BadInput if the packages of the extra "onnx" are not installed.
    """
    try:
        from conveyor.exporting.onnx.translation import forward
    except ImportError as error:
        raise BadInput(f"a model of ONNX is written with {error.name}, which is not installed: {CURE}") from None
    return {FORWARD: forward}
