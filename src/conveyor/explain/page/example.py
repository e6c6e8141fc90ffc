"""The essay's example in a model trained on agreement: the unit that carries the subject's number to its verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.units import Unit, units
from conveyor.explain.page.roles import Roles
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import interpret
from conveyor.explain.running.layers import TracedLayer, traced_layers
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained
from conveyor.tasks.agreement import (
    ADJECTIVES,
    NOUNS,
    PREPOSITIONS,
    SEES,
    STOP,
    THAT,
    VERBS,
    lexicon,
    sentence,
    verbs_of,
)
from conveyor.tasks.text import WORD, Vocabulary

TEXT = "the keys to the cabinet near the door are old .\nthe child swims ."
LEARN, MEASURE = 1_000, 300  # sentences to find the unit, and to measure the effect of losing it
COMPARED, TURNED = 16, 3  # units for comparison, and sentences that are shown
FOLLOWED = "main subject number"  # of the main subject, up to its verb, across clauses
WORDS = {*NOUNS, *VERBS, *SEES, *ADJECTIVES, *PREPOSITIONS}  # base forms
KNOWN = 0.95  # the share of them that a model must know to read new sentences


def is_of_agreement(vocabulary: Vocabulary) -> bool:
    """Whether a model knows nearly all words of the agreement corpus."""
    words = {symbol.strip() for symbol in vocabulary.symbols}
    return vocabulary.kind == "word" and len(words & WORDS) >= KNOWN * len(WORDS)


def opening(vocabulary: Vocabulary) -> str | None:
    """The text that shows the example, if the model knows its words."""
    return TEXT if is_of_agreement(vocabulary) and not (vocabulary.encode(TEXT.encode()) == 0).any() else None


def opening_step(text: str, vocabulary: Vocabulary) -> int:
    """The step at which a page opens: before the main verb of the first sentence for such sentences, else the last."""
    verb = _main_verb([word.strip() for word in WORD.findall(text)]) if is_of_agreement(vocabulary) else None
    return max(0, (len(vocabulary.encode(text.encode())) if verb is None else verb) - 1)


def _main_verb(words: Sequence[str]) -> int | None:
    """The position of the last verb of the first sentence, if a noun precedes it."""
    try:
        plural = lexicon().plural
    except BadInput:
        return None
    first = [*words[: words.index(STOP)]] if STOP in words else words
    noun = next((place for place, word in enumerate(first) if word in plural.nouns), len(first))
    return max((place for place, word in enumerate(first) if word in plural.verbs and place > noun), default=None)


def example(trained: Trained) -> dict[str, Any] | None:
    """The data for the example; None for a model of other text, or if it cannot be measured.

    unit     as measure.units.Unit, with `plural`: whether it is larger after a plural; None: no unit exceeds chance
    nouns, verbs   {word: 0 or 1 for plural}; others {form of a verb: its other form}: only words that the model knows
    edit     {layer, part, value, unit, gate}: makes the unit forget at every step, by its gate, or by the state itself
             if the cell has no such gate; `gate`: which of the two
    rates    {verbs, before, after, others, apart}: the share of main verbs in new sentences for which the wrong form is
             at least as likely: without the edit, with it, and on average with the same edit of other units; `apart`
             {verbs, before, after}: the same for verbs with a noun between them and their subject
    turned   up to three of these sentences in which the edit makes a verb wrong
    """
    if not is_of_agreement(trained.vocabulary):
        return None
    try:
        return _measured(trained)
    except BadInput:  # lemminflect is missing, or the model knows too few words
        return None


def _measured(trained: Trained) -> dict[str, Any]:
    known, found = _words(trained.vocabulary), _unit(trained)
    if found is None:
        return {**known, "unit": None}
    edit, is_gate = _forgetting(trained.model, found)
    return {
        **known,
        "unit": {**asdict(found), "plural": found.sign > 0},
        "edit": {**edit.data, "gate": is_gate},
        **_rates(trained, edit),
    }


def _words(vocabulary: Vocabulary) -> dict[str, Any]:
    known, plural = {symbol.strip() for symbol in vocabulary.symbols}, lexicon().plural
    words, others = lexicon().words, lexicon().others.tolist()
    turned = {words[one]: words[other] for one, other in enumerate(others) if one != other}
    return {
        "that": THAT,
        "stop": STOP,
        "nouns": _only(plural.nouns, known),
        "verbs": _only(plural.verbs, known),
        "others": {one: other for one, other in turned.items() if {one, other} <= known},
    }


def _only(numbers: Mapping[str, int], known: set[str]) -> dict[str, int]:
    return {word: number for word, number in numbers.items() if word in known}


def _unit(trained: Trained) -> Unit | None:
    """The unit of the belts, or if there are none of the states, that follows the main subject's number best."""
    random = Random(1)
    text = "\n".join(" ".join(sentence(random)) for _ in range(LEARN))
    belts = {belt.name for layer in traced_layers(trained.model) for belt in Roles.of(layer.circuit).belts}
    best = units(trained, text, [FOLLOWED], values=sorted(belts), top=1)[FOLLOWED]
    return best[0] if best else None


def _forgetting(model: LanguageModel, unit: Unit) -> tuple[Edit, bool]:
    """The edit that makes a unit forget, and whether it holds a gate."""
    circuit = traced_layers(model)[unit.layer].circuit
    for use in Roles.of(circuit).by("keep"):
        if use.belt == unit.value:
            return Edit(unit.layer, use.gate, 1.0 if use.inverted else 0.0, unit.index), True
    state = next(i for i, part in enumerate(circuit.parts) if part.kind == "state" and part.name == unit.value)
    return Edit(unit.layer, state, 0.0, unit.index), False


# -- how often verbs are wrong


@dataclass(frozen=True)
class _Verbs:
    """Verbs of sentences in a batch, tokens [T, B].

    For each verb: `time` and `row` of the token before it, the numbers of its `form` and its `other` form, and whether
    a noun is between its subject and it (`apart`).
    """

    lines: tuple[str, ...]
    tokens: Tensor
    time: Tensor
    row: Tensor
    form: Tensor
    other: Tensor
    apart: Tensor


def _rates(trained: Trained, edit: Edit) -> dict[str, Any]:
    verbs, model, stack = _verbs(trained.vocabulary), trained.model, traced_layers(trained.model)
    circuit = stack[edit.layer].circuit
    size = circuit.graph.nodes[circuit.parts[int(edit.part)].node].size
    others = [Edit(**{**edit.data, "unit": unit}) for unit in range(size) if unit != edit.unit][:: -(-size // COMPARED)]
    before, after = _wrong(model, stack, verbs, []), _wrong(model, stack, verbs, [edit])
    elsewhere = [float(_wrong(model, stack, verbs, [other]).float().mean()) for other in others]
    others_mean = sum(elsewhere) / max(1, len(elsewhere))
    apart = _rate(before[verbs.apart], after[verbs.apart])
    rates = {**_rate(before, after), "others": others_mean, "apart": apart}
    return {"rates": rates, "turned": _turned(verbs, before, after)}


def _rate(before: Tensor, after: Tensor) -> dict[str, float]:
    """The number of verbs, and the share that are wrong before and after (0 for no verbs)."""
    parts = [float(wrong.sum()) / max(1, len(wrong)) for wrong in (before, after)]
    return {"verbs": len(before), "before": parts[0], "after": parts[1]}


def _turned(verbs: _Verbs, before: Tensor, after: Tensor) -> list[str]:
    """Sentences whose verb the edit makes wrong: those with attractors first, then short ones."""
    rows = set(verbs.row[~before & after].tolist()) - set(verbs.row[before].tolist())
    return sorted((verbs.lines[row] for row in rows), key=lambda line: (not _attracts(line), len(line)))[:TURNED]


def _attracts(line: str) -> bool:
    return any(verb.attractors for verb in verbs_of(line.split()))


def _verbs(vocabulary: Vocabulary) -> _Verbs:
    """The main verbs of new sentences, each after a line break, without sentences that have unknown words."""
    random, known = Random(2), {symbol: n for n, symbol in enumerate(vocabulary.symbols)}
    words, others = lexicon().words, lexicon().others
    texts: list[Tensor] = []
    lines, found = [], []
    for line in (sentence(random) for _ in range(MEASURE)):
        tokens = vocabulary.encode(("\n" + " ".join(line)).encode())
        if (tokens == 0).any():
            continue
        for verb in verbs_of(line)[-1:]:  # the main verb comes last
            other = " " + words[int(others[lexicon().numbers[line[verb.place]]])]
            if other in known:
                form = known[" " + line[verb.place]]
                found.append((verb.place, len(texts), form, known[other], bool(verb.between)))
        texts.append(tokens)
        lines.append(" ".join(line))
    if not found:
        raise BadInput("the model knows too few words of the sentences")
    padded = torch.nn.utils.rnn.pad_sequence(texts)
    return _Verbs(tuple(lines), padded, *(torch.tensor(column) for column in zip(*found, strict=True)))


@torch.no_grad()
def _wrong(model: LanguageModel, stack: Sequence[TracedLayer], verbs: _Verbs, edits: Sequence[Edit]) -> Tensor:
    """For which verbs the other form is at least as likely, [verbs]."""
    output = _outputs(model, stack, verbs.tokens, edits)[verbs.time, verbs.row]
    scores = F.linear(output, model.embedding.weight if model.tied else model.output, model.bias)
    right, other = (scores.gather(1, form[:, None])[:, 0] for form in (verbs.form, verbs.other))
    return ~(right > other)


def _outputs(model: LanguageModel, stack: Sequence[TracedLayer], tokens: Tensor, edits: Sequence[Edit]) -> Tensor:
    """The last layer's output for tokens [T, B], with edits that act at every step, [T, B, width]."""
    rows = tokens.shape[1]
    states = [{name: first.expand(rows, -1) for name, first in layer.initial.items()} for layer in stack]
    outputs = []
    for t, embedded in enumerate(model.embedding(tokens)):
        x, below = embedded, None
        for k, layer in enumerate(stack):
            streams = {"x": x} | {name: _stream(of, embedded, below) for name, of in layer.streams.items()}
            values = interpret(layer.circuit, _given(layer, streams, states[k], t), [e for e in edits if e.layer == k])
            states[k] = {name: values[layer.end(name)].expand(rows, -1) for name in layer.initial}
            x, below = values[layer.end(layer.output)].expand(rows, -1), (layer, values)
        outputs.append(x)
    return torch.stack(outputs)


def _stream(source: Any, x: Tensor, below: tuple[TracedLayer, list[Tensor]] | None) -> Tensor:
    """The value of a stream other than x, see TracedLayer."""
    if isinstance(source, str):
        assert below is not None
        return below[1][below[0].end(source)]
    return source(x) if callable(source) else x.new_full((len(x), 1), source)


def _given(
    layer: TracedLayer, streams: Mapping[str, Tensor], states: Mapping[str, Tensor], t: int
) -> dict[tuple[str, str], Tensor]:
    kinds = {"stream": streams, "state": states, "weight": layer.weights, "step": {"t": torch.tensor(t)}}
    inputs = [node for node in layer.circuit.graph.nodes if node.op == "input"]
    rows = len(streams["x"])
    return {
        (kind, name): kinds[kind][name].expand(rows, *node.dims) if node.rows else kinds[kind][name]
        for node in inputs
        for kind, name, _ in [node.key]
    }
