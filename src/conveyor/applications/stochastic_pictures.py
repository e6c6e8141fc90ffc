"""Pictures of sequences, stacked vertically, with the KL over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from conveyor.figures import figure, png

LOW, HIGH = 36, 84  # the range of MIDI notes that covers most of the chorales


def rolls(rows: dict[str, Tensor], kl: np.ndarray) -> bytes:
    """A PNG of piano rolls [T, 88] by name, with pitch upwards; darker means more probable. `kl`: [T]."""

    def draw(axis: Any, roll: Tensor) -> None:
        shown = roll.T[LOW - 21 : HIGH - 21].numpy()
        edges = (-0.5, len(roll) - 0.5, LOW - 0.5, HIGH - 0.5)
        axis.imshow(shown, cmap="gray_r", vmin=0, vmax=1, aspect="auto", origin="lower", extent=edges)
        axis.set(yticks=range(LOW, HIGH, 12), yticklabels=[f"C{octave}" for octave in range(2, 6)])

    return _picture(rows, kl, draw, "quarter note")


def lines(rows: dict[str, Tensor], kl: np.ndarray) -> bytes:
    """A PNG of sequences [T, D] by name, with a line for each feature. `kl`: [T]."""
    low = min(float(values.min()) for values in rows.values())
    high = max(float(values.max()) for values in rows.values())

    def draw(axis: Any, values: Tensor) -> None:
        axis.plot(values.numpy(), linewidth=1)
        axis.set_ylim(low, high)

    return _picture(rows, kl, draw, "frame")


def _picture(rows: dict[str, Tensor], kl: np.ndarray, draw: Any, time: str) -> bytes:
    drawn = figure(9, 1.9 * len(rows) + 1.4)
    *above, below = drawn.subplots(len(rows) + 1, sharex=True, height_ratios=[1.9] * len(rows) + [1])
    for axis, (name, values) in zip(above, rows.items(), strict=True):
        draw(axis, values)
        axis.set_title(name, fontsize=9, loc="left")
    below.bar(range(len(kl)), kl, width=1.0)
    below.set_title("KL divergence of the posterior from the prior, in nats", fontsize=9, loc="left")
    below.set_xlabel(time)
    below.xaxis.get_major_locator().set_params(integer=True)
    return png(drawn)
