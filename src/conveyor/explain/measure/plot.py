"""Draws recorded values over the steps of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest
from conveyor.figures import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 8  # units up to which each is a line; more are a heat map
MOST_TEXTS = 60  # steps up to which the tokens stand at the axis
PERCENTILE = 0.99  # of the magnitudes, beyond which colours no longer change


def plot(
    values: Mapping[str, Tensor | Sequence[Tensor]],
    name: str,
    *,
    layer: int = 0,
    direction: int = 0,
    row: int = 0,
    units: Sequence[int] | None = None,
    texts: Sequence[str] = (),
) -> Figure:
    """A value of the step over time: a line for each unit, or a heat map of many.

        output, state, values = rnn(x, record=True)
        explain.plot(values, "f", units=[0, 3, 5])      # lines of three units
        explain.plot(values, "C")                       # a heat map of all

    Arguments:
        values: what a layer returns with record=True, [layers, directions, T, B, ...] each.
        name: of the value, as the step names it.
        layer, direction, row: which of them.
        units: numbers of units; None: all.
        texts: of each step, written at the axis.

    In a heat map colours go to the 99th percentile of the magnitudes, and the title names the largest; so one large
    unit does not hide the others. Returns a matplotlib figure, which notebooks display, and `savefig` keeps.
    Raises BadInput (a ValueError) for what is not there, and without matplotlib.
    """
    if name not in values:
        raise BadInput(f"no value is called {name}: {suggest(name, values)}")
    found = values[name][_index("layer", layer, len(values[name]))]
    found = found[_index("direction", direction, len(found))]
    found = found[:, _index("row", row, found.shape[1])].detach().cpu().double()
    return draw(found, name, units, texts)


def draw(value: Tensor, name: str, units: Sequence[int] | None = None, texts: Sequence[str] = ()) -> Figure:
    """A value [T, ...] over time, as `plot` draws it."""
    steps, flat = len(value), value.reshape(len(value), -1)
    chosen = list(range(flat.shape[1])) if units is None else [_index("unit", u, flat.shape[1]) for u in units]
    if not steps or not chosen:
        raise BadInput(f"{name} has no numbers to draw: {steps} steps, {len(chosen)} units")
    if texts and len(texts) != steps:
        raise BadInput(f"there are {len(texts)} texts for {steps} steps")
    made = figure(9, 3.2)
    axes = made.subplots()
    (_lines if len(chosen) <= FEW else _heat)(axes, flat[:, chosen], name, chosen)
    axes.set_xlabel("step")
    if texts and steps <= MOST_TEXTS:
        axes.set_xticks(range(steps), [repr(text)[1:-1] for text in texts], fontsize=8)
        axes.set_xlabel("")
    return made


def _lines(axes: Axes, value: Tensor, name: str, units: Sequence[int]) -> None:
    for k, unit in enumerate(units):
        axes.plot(value[:, k].numpy(), label=f"unit {unit}", linewidth=1.4)
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _heat(axes: Axes, value: Tensor, name: str, units: Sequence[int]) -> None:
    sizes = value[value.isfinite()].abs()
    scale = float(torch.quantile(sizes[: 2**24], PERCENTILE)) if sizes.numel() else 1.0
    largest = float(sizes.max()) if sizes.numel() else 0.0
    low = 0.0 if bool((value >= 0).all()) else -(scale or 1.0)
    colours = "viridis" if low == 0 else "RdBu_r"
    shown = axes.imshow(
        value.T.numpy(), aspect="auto", cmap=colours, vmin=low, vmax=scale or 1.0, interpolation="nearest"
    )
    axes.set_ylabel("unit")
    if len(units) <= 24:
        axes.set_yticks(range(len(units)), [str(unit) for unit in units], fontsize=8)
    axes.set_title(f"{name}; the largest magnitude is {largest:.3g}", fontsize=10)
    assert axes.figure is not None
    axes.figure.colorbar(shown, ax=axes, extend="both" if low else "max", pad=0.01)


def _index(what: str, value: int, count: int) -> int:
    if not -count <= value < count:
        raise BadInput(f"there is no {what} {value}: they are 0 to {count - 1}")
    return value % count
