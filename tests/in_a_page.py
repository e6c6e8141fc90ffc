"""A language model in a page of its own, in a real browser, and what it gives there."""

import base64
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import sigmoid, tanh

from cases import Counted, Leaky, Nested, Normed
from conveyor import zoo
from conveyor.cell import Cell
from conveyor.explain.page.bundle import as_json, script
from conveyor.explain.running.interpret import Record
from conveyor.explain.running.network import Described, describe
from conveyor.language import LanguageModel
from conveyor.tasks.text import Vocabulary

TEXT = "To be, or not to be: that is the question.\n" * 5
VOCABULARY = Vocabulary.of(TEXT.encode(), "char")
BOUND = 1e-5
# An entry in a page: network.js, with what is in the page's elements.
ENTRY = """import { Network } from "./network.js";
import { steps } from "./steps.js";
import { arithmetic } from "./arithmetic.js";
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = Uint8Array.from(atob(document.getElementById("weights").textContent), (c) => c.charCodeAt(0));
Object.assign(globalThis, { steps, arithmetic, data });
if (data.layers) globalThis.network = new Network(data, bytes, steps);
// All numbers of a record, in the order in which `numbers` in Python has them.
globalThis.all = ({ steps }) => {
  const each = steps.flatMap(({ values, sums, logits }) => [...values.flat(), ...sums.flat().filter(Boolean), logits]);
  const found = new Float32Array(each.reduce((size, some) => size + some.length, 0));
  let at = 0;
  for (const some of each) {
    found.set(some, at);
    at += some.length;
  }
  return found;
};
"""


class Renamed(Cell):
    """A user's own: the new states have names of their own."""

    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.gate, self.candidate = self.affine("h", "x"), self.affine("h", "x")

    def step(self, x, h, C):
        f = sigmoid(self.gate(h, x))
        new_C = f * C + (1 - f) * tanh(self.candidate(h, x))
        new_h = f * tanh(new_C)
        return new_h, new_C


class HandedOn(Cell):
    """A user's own: K is never changed, D is the output of the step before."""

    state = ("h", "K", "D")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x", "D")

    def step(self, x, h, K, D):
        new = tanh(self.candidate(h, x, D) + K)
        return new, K, h


class Masked(Cell):
    """A user's own: numbers that are infinite on the way."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.score, self.candidate = self.affine("h", "x"), self.affine("h", "x")

    def step(self, x, h):
        u = self.score(h, x)
        m = torch.where(u > 0, u, -torch.inf)
        h = (torch.exp(-torch.exp(m)) + h) * 0.5 + tanh(self.candidate(h, x))
        return h


class TwoClocks(Cell):
    """A user's own: two things are made of the step's number, one of them of the other."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h, t):
        k = t % 4
        new = tanh(self.candidate(h, x)) * (0.5 + 0.1 * (t % 3))
        h = torch.where(k == 0, new, h) + 0.1 * k * new
        return h


OWN = {"renamed": Renamed, "handed-on": HandedOn, "masked": Masked, "two-clocks": TwoClocks}
CELLS = {**zoo.CELLS, "leaky": Leaky, "normed": Normed, "counted": Counted, "nested": Nested, **OWN}


def language_model(cell, seed=0, hidden=8, **options):
    """A model of two layers with random weights, in which nothing is zero or one."""
    torch.manual_seed(seed)
    model = LanguageModel(len(VOCABULARY), cell, hidden, 2, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def page(data, weights, steps):
    """The text of a page: under its policy no script is made of text."""
    code = script("entry.js", {"entry.js": ENTRY, "steps.js": steps})
    policy = "default-src 'none'; script-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><script type="application/json" id="data">{as_json(data)}</script>'
        f'<script type="text/plain" id="weights">{base64.b64encode(weights).decode()}</script><script>{code}</script>'
    )


def numbers(record: Record) -> np.ndarray:
    """All that a record has, step by step: the parts' values, the layers' sums, the logits."""
    values = [value.reshape(len(value), -1) for layer in record.values for value in layer]
    sums = [value.reshape(len(value), -1) for layer in record.sums for value in layer if value is not None]
    return torch.cat([*values, *sums, record.logits], 1).numpy()


@dataclass
class InAPage:
    """A model in the page that a browser shows."""

    browser: object
    described: Described

    @classmethod
    def of(cls, browser, folder, model, vocabulary=VOCABULARY):
        described = describe(model, vocabulary)
        file = folder / "page.html"
        file.write_text(page(described.data, described.weights.tobytes(), described.script), encoding="utf-8")
        browser.open(file)
        return cls(browser, described)

    def run(self, tokens, edits=(), share=None):
        """All numbers, [T, ...], as `numbers` gives them."""
        blend = "" if share is None else f"network.blend({share}); "
        given = f"{json.dumps(tokens.tolist())}, {json.dumps([edit.data for edit in edits])}"
        found = self.browser.numbers(f"{blend}return all(network.run({given}));")
        return found.reshape(len(tokens), -1)


def assert_same(found, expected, what):
    """Within BOUND of each other, relative to what is larger than one; infinite and NaN in the same places."""
    assert found.shape == expected.shape, f"{what}: {found.shape}, not {expected.shape}"
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True), f"{what}: not the same kinds of numbers"
    error = np.abs(found[finite] - expected[finite]) / np.maximum(1, np.abs(expected[finite]))
    assert (error <= BOUND).all(), f"{what}: off by {error.max():.3g}"
