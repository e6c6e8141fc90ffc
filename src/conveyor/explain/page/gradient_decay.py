"""How gradients decay in untrained networks: why long-range dependencies are hard to learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from conveyor.cell import Cell
from conveyor.explain.measure.flow import gradient_flow
from conveyor.explain.running.model import Model
from conveyor.layer import Recurrent
from conveyor.zoo import LSTM, RNN, ForgetBiasLSTM

CELLS: dict[str, tuple[type[Cell], str]] = {
    "RNN": (RNN, "h"),
    "LSTM": (LSTM, "C"),
    "LSTM, f open": (ForgetBiasLSTM, "C"),  # forget gates are open at first, so gradients survive
}
STEPS, UNITS = 60, 32


def gradient_decay(model: Model, inputs: Tensor) -> list[dict[str, Any]]:
    """The gradient after 1, 2, ... steps back, relative to that after one step.

        gradient_decay(model, tokens)[0]        # {"name": "RNN", "state": "h", "left": [1.0, 0.55, ...]}

    These are norms of the exact Jacobian of the output with respect to each earlier state, in new layers that read the
    inputs [T] or [T, channels], repeated, as the lowest layer of the model does.
    """
    read = torch.cat([inputs] * -(-STEPS // len(inputs)))[:STEPS]
    x = model.embed(read.to(next(model.rnn.parameters()).device)).detach().cpu()
    return [{"name": name, "state": state, "left": _left(cell, state, x)} for name, (cell, state) in CELLS.items()]


def _left(cell: type[Cell], state: str, x: torch.Tensor) -> list[float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = Recurrent(cell, x.shape[1], UNITS)
    norms = gradient_flow(layer, x)[state][0]
    return [float(f"{value:.4g}") for value in (norms / norms[0]).tolist()]
