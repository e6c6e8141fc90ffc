"""Exports to JavaScript, run in Node."""

import json
import subprocess

import pytest
import torch

import conveyor
from cases import CASES, every_cell, extra_inputs
from conveyor.language import LanguageModel
from conveyor.tasks.text import Vocabulary


@every_cell
def test_every_cell_is_the_same_in_javascript(name, tmp_path):
    torch.manual_seed(0)
    rnn = CASES[name].layer(3, 5, num_layers=2)
    report = conveyor.export(rnn, tmp_path / "out", "js", inputs=extra_inputs(rnn, 4, 2, torch.float32))
    assert report.proof.error <= 1e-5


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("tie", [False, True])
def test_a_language_model(inline, tie, tmp_path):
    torch.manual_seed(0)
    vocabulary = Vocabulary.of("to be or not to be ünd".encode(), "char")
    model = LanguageModel(len(vocabulary), conveyor.zoo.LSTM, 6, 2, embedding_size=0 if tie else 4, tie=tie)
    report = conveyor.export(model, tmp_path / "out", "js", vocabulary=vocabulary, inline=inline)
    assert report.proof.error <= 1e-5
    assert ("lstm.bin" in report.files) != inline


USED = """
const { load } = await import(process.argv[1]);
const model = await load();
const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
const refused = (action) => { try { action(); return null; } catch (error) { return error.message; } };
const tokens = model.encode("to be or not");
const whole = model.run(tokens);
const other = model.stream();
const last = tokens.map((token) => other.step(token)).pop();
const saved = other.state;
const next = other.step(1);
other.reset();
const first = other.step(tokens[0]);
other.state = saved;
const size = last.length;
console.log(JSON.stringify({
  text: model.decode(tokens),
  steps: same(whole.slice(-size), last),
  untouched: model.state.at === tokens.length,
  restored: same(other.step(1), next),
  reset: same(first, whole.slice(0, size)),
  refusals: [
    refused(() => model.step(99)),
    refused(() => model.step(0.5)),
    refused(() => (model.state = { at: 0, values: {} })),
    refused(() => model.step(0, { more: [1] })),
    await load(new Uint8Array(8)).catch((error) => error.message),
  ],
}));
"""


def test_streams_and_text_of_an_exported_model(tmp_path):
    torch.manual_seed(0)
    vocabulary = Vocabulary.of(b"to be or not to be", "char")
    model = LanguageModel(len(vocabulary), conveyor.zoo.GRU, 6, 2)
    conveyor.export(model, tmp_path / "out", "js", vocabulary=vocabulary)
    driver = ["node", "--input-type=module", "-e", USED, (tmp_path / "out" / "gru.js").as_uri()]
    found = json.loads(subprocess.run(driver, capture_output=True, text=True, check=True).stdout)
    assert found.pop("text") == "to be or not"
    refusals = found.pop("refusals")
    assert all(found.values()), found
    for message, part in zip(refusals, ["not 99", "not 0.5", "h.0 is not given", "no more", "not 8"], strict=True):
        assert message is not None
        assert part in message
