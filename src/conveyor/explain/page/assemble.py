"""Assembles the page of a language model: networks, cells and a text in one self-contained HTML file."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

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
from conveyor.explain.running.network import Described, describe
from conveyor.language.trained import Trained
from conveyor.tasks.text import WORD, Vocabulary

OPENING = 200  # tokens of the held-out text, if no text is given
FEWEST = 12  # tokens of a stretch without unknown words
SEARCHED = 6_000  # tokens of the held-out text in which units are searched
UNDRAWN = """<svg xmlns="http://www.w3.org/2000/svg" class="diagram" viewBox="0 0 640 60" width="640" height="60">
<text x="320" y="38" font-size="22" text-anchor="middle">This cell could not be drawn.</text></svg>"""
OF_AGREEMENT = "subject number"  # defined only for the words of the agreement corpus


def page(runs: Sequence[Trained], text: str | None = None, served: bool = False) -> str:
    """The page of one run, or of two side by side.

        Path("page.html").write_text(page([load(Path("runs/lstm"))], "to be or not to be"), encoding="utf-8")

    Without a text, it shows the beginning of the first run's held-out text. `served`: the page may query its server for
    the texts of the runs (serve.py). Raises BadInput for a text with characters that the first run's model does not
    know, and for a cell that cannot be traced.
    """
    text = opening(runs[0]) if text is None else checked(text, runs[0].vocabulary)
    made = [describe(run.model, run.vocabulary) for run in runs]
    toured = tour(runs, made, text)
    examples = [network["example"] for network in toured["networks"]]
    data = {
        "title": " and ".join(names := _names(runs)),
        "text": text,
        "step": example.opening_step(text, runs[0].vocabulary),
        "networks": [{**_network(*one), "name": name} for name, *one in zip(names, runs, made, examples, strict=True)],
        "tour": toured,
        "served": served,
    }
    steps = {f"steps{k}.js": described.script for k, described in enumerate(made)}
    code = bundle.script("main.js", {**steps, "steps.js": _all_steps(len(made))})
    style = stylesheet() + bundle.read("style.css") + bundle.read("tour.css")
    blobs = {f"weights{k}": packed(described.weights) for k, described in enumerate(made)}
    asks = "; connect-src 'self'" if served else ""
    return bundle.document(f"{data['title']} explained", code, style, data, blobs, asks)


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


def _network(trained: Trained, described: Described, known: dict[str, Any] | None) -> dict[str, Any]:
    circuits: list[Circuit] = []
    for layer in described.layers:
        if layer.circuit.graph not in [circuit.graph for circuit in circuits]:
            circuits.append(layer.circuit)
    found = _found(trained)
    settings, cell = trained.settings, type(trained.model.rnn.cell).__name__
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    return {
        "name": _name(trained),
        "cell": cell,
        "about": {"parameters": parameters, "layers": settings.num_layers, "units": settings.hidden_size},
        "model": described.data,
        "steps": [{**step_data(circuit), "diagram": _drawn(circuit, cell)} for circuit in circuits],
        "found": found,
        "start": _start(described.layers, [known["unit"]] if known and known["unit"] else found),
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
