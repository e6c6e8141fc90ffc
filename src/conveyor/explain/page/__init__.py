"""The page on which a network runs: its data, tour, HTML file and server. `web/` is its JavaScript."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from conveyor.errors import BadInput
from conveyor.training.run import write


@dataclass(frozen=True)
class Page:
    """A page: one HTML file, which works by itself."""

    html: str

    def save(self, file: str | Path) -> Path:
        """Writes it. Raises BadInput if the file cannot be written."""
        path = Path(file)
        try:
            write(path.resolve(), self.html.encode())
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror}") from error
        return path

    def _repr_html_(self) -> str:
        source = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{source}" width="100%" height="820" style="border:0"></iframe>'


def page(
    model: nn.Module | Mapping[str, nn.Module],
    inputs: Any,
    output: Any = None,
    *,
    layer: str | nn.Module | None = None,
    first: str | nn.Module | None = None,
    head: str | nn.Module | None = None,
    check: bool = True,
    title: str = "",
) -> Page:
    """The live page of any recurrent network: read from its weights, it runs in the browser.

        series = explain.Series(frames, names, truth="speaker 3")                   # frames: [T, channels]
        explain.page(model, series, explain.Classes(speakers)).save("page.html")
        explain.page({"lstm": one, "gru": other}, series, explain.Numbers(["temperature"], next=True))

    Arguments:
        model: a `Recurrent`, a layer or cell of `torch.nn`, or a module that holds one; or two of them by name, to
            compare.
        inputs: a `Series`, a `Text`, numbers [T, channels], or a list of series with the same channels.
        output: what comes out, `Classes`, `Numbers`, `Labels` or `NextToken`; by default the next token of a text, and
            for series whatever numbers the head gives.
        layer, first, head: the recurrent layer, the maps before it and those after it, as modules or by their paths in
            the model, such as "encoder.rnn"; by default the only ones that fit.
        check: whether the model is called with the first input, and compared with what was read of it.
        title: of the page.

    Between the maps and the layer nothing else may happen: no attention, no pooling over time. Raises BadInput for a
    model without such a layer or with several, for one of two directions, for what does not fit together, and for
    weights that are too large for one file.
    """
    from conveyor.explain.page.given import page_of  # all that a page needs is imported when one is made

    return Page(page_of(model, inputs, output, {"layer": layer, "first": first, "head": head}, check, title))
