"""Gradients in a page, by the states and inputs of each step, are those of autograd, also where values are edited."""

import json
import random

import numpy as np
import pytest
import torch

from conveyor import zoo
from conveyor.explain.measure.flow import gradient_flow
from conveyor.explain.running import interpret
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.layers import traced_layers
from in_a_page import CELLS, TEXT, VOCABULARY, InAPage, language_model

pytestmark = pytest.mark.xdist_group("explain gradients")
STEPS = 12
TOKENS = torch.tensor(list(dict.fromkeys(VOCABULARY.encode(TEXT.encode()).tolist()))[:STEPS])  # all different
BOUND = 2e-5  # of the largest


def by_autograd(model, token, edits, monkeypatch):
    """The norms by each layer's states as they are handed on and by the embeddings of the tokens, [states + 1, T].

    After the last step the prediction reads the last layer's output, and nothing reads a state.
    """
    kept, handed, own = [], [], interpret.interpret

    def keeping(circuit, given, *edits):
        # Copies, which are read by this step only.
        states = {name: value.clone().requires_grad_() for (kind, name), value in given.items() if kind == "state"}
        for value in states.values():
            value.retain_grad()
        values = own(circuit, {**given, **{("state", name): value for name, value in states.items()}}, *edits)
        for value in values:
            if value.requires_grad:
                value.retain_grad()
        handed.append(states)
        kept.append(values)
        return values

    with monkeypatch.context() as patch:
        patch.setattr(interpret, "interpret", keeping)
        logits = interpret.run(model, TOKENS, edits).logits
    model.zero_grad()
    logits[-1].log_softmax(-1)[token].backward()
    stack = traced_layers(model)
    by_state = [
        [norm(states[name].grad) if name in states else 0.0 for states in handed[layer + len(stack) :: len(stack)]]
        + [norm(kept[-1][level.end(name)].grad) if level is stack[-1] and name == level.output else 0.0]
        for layer, level in enumerate(stack)
        for name in level.initial
    ]
    return np.array([*by_state, model.embedding.weight.grad[TOKENS].norm(dim=-1).tolist()])


def norm(gradient):
    return 0.0 if gradient is None else gradient.norm().item()


def some_edits(model, draw):
    circuits = [level.circuit for level in traced_layers(model)]
    yield []
    sets = [Edit(k, draw.randrange(len(c.parts)), draw.uniform(0.2, 1), 0, None, 4) for k, c in enumerate(circuits)]
    gates = [Edit(k, draw.choice(list(c.named.values())), 1.0, None, None, 2, 9) for k, c in enumerate(circuits)]
    lines = [(k, draw.choice(c.wires)) for k, c in enumerate(circuits)]
    yield [*sets, *gates, *(Edit(k, wire.target, source=wire.source, first=6) for k, wire in lines)]


@pytest.mark.parametrize("name", CELLS)
def test_gradients_in_a_page_are_those_of_autograd(name, browser, tmp_path, monkeypatch):
    index = list(CELLS).index(name)
    options = ({"embedding_size": 6}, {"zoneout": 0.1}, {"learn_initial_state": True, "tied": True})[index % 3]
    model = language_model(CELLS[name], seed=index, tie=False, **options)
    InAPage.of(browser, tmp_path, model)
    for edits in some_edits(model, random.Random(index)):
        expected = by_autograd(model, 3, edits, monkeypatch)
        if not np.isfinite(expected).all():
            assert edits, "a run without edits has gradients"
            continue
        given = f"{json.dumps(TOKENS.tolist())}, {json.dumps([edit.data for edit in edits])}"
        found = browser.numbers(
            f"const {{ byState, byInput }} = network.gradients(network.run({given}), {STEPS - 1}, 3); "
            "return Float64Array.from([...byState.flat(), byInput].flatMap((some) => Array.from(some)));"
        )
        bound = BOUND * np.maximum(1e-3, expected.max(1, keepdims=True))
        error = np.abs(found.reshape(expected.shape) - expected)
        assert (error <= bound).all(), f"off by {error.max()}, with {edits}"


@pytest.mark.parametrize("name", ["lstm", "gru", "leaky", "renamed", "handed-on", "two-clocks"])
def test_gradients_in_a_page_are_the_flow(name, browser, tmp_path):
    """Of an output of one number all gradients are that by the output times those of the output."""
    model = language_model(CELLS[name], hidden=1, tie=False, learn_initial_state=True)
    InAPage.of(browser, tmp_path, model)
    record = f"network.run({json.dumps(TOKENS.tolist())})"
    found = browser.run(f"return network.gradients({record}, {STEPS - 1}, 3).byState")
    flow = gradient_flow(model.rnn, model.embedding(TOKENS).detach())
    states = list(flow)
    by_output = found[-1][states.index("h")][-1]
    for layer, of_states in enumerate(found):
        for state, norms in zip(states, of_states, strict=True):
            shown = np.array(norms[-2::-1]) / by_output
            assert shown == pytest.approx(flow[state][layer][: STEPS - 1].numpy(), rel=1e-3, abs=1e-6), (state, layer)


def test_a_gradient_of_an_earlier_prediction_is_that_of_the_shorter_text(browser, tmp_path):
    InAPage.of(browser, tmp_path, language_model(zoo.LSTM))
    tokens = json.dumps(TOKENS.tolist())
    whole = f"return network.gradients(network.run({tokens}), 5, 2)"
    part = f"return network.gradients(network.run({tokens}.slice(0, 6)), 5, 2)"
    assert browser.run(whole) == browser.run(part)


def test_gradients_are_of_the_weights_as_they_are(browser, tmp_path):
    InAPage.of(browser, tmp_path, language_model(zoo.LSTM))
    run = f"network.gradients(network.run({json.dumps(TOKENS.tolist())}), 11, 2).byInput"
    before, mixed, after = browser.run(
        f"const a = {run}; network.blend(0.3); const b = {run}; network.blend(1); return [a, b, {run}]"
    )
    assert before == after
    assert before != mixed
