"""The essay's example in a model that has learnt it: the unit that carries the number of the subject to its verb."""

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
LEARN, MEASURE = 1_000, 300  # sentences in which the unit is found, and on which its loss is measured
COMPARED, TURNED = 16, 3  # units that it is compared with, and sentences that are shown
FOLLOWED = "main subject number"  # of the sentence's own subject, past all clauses, up to its verb
WORDS = {*NOUNS, *VERBS, *SEES, *ADJECTIVES, *PREPOSITIONS}  # without their other forms
KNOWN = 0.95  # of them, so that new sentences can be read


def is_of_agreement(vocabulary: Vocabulary) -> bool:
    """Whether a model knows nearly all words of the corpus agreement; a few of them are in any English text."""
    words = {symbol.strip() for symbol in vocabulary.symbols}
    return vocabulary.kind == "word" and len(words & WORDS) >= KNOWN * len(WORDS)


def opening(vocabulary: Vocabulary) -> str | None:
    """A text that shows it, if the model knows its words."""
    return TEXT if is_of_agreement(vocabulary) and not (vocabulary.encode(TEXT.encode()) == 0).any() else None


def opening_step(text: str, vocabulary: Vocabulary) -> int:
    """The step at which a page begins: of such sentences that before the first one's main verb, else the last."""
    verb = _main_verb([word.strip() for word in WORD.findall(text)]) if is_of_agreement(vocabulary) else None
    return max(0, (len(vocabulary.encode(text.encode())) if verb is None else verb) - 1)


def _main_verb(words: Sequence[str]) -> int | None:
    """The place of the first sentence's last verb, if there is a noun before it."""
    try:
        plural = lexicon().plural
    except BadInput:
        return None
    first = [*words[: words.index(STOP)]] if STOP in words else words
    noun = next((place for place, word in enumerate(first) if word in plural.nouns), len(first))
    return max((place for place, word in enumerate(first) if word in plural.verbs and place > noun), default=None)


def example(trained: Trained) -> dict[str, Any] | None:
    """What a page needs to show the unit; none for a model of another text, and where it cannot be measured.

    unit     as measure.units.Unit, with `plural`: whether it is larger after a plural; none: no unit is better than
             chance
    nouns, verbs   {word: 0 or 1, its number}; others {form of a verb: its other form}: words that the model knows
    edit     {layer, part, value, unit, gate}: what makes the unit forget at every step: its gate held, or, of a
             cell without such a gate, the state itself, in which case `gate` is false
    rates    {verbs, before, after, others, apart}: of new sentences' main verbs the part whose other form is thought as
             likely: as the model is, with the edit, and the mean of the same edits of other units; `apart` {verbs,
             before, after}: of those that have a noun between subject and verb
    turned   of those sentences three in which the edit makes a verb wrong, if there are as many
    """
    if not is_of_agreement(trained.vocabulary):
        return None
    try:
        return _measured(trained)
    except BadInput:  # lemminflect is missing, or the model knows too little
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
    """The unit of what the cell carries along, or else of its states, that tells the main subject's number best."""
    random = Random(1)
    text = "\n".join(" ".join(sentence(random)) for _ in range(LEARN))
    belts = {belt.name for layer in traced_layers(trained.model) for belt in Roles.of(layer.circuit).belts}
    best = units(trained, text, [FOLLOWED], values=sorted(belts), top=1)[FOLLOWED]
    return best[0] if best else None


def _forgetting(model: LanguageModel, unit: Unit) -> tuple[Edit, bool]:
    """What makes a unit forget, and whether that is a gate of its own."""
    circuit = traced_layers(model)[unit.layer].circuit
    for use in Roles.of(circuit).by("keep"):
        if use.belt == unit.value:
            return Edit(unit.layer, use.gate, 1.0 if use.inverted else 0.0, unit.index), True
    state = next(i for i, part in enumerate(circuit.parts) if part.kind == "state" and part.name == unit.value)
    return Edit(unit.layer, state, 0.0, unit.index), False


# -- how often verbs are wrong


@dataclass(frozen=True)
class _Verbs:
    """Verbs of sentences read side by side, tokens [T, B]: after which token, in which row, the form and the other.

    `apart`: whether a noun is between its subject and it.
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
    """Of how many verbs which part is wrong; none of none."""
    parts = [float(wrong.sum()) / max(1, len(wrong)) for wrong in (before, after)]
    return {"verbs": len(before), "before": parts[0], "after": parts[1]}


def _turned(verbs: _Verbs, before: Tensor, after: Tensor) -> list[str]:
    """Sentences in which a verb is right at first, and then wrong: with attractors if there are any, the short ones."""
    rows = set(verbs.row[~before & after].tolist()) - set(verbs.row[before].tolist())
    return sorted((verbs.lines[row] for row in rows), key=lambda line: (not _attracts(line), len(line)))[:TURNED]


def _attracts(line: str) -> bool:
    return any(verb.attractors for verb in verbs_of(line.split()))


def _verbs(vocabulary: Vocabulary) -> _Verbs:
    """Of new sentences, each after a line's end; those with a word that the model does not know are left out."""
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
    """Of which verbs the other form is thought as likely, [verbs]."""
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
    """What a stream besides x has, see TracedLayer."""
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
        for kind, name in [node.attrs]
    }
