"""How cells, layers and their compilation show themselves in a notebook.

`attach` gives their classes the method by which notebooks ask for HTML. What draws is imported when something is shown.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from typing import Any

from conveyor.cell import Cell
from conveyor.layer import Recurrent
from conveyor.layer.compilation import Compilation, compile

WIDTH = 720  # pixels of a diagram
STAGES = {"graph": "text", "backward": "text", "plan": "text", "source": "c"}  # by the language of its colours


def attach() -> None:
    """Lets notebooks show cells, layers and compilations."""
    shows: dict[type, Callable[[Any], str]] = {Cell: of_cell, Recurrent: of_layer, Compilation: of_compilation}
    for kind, show in shows.items():
        kind._repr_html_ = _or_the_reason(show)  # type: ignore[attr-defined]


def of_cell(cell: Cell) -> str:
    """The diagram of a cell, and its equations."""
    from conveyor.explain.circuit import Circuit
    from conveyor.explain.drawing.diagram import describe, draw
    from conveyor.explain.formula import equations

    circuit = Circuit.of(compile(cell).traced)
    drawn = draw(circuit, type(cell).__name__, theme="light")  # a notebook's theme is not that of the system
    # As an image, since the style sheet of an SVG within a document holds for all of it.
    picture = base64.b64encode(drawn.svg.encode()).decode()
    return (
        f'<img style="width: {WIDTH}px; max-width: 100%" src="data:image/svg+xml;base64,{picture}" '
        f'alt="{html.escape(describe(circuit, 1))}">'
        + "".join(f"<p>{_formula(each.latex, each.text)}</p>" for each in equations(circuit))
    )


def of_layer(layer: Recurrent) -> str:
    """The layer's arguments, and its cell."""
    return f"<pre>{html.escape(repr(layer))}</pre>{of_cell(layer.cell)}"


def of_compilation(compilation: Compilation) -> str:
    """Each stage, to be opened; the plan is open."""
    return "".join(
        f"<details{' open' if name == 'plan' else ''}><summary>{name}</summary>{_coloured(text, language)}</details>"
        for name, language in STAGES.items()
        for text in [getattr(compilation, name)]
    )


def _or_the_reason(show: Callable[[Any], str]) -> Callable[[Any], str]:
    def shown(self: Any) -> str:
        try:
            return show(self)
        except Exception as error:  # what is shown must not fail where it is only looked at
            reason = html.escape(f"not drawn: {error}")
            return f"<pre>{html.escape(repr(self))}</pre><p>{reason}</p>"

    return shown


def _formula(latex: str, text: str) -> str:
    """The formula, or its text where latex2mathml is not installed."""
    from conveyor.errors import BadInput
    from conveyor.explain.mathml import mathml

    try:
        return mathml(latex)
    except BadInput:
        return f"<code>{html.escape(text)}</code>"


def _coloured(text: str, language: str) -> str:
    """The text with colours by Pygments, which notebooks have."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name
    except ImportError:
        return f"<pre>{html.escape(text)}</pre>"
    return str(highlight(text, get_lexer_by_name(language), HtmlFormatter(noclasses=True)))
