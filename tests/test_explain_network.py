"""A language model of any cell in a page is the model in PyTorch, in a real browser, also where it is edited."""

import json
import random
import sys
import unicodedata

import numpy as np
import pytest
import torch

import conveyor
from conveyor import zoo
from conveyor.cell import Cell
from conveyor.errors import BadInput
from conveyor.explain.running.edits import Edit, names
from conveyor.explain.running.interpret import run
from conveyor.explain.running.layers import traced_layers
from conveyor.explain.running.network import describe
from conveyor.explain.running.untrained import blend
from conveyor.language import LanguageModel
from conveyor.tasks.text import WORD, Vocabulary
from in_a_page import BOUND, CELLS, TEXT, VOCABULARY, InAPage, assert_same, language_model, numbers

pytestmark = pytest.mark.xdist_group("explain network")
OPTIONS = (
    {},
    {"learn_initial_state": True, "tie": False},
    {"embedding_size": 5, "zoneout": 0.1},
    {"bias": False, "learn_initial_state": True},
    {"tied": True, "learn_initial_state": True},
)
TOKENS = VOCABULARY.encode(TEXT.encode()[:60])


def options(name):
    return OPTIONS[list(CELLS).index(name) % len(OPTIONS)]


def assert_named(model, record):
    """Every value that the step names, of every layer, is what the layer itself records."""
    with torch.no_grad():
        _, _, values = model.rnn(model.embedding(TOKENS[:, None]), record=True)
    for layer, circuit in enumerate(record.circuits):
        assert circuit.named
        for name in circuit.named:
            found, expected = record.value(layer, name), values[name][layer][0, :, 0]
            assert_same(found.reshape(expected.shape).numpy(), expected.numpy(), f"{name} of layer {layer}")


@pytest.mark.parametrize("name", CELLS)
def test_a_model_in_a_page_is_the_model_and_edited_the_edited_one(name, browser, tmp_path):
    model = language_model(CELLS[name], **options(name))
    here = InAPage.of(browser, tmp_path, model)
    with torch.no_grad(), conveyor.backend("eager"):
        record, scores = run(model, TOKENS), model(TOKENS[:, None])[0][:, 0]
        if not model.rnn.zoneout:  # whose record is of values before they are mixed with the old
            assert_named(model, record)
    found = here.run(TOKENS)
    assert_same(found, numbers(record), "all values")
    logs = torch.tensor(found[:, -len(VOCABULARY) :]).log_softmax(-1)
    assert (logs - scores.log_softmax(-1)).abs().max() <= BOUND

    tokens = TOKENS[:30]
    for edits in some_edits([level.circuit for level in here.described.layers], list(CELLS).index(name)):
        with torch.no_grad():
            expected = numbers(run(model, tokens, edits))
        assert_same(here.run(tokens, edits), expected, f"with {edits}")
    assert (here.run(TOKENS) == found).all(), "edits leave nothing behind"


def some_edits(circuits, seed):
    """A run's edits in turn: a gate at 0 and at 1, a value at one step, a line, and much at once."""
    draw = random.Random(seed)
    layer = draw.randrange(len(circuits))
    circuit = circuits[layer]
    gates = [i for i, part in enumerate(circuit.parts) if part.op == "sigmoid"] or list(circuit.named.values())
    gate, named, wire = draw.choice(gates), draw.choice(list(names(circuit))), draw.choice(circuit.wires)
    yield [Edit(layer, gate, 0.0)]
    yield [Edit(layer, gate, 1.0, first=7)]
    yield [Edit(layer, named, 0.7, unit=0, first=5, last=5)]
    yield [Edit(layer, wire.target, source=wire.source, first=3)]
    sets = [Edit(k, draw.randrange(len(c.parts)), draw.uniform(-1, 1), first=4) for k, c in enumerate(circuits)]
    lines = [(k, draw.choice(c.wires)) for k, c in enumerate(circuits) for _ in range(3)]
    yield [*sets, *(Edit(k, wire.target, source=wire.source, last=20) for k, wire in lines)]


@pytest.mark.parametrize("share", [0, 0.5, 1])
@pytest.mark.parametrize("name", ["lstm", "lstm-depth-gated", "leaky", "normed"])
def test_untrained_weights_are_drawn_in_a_page_as_here(name, share, browser, tmp_path):
    model = language_model(CELLS[name], tie=False, learn_initial_state=True)
    here = InAPage.of(browser, tmp_path, model)
    entries, weights = here.described.data["tensors"], here.described.weights
    mixed = blend(entries, weights, share)
    here.run(TOKENS[:3])  # nothing stays of the weights that were there before
    assert (browser.numbers(f"network.blend({share}); return network.weights") == mixed).all()
    assert (mixed == weights).all() == (share == 1)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for entry in entries:
            part = torch.tensor(mixed[entry["at"] : entry["at"] + entry["size"]]).view(entry["shape"])
            path, _, row = entry["name"].rpartition(".")
            if path.startswith("rnn.initial_state"):
                parameters[path][int(row)] = part
            else:
                parameters[entry["name"]].copy_(part)
        assert_same(here.run(TOKENS, share=share), numbers(run(model, TOKENS)), f"at {share}")


def test_the_untrained_are_distributed_as_a_new_model_is():
    model = language_model(zoo.LSTM, hidden=64)
    described = describe(model, VOCABULARY)
    drawn = blend(described.data["tensors"], described.weights, 0)
    entry = next(e for e in described.data["tensors"] if e["name"] == "rnn.cells.1.forget.weight_h")
    part = drawn[entry["at"] : entry["at"] + entry["size"]]
    assert abs(part).max() <= 1 / 8
    assert abs(part.mean()) < 0.01
    assert part.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


def test_what_is_typed_on_is_all_that_is_run(browser, tmp_path):
    model = language_model(zoo.GRU)
    here = InAPage.of(browser, tmp_path, model)
    browser.run("globalThis.taken = 0; const step = network.step; "
                "network.step = (...given) => { taken++; return step.apply(network, given); };")  # fmt: skip
    tokens = TOKENS[:40]
    edited = [Edit(0, "z", 0.5, first=30)]
    twice = [Edit(0, "z", 0.0, first=25), Edit(0, "z", 1.0, unit=3, first=20), *edited]
    with torch.no_grad():
        plain, changed = numbers(run(model, tokens)), numbers(run(model, tokens, edited))
        one, other = numbers(run(model, tokens, twice)), numbers(run(model, tokens, twice[::-1]))
    assert (one != other).any(), "the last edit wins"
    for given, edits, expected, steps in (
        (tokens[:20], [], plain, 20),
        (tokens[:21], [], plain, 1),  # one more
        (tokens, [], plain, 19),
        (tokens[:10], [], plain, 0),  # a beginning
        (tokens, [], plain, 0),  # which has not made it forget the rest
        (tokens, edited, changed, 10),  # an edit from step 30 on
        (tokens, [], plain, 10),
        (tokens, twice, one, 20),
        (tokens, twice[::-1], other, 20),  # in another order
        (tokens, twice[::-1], other, 0),
        (tokens, [], plain, 20),
        (torch.cat([tokens[:5], tokens[6:7], tokens[6:]]), [], None, 35),  # another token at 5
    ):
        browser.run("taken = 0")
        found = here.run(given, edits)
        assert browser.run("return taken") == steps
        if expected is not None:
            assert_same(found, expected[: len(given)], "a run that goes on")


def test_a_run_in_slices_is_the_run(browser, tmp_path):
    here = InAPage.of(browser, tmp_path, language_model(zoo.RNN))
    given = json.dumps(TOKENS.tolist())
    expected = here.run(TOKENS)
    browser.run("network.blend(1)")  # it forgets what it has run
    said = browser.run(
        f"const said = []; return network.runInSlices({given}, [], (...done) => said.push(done)).then((record) => "
        "{ globalThis.record = record; return said; })"
    )
    assert said[-1] == [len(TOKENS), len(TOKENS)]
    assert (browser.numbers("return all(record)").reshape(len(TOKENS), -1) == expected).all()
    late = f"const first = network.runInSlices({given}.concat({given})); network.run([0]); return first"
    assert browser.run(late) is None, "another run has begun"


def test_an_edit_of_what_is_not_there_is_an_error_in_both(browser, tmp_path):
    model = language_model(zoo.LSTM)
    InAPage.of(browser, tmp_path, model)
    for edit, reason in (
        (Edit(0, "g"), "no value called g"),
        (Edit(0, 99), "no part 99"),
        (Edit(0, "f", unit=8), "no unit 8"),
        (Edit(0, "f", source="C"), "no line goes from C to f"),
        (Edit(2, "f"), "no layer 2"),
    ):
        with pytest.raises(BadInput, match=reason):
            run(model, TOKENS[:3], [edit])
        given = json.dumps(edit.data)
        assert browser.run(f"try {{ network.run([0], [{given}]); }} catch (error) {{ return error.message; }}")


KINDS = {
    "char": "naïve Ελλάδα שלום 日本 🙂👩‍👩‍👧 e\u0301",
    "byte": "naïve שלום 🙂",
    "word": "Don't  stop: שָׁלוֹם, e\u0301te\u0301 x_1 ٣٤ ½ 🙂👍🏽 日本語\u00a0a\ufeffb\u2028\x1c\x85 ไทย क्षि",
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_python(kind, browser, tmp_path):
    text = KINDS[kind]
    vocabulary = Vocabulary.of(text.encode(), kind)
    model = LanguageModel(len(vocabulary), zoo.RNN, 4)
    InAPage.of(browser, tmp_path, model, vocabulary)
    found = browser.run("return network.encode(arguments[0])", text)
    assert found["tokens"] == vocabulary.encode(text.encode()).tolist()
    assert found["unknown"] == []
    if kind == "word":
        assert found["pieces"] == WORD.findall(text)


@pytest.mark.parametrize(
    ("kind", "tokens", "pieces", "unknown"),
    [
        ("char", [0, 1, 0], [" ", "a", " "], ["ж", "z"]),  # of " ab"
        ("word", [0, 2, 0], ["ж", " b", " zж"], ["ж", " zж"]),
    ],
)
def test_what_a_model_never_saw_is_told(kind, tokens, pieces, unknown, browser, tmp_path):
    vocabulary = Vocabulary.of(b"a b", kind)
    InAPage.of(browser, tmp_path, LanguageModel(len(vocabulary), zoo.RNN, 4), vocabulary)
    text = {"char": "ж aж zж", "word": "ж b zж"}[kind]
    found = browser.run("return network.encode(arguments[0])", text)
    assert found == {"tokens": tokens, "pieces": pieces, "unknown": unknown}


def test_every_character_is_in_a_word_where_python_has_it_in_one(browser, tmp_path):
    InAPage.of(browser, tmp_path, LanguageModel(2, zoo.RNN, 4), Vocabulary("word", ("<unk>", "a")))
    given = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    some = [c for i, c in enumerate(given) if unicodedata.category(c) != "Lo" or i % 16 == 0]
    text = "".join(f"a{c}b {c}" for c in some)
    found = browser.run("return network.encode(arguments[0]).pieces.join('\\uffff')", text).split("\uffff")
    expected = WORD.findall(text)
    wrong = [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]]
    assert not wrong[:3]
    assert len(found) == len(expected)


def test_an_error_in_a_page_is_seen(browser, tmp_path):
    InAPage.of(browser, tmp_path, language_model(zoo.RNN))
    for wrong in ("setTimeout(() => { throw new Error('wrong') })", "Promise.reject(new Error('wrong'))"):
        with pytest.raises(AssertionError, match="wrong"):
            browser.run(f"{wrong}; return new Promise((resolve) => setTimeout(resolve, 50))")


class Fed(Cell):
    """Takes what a language model does not have."""

    def step(self, x, h, drive):
        return h + drive


class Branching(Cell):
    """Cannot be traced."""

    def step(self, x, h):
        return h if h.sum() > 0 else x


def test_a_cell_that_a_page_cannot_hold_is_told():
    with pytest.raises(BadInput, match=r"Fed\.step .*also takes drive"):
        describe(LanguageModel(5, Fed, 4), VOCABULARY)
    with pytest.raises(BadInput, match=r"test_explain_network\.py, line \d+: the step reads a tensor's value"):
        describe(LanguageModel(5, Branching, 4), VOCABULARY)
    with pytest.raises(BadInput, match="bidirectional"):
        describe(LanguageModel(5, zoo.LSTM, 4, bidirectional=True), VOCABULARY)


def test_a_description_is_data():
    described = describe(language_model(zoo.LSTM), VOCABULARY)
    assert json.loads(json.dumps(described.data)) == described.data
    assert described.weights.dtype == np.float32
    assert len(described.data["steps"]) == 1  # equal layers share it
    assert "eval" not in described.script
    assert len(traced_layers(language_model(zoo.LSTM, embedding_size=5))) == 2
