"""How gradients decay in untrained networks: why long-range dependencies are hard to learn."""

from __future__ import annotations

from typing import Any

import torch

from conveyor.cell import Cell
from conveyor.explain.measure.flow import gradient_flow
from conveyor.language.trained import Trained
from conveyor.layer import Recurrent
from conveyor.zoo import LSTM, RNN, ForgetBiasLSTM

CELLS: dict[str, tuple[type[Cell], str]] = {
    "RNN": (RNN, "h"),
    "LSTM": (LSTM, "C"),
    "LSTM, f open": (ForgetBiasLSTM, "C"),  # forget gates are open at first, so gradients survive
}
STEPS, UNITS = 60, 32


def gradient_decay(trained: Trained, text: str) -> list[dict[str, Any]]:
    """The gradient after 1, 2, ... steps back, relative to that after one step.

        gradient_decay(trained, "the keys to the cabinet")[0]  # {"name": "RNN", "state": "h", "left": [1.0, 0.55, ...]}

    These are norms of the exact Jacobian of the output with respect to each earlier state, in new layers that read the
    text, repeated, with the embeddings of the trained model.
    """
    tokens = trained.vocabulary.encode(text.encode())
    if not len(tokens):
        tokens = trained.vocabulary.encode(trained.vocabulary.opening().encode())
    read = tokens.repeat(-(-STEPS // len(tokens)))[:STEPS]
    x = trained.model.embedding(read.to(trained.model.embedding.weight.device)).detach().cpu()
    return [{"name": name, "state": state, "left": _left(cell, state, x)} for name, (cell, state) in CELLS.items()]


def _left(cell: type[Cell], state: str, x: torch.Tensor) -> list[float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = Recurrent(cell, x.shape[1], UNITS)
    norms = gradient_flow(layer, x)[state][0]
    return [float(f"{value:.4g}") for value in (norms / norms[0]).tolist()]
