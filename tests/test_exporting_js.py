"""Exports to JavaScript, run in Node."""

import json
import subprocess
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

import conveyor
from browser import started
from cases import CASES, every_cell, extra_inputs
from conveyor.language import LanguageModel
from conveyor.tasks.text import Vocabulary
from tolerance import assert_equal


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


def in_node(folder, name, expression):
    """What an expression of `model` is."""
    program = (
        f"const {{ load }} = await import(process.argv[1]); const model = await load(); console.log({expression});"
    )
    driver = ["node", "--input-type=module", "-e", program, (folder / f"{name}.js").as_uri()]
    return json.loads(subprocess.run(driver, capture_output=True, text=True, check=True).stdout)


def test_a_wide_output(tmp_path):
    """More numbers than a call in JavaScript takes arguments."""
    report = conveyor.export(conveyor.RNN(2, 4), tmp_path / "out", "js", head=torch.nn.Linear(4, 1000))
    assert report.proof.error <= 1e-5


def test_bytes_are_decoded_as_in_python(tmp_path):
    """With the mark at their beginning, and a replacement for what is no text."""
    vocabulary, numbers = Vocabulary.of(b"", "byte"), [0xEF, 0xBB, 0xBF, 0x61, 0xFF, 0xC3, 0xBC]
    conveyor.export(LanguageModel(256, conveyor.zoo.GRU, 2), tmp_path / "out", "js", vocabulary=vocabulary)
    found = in_node(tmp_path / "out", "gru", f"JSON.stringify(model.decode({numbers}))")
    assert found == "".join(vocabulary.decode(numbers))


def test_what_the_model_never_saw_is_refused_and_a_surrogate_is_a_symbol(tmp_path):
    vocabulary = Vocabulary("char", ("a", "b", "\udc80"))
    conveyor.export(LanguageModel(3, conveyor.zoo.GRU, 2), tmp_path / "out", "js", vocabulary=vocabulary)
    encoded = (
        "(text) => { try { return model.encode(text); } catch (error) { return `${error.name}: ${error.message}`; } }"
    )
    found = in_node(tmp_path / "out", "gru", f'JSON.stringify(["ab\\udc80", "azbyz"].map({encoded}))')
    assert found == [[0, 1, 2], 'RangeError: the model never saw "z", "y"']


IN_A_PAGE = """
return import("/gru.js").then(async ({ load }) => {
  const model = await load();
  return Array.from(model.run(arguments[0]), Number);
});
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.xdist_group("browser")
def test_in_a_browser(tmp_path):
    """Weights are fetched from beside the module."""
    torch.manual_seed(0)
    layer, x = conveyor.GRU(3, 5, num_layers=2), torch.randn(40, 3)
    folder = tmp_path / "out"
    conveyor.export(layer, folder, "js")
    (folder / "index.html").write_text("<!doctype html><link rel=icon href=data:,><title>export</title>")
    with served(folder) as address, started() as browser:
        browser.open(address)
        found = torch.tensor(browser.run(IN_A_PAGE, x.flatten().tolist()))
    with torch.no_grad():
        wanted, _ = layer(x)
    assert_equal(found.view(40, 5), wanted, table={torch.float32: 1e-5})


@pytest.mark.parametrize(("program", "part"), [(None, "there is no node"), ("exit 1", "too old or broken")])
def test_without_a_node_that_runs_modules_it_says_so(program, part, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    if program is not None:
        (tmp_path / "bin" / "node").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "bin" / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    report = conveyor.export(conveyor.GRU(2, 3), tmp_path / "out", "js")
    assert part in str(report)
    assert part in json.loads((tmp_path / "out" / "export.json").read_text())["proof"]["not_run"]
