"""Assembles a page: networks, cells and what they read in one self-contained HTML file."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.diagram import draw, stylesheet
from conveyor.explain.drawing.errors import REPORT, CannotDraw
from conveyor.explain.measure.labels import LABELLINGS
from conveyor.explain.measure.units import units
from conveyor.explain.page import bundle, example
from conveyor.explain.page.step_data import step_data
from conveyor.explain.page.tour import tour
from conveyor.explain.running.edits import find
from conveyor.explain.running.layers import TracedLayer
from conveyor.explain.running.model import Model
from conveyor.explain.running.network import Described, describe
from conveyor.language.trained import Trained
from conveyor.tasks.text import WORD, Vocabulary

LARGEST = 200  # MB of weights
OPENING = 200  # tokens of the held-out text, if no text is given
FEWEST = 12  # tokens of a stretch without unknown words
SEARCHED = 6_000  # tokens of the held-out text in which units are searched
UNDRAWN = """<svg xmlns="http://www.w3.org/2000/svg" class="diagram" viewBox="0 0 640 60" width="640" height="60">
<text x="320" y="38" font-size="22" text-anchor="middle">This cell could not be drawn.</text></svg>"""
OF_AGREEMENT = "subject number"  # defined only for the words of the agreement corpus


@dataclass(frozen=True)
class Shown:
    """A network. `inputs`: what it reads first; `found`: units that follow something; `example`: see tour.py."""

    name: str
    model: Model
    described: Described
    inputs: Tensor
    found: Sequence[dict[str, Any]] = ()
    example: dict[str, Any] | None = None


def page(runs: Sequence[Trained], text: str | None = None, served: bool = False) -> str:
    """The page of one run, or of two side by side.

        Path("page.html").write_text(page([load(Path("runs/lstm"))], "to be or not to be"), encoding="utf-8")

    Without a text, it shows the beginning of the first run's held-out text. `served`: the page may query its server for
    the texts of the runs (serve.py). Raises BadInput for a text with characters that the first run's model does not
    know, and for a cell that cannot be traced.
    """
    vocabulary = runs[0].vocabulary
    text = opening(runs[0]) if text is None else checked(text, vocabulary)
    read = vocabulary.encode((text or vocabulary.opening()).encode())
    shown = [
        Shown(
            name,
            Model.of(run.model),
            describe(run.model, run.vocabulary),
            read if run is runs[0] else run.vocabulary.encode(run.vocabulary.opening().encode()),
            _found(run),
            example.example(run),
        )
        for name, run in zip(_names(runs), runs, strict=True)
    ]
    step = example.opening_step(text, vocabulary)
    return document(" and ".join(one.name for one in shown), shown, text=text, step=step, served=served)


def document(
    title: str,
    shown: Sequence[Shown],
    text: str,
    step: int,
    examples: Sequence[dict[str, Any]] = (),
    served: bool = False,
) -> str:
    """The page of networks: `text` is what they read first, at `step`; `examples`: series, see series.js.

    Raises BadInput if the weights are too large for one file.
    """
    for one in shown:
        check_size(one.name, one.described.weights)
    data = {
        "title": title,
        "text": text,
        "step": step,
        "examples": list(examples),
        "networks": [_network(one) for one in shown],
        "tour": tour([(one.described, one.example) for one in shown], shown[0].model, shown[0].inputs),
        "served": served,
    }
    steps = {f"steps{k}.js": one.described.script for k, one in enumerate(shown)}
    code = bundle.script("main.js", {**steps, "steps.js": _all_steps(len(shown))})
    style = stylesheet() + "".join(bundle.read(name) for name in ("style.css", "tour.css", "series.css"))
    blobs = {f"weights{k}": packed(one.described.weights) for k, one in enumerate(shown)}
    asks = "; connect-src 'self'" if served else ""
    return bundle.document(f"{title} explained", code, style, data, blobs, asks)


def check_size(name: str, weights: np.ndarray) -> None:
    """Raises BadInput for weights that no browser would read from one file."""
    size = weights.size * 4 / 1e6
    if size > LARGEST:
        raise BadInput(
            f"{name} has {size:,.0f} MB of weights, and a page in one file holds {LARGEST} MB: show one layer of it by "
            "layer=, or train a smaller one, of fewer units or tokens"
        )


def _all_steps(count: int) -> str:
    """The source of the module with the emitted steps of all networks."""
    lines = [f'import {{steps as of{k}}} from "./steps{k}.js";' for k in range(count)]
    return "\n".join([*lines, f"export const steps = [{', '.join(f'of{k}' for k in range(count))}];", ""])


def packed(weights: np.ndarray) -> bytes:
    """Compressed weights. The bytes are grouped by significance first, which saves a fifth."""
    planes = weights.astype("<f4").view(np.uint8).reshape(-1, 4).T
    return zlib.compress(planes.tobytes(), 9)


def checked(text: str, vocabulary: Vocabulary) -> str:
    """The text, if the model can read it. Raises BadInput, which names unknown characters."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("the text is not UTF-8: type it again in a terminal that is") from error
    vocabulary.encode(data)
    return text


def opening(trained: Trained) -> str:
    """The text that a page opens with: the essay's example if the model knows its words, else held-out text.

    For a word model, a stretch of known words is preferred. If the text is no longer available, it is the beginning of
    a text by the vocabulary.
    """
    vocabulary = trained.vocabulary
    if (known := example.opening(vocabulary)) is not None:
        return known
    try:
        tokens, lengths = trained.tokens()
        raw = trained.own_text()
    except BadInput:
        return vocabulary.opening()
    if vocabulary.kind == "byte":  # bytes need not form whole characters
        return "".join(vocabulary.decode(tokens[:OPENING].tolist()))
    text = raw.decode()
    begin = len(text) - int(lengths.sum())
    if vocabulary.kind == "char":
        return _whole(text[max(0, begin - 1) : begin + OPENING]) or vocabulary.opening()
    return _known(WORD.findall(text[begin:]), tokens.tolist()) or vocabulary.opening()


def _whole(text: str) -> str:
    """The text without incomplete words at its ends."""
    begin = re.search(r"\s+(?=\S)", text[: len(text) // 2])
    text = text[begin.end() :] if begin else text
    return re.sub(r"\s\S*$", "", text)


def _known(words: Sequence[str], tokens: Sequence[int]) -> str:
    """The longest stretch of known words from the start of a line; if all are short, it may have unknown words."""
    starts = [k + 1 for k, word in enumerate(words) if word == "\n"] or [0]
    ends = {k: _end(tokens, k) for k in starts}
    best = max(starts, key=lambda k: ends[k] - k)
    end = ends[best] if ends[best] - best >= FEWEST else best + OPENING
    return "".join(words[best:end]).strip("\n").rstrip()


def _end(tokens: Sequence[int], start: int) -> int:
    """The position of the first unknown word, at most OPENING later."""
    stretch = list(tokens[start : start + OPENING])
    return start + (stretch.index(0) if 0 in stretch else len(stretch))


def _network(shown: Shown) -> dict[str, Any]:
    layers, rnn, example = shown.described.layers, shown.model.rnn, shown.example
    circuits: list[Circuit] = []
    for layer in layers:
        if layer.circuit.graph not in [circuit.graph for circuit in circuits]:
            circuits.append(layer.circuit)
    cell = type(rnn.cell).__name__
    known = [example["unit"]] if example and example["unit"] else shown.found
    return {
        "name": shown.name,
        "cell": cell,
        "about": {"parameters": shown.model.parameters, "layers": rnn.num_layers, "units": rnn.hidden_size},
        "model": shown.described.data,
        "steps": [{**step_data(circuit), "diagram": _drawn(circuit, cell)} for circuit in circuits],
        "found": list(shown.found),
        "start": _start(layers, known),
    }


@lru_cache(maxsize=64)
def _drawn(circuit: Circuit, cell: str) -> str:
    """The diagram, cached since a good layout takes seconds."""
    try:
        return draw(circuit, cell).inline
    except CannotDraw as error:  # the rest of the page is complete
        print(f"{cell}: its picture could not be laid out ({error}): {REPORT}", file=sys.stderr)
        return UNDRAWN


def _name(trained: Trained) -> str:
    """The name of a run: that of its folder, also for ".". Bytes that are no characters become ?."""
    return os.fsencode(trained.run.folder.resolve().name).decode(errors="replace")


def _names(runs: Sequence[Trained]) -> list[str]:
    """The names of the runs; equal ones are preceded by the parent folder."""
    names = list(map(_name, runs))
    if len(set(names)) == len(names):
        return names
    parents = [os.fsencode(run.run.folder.resolve().parent.name).decode(errors="replace") for run in runs]
    return [f"{parent}/{name}" for parent, name in zip(parents, names, strict=True)]


def _start(layers: Sequence[TracedLayer], found: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The unit that a page shows first: the first one found, else unit 0 of the memory of the top layer."""
    if found:
        part = find(layers[found[0]["layer"]].circuit, found[0]["value"])
        return {"layer": found[0]["layer"], "part": part, "unit": found[0]["index"]}
    states = [end.part for end in layers[-1].circuit.ends if end.kind == "state"]
    return {"layer": len(layers) - 1, "part": states[1] if len(states) > 1 else states[0], "unit": 0}


def _found(trained: Trained) -> list[dict[str, Any]]:
    """The units that follow the built-in labels in the held-out text."""
    try:
        tokens = trained.tokens()[0][:SEARCHED]
    except BadInput:
        return []
    found = []
    for label in LABELLINGS:
        if label == OF_AGREEMENT and "agreement" not in trained.settings.text:
            continue
        try:
            found += units(trained, tokens, [label], top=3)[label]
        except BadInput:  # the text has too few examples
            continue
    return [asdict(unit) for unit in found]
