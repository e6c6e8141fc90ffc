"""Figures as PNG, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from conveyor.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> Figure:
    """An empty figure, with its size in inches. Raises BadInput if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput("the figures need matplotlib: pip install 'conveyor[plot]'") from error

    class Shown(Figure):
        """A figure that notebooks show without pyplot."""

        def _repr_png_(self) -> bytes:
            return png(self)

    return Shown(figsize=(width, height), layout="constrained")


def png(drawn: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    data = io.BytesIO()
    drawn.savefig(data, format="png", dpi=130)
    return data.getvalue()
