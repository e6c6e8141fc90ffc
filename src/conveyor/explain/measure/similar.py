"""Passages of a long text in which units behave as in a given span, as in LSTMVis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.record import PIECE, check_names, read_through, resolve, token_texts
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained

AROUND = 20  # tokens shown before and after a match


@dataclass(frozen=True)
class Pattern:
    """What to search for: the activations of the units of a value in a layer along a span.

    `activations`: [length, units]; `chosen`: the units that are compared; `threshold`: a unit is on above it.
    """

    value: str
    layer: int
    activations: Tensor
    chosen: tuple[int, ...]
    threshold: float


@dataclass(frozen=True)
class Match:
    """A matching passage, tokens [start, end), its similarity (at most 1), and its text and surroundings."""

    start: int
    end: int
    score: float
    before: str = ""
    text: str = ""
    after: str = ""


def pattern(
    model: LanguageModel | Trained,
    text: str | bytes | Tensor,
    span: tuple[int, int],
    value: str = "",
    layer: int = -1,
    threshold: float = 0.3,
    chosen: Sequence[int] = (),
) -> Pattern:
    """The pattern of units while the model reads the tokens [a, b) of a text.

        looked_for = pattern(trained, 'he said "it is late" and left', (9, 19))
        find_similar(trained, corpus, looked_for)

    `value`: the value whose units are compared; "": the first state. `chosen`: the units; (): those above the threshold
    throughout the span. Raises BadInput for a span outside the text, for a value, layer or unit that does not exist,
    and if no unit is above the threshold throughout.
    """
    reader, tokens, _ = resolve(model, text)
    value = value or reader.rnn.state_names[0]
    if tokens.dim() != 1 or not 0 <= span[0] < span[1] <= len(tokens):
        raise BadInput(f"the span is [a, b) with 0 <= a < b <= {tokens.shape[0]} of one text, not {list(span)}")
    if not -reader.rnn.num_layers <= layer < reader.rnn.num_layers:
        raise BadInput(f"the model has {reader.rnn.num_layers} layers, counted from 0, or from the end: not {layer}")
    pieces = [_layer(values, value, layer) for _, values in read_through(reader, tokens, rows=1)]
    activations = torch.cat(pieces)[span[0] : span[1], 0].cpu()  # [length, units]
    wrong = [unit for unit in chosen if not 0 <= unit < activations.shape[1]]
    if wrong:
        raise BadInput(f"{value} has units 0 to {activations.shape[1] - 1}, not {wrong[0]}")
    on = (activations > threshold).all(0).nonzero()[:, 0].tolist()
    if not (chosen or on):
        highest = float(activations.amin(0).max())
        raise BadInput(
            f"no unit of {value} is above {threshold} throughout the span: lower the threshold below {highest:.2g}"
        )
    return Pattern(value, layer, activations, tuple(chosen or on), threshold)


def find_similar(
    model: LanguageModel | Trained,
    corpus: str | bytes | Tensor,
    looked_for: Pattern,
    by: str = "on",
    top: int = 20,
) -> list[Match]:
    """The `top` passages of a corpus that are most similar to the pattern, best first, without overlaps.

    `by` "on": of the units that are on throughout the passage or chosen, the share that are both (after Strobelt et al.
    2018, "LSTMVis"). "cosine": the cosine similarity of the mean activations of the chosen units. "near": 1 / (1 + root
    mean square difference of the chosen units, step by step), which also works for a single unit. A passage is as long
    as the pattern. The corpus is read as 64 rows in parallel, each from the initial state, so half a million characters
    take some seconds. Raises BadInput as `record` does, and for a corpus shorter than the pattern.
    """
    reader, tokens, vocabulary = resolve(model, corpus)
    length = len(looked_for.activations)
    if tokens.dim() != 1 or len(tokens) < length:
        raise BadInput(f"the corpus is one text of {length} tokens at least, as many as the span has")
    if by not in MEASURES:
        raise BadInput(f"passages are compared by {' or '.join(MEASURES)}, not {by}")
    scores = _along(reader, tokens, looked_for, by).nan_to_num(-torch.inf, torch.inf, -torch.inf)  # NaN matches nothing
    starts = _apart(scores, length, top)
    texts = token_texts(tokens, vocabulary) if vocabulary is not None else None
    return [_match(start, start + length, float(scores[start]), texts) for start in starts]


def _along(model: LanguageModel, tokens: Tensor, looked_for: Pattern, by: str) -> Tensor:
    """The similarity of the passage that starts at each token, [N]; -inf where it would cross the end of a row."""
    length = len(looked_for.activations)
    scores = torch.full((len(tokens),), -torch.inf)
    values, places = torch.empty(0), torch.empty(0, dtype=torch.long)
    for now, named in read_through(model, tokens, piece=max(PIECE, length)):
        new = _layer(named, looked_for.value, looked_for.layer).cpu()
        values = torch.cat([values, new]) if len(places) else new
        places = torch.cat([places, now]) if len(places) else now
        if len(values) < length:
            continue
        found = MEASURES[by](values, looked_for)  # [T - length + 1, rows]
        begins, ends = places[: len(found)], places[length - 1 :]
        scores[begins[ends >= 0]] = found[ends >= 0]
        values, places = values[len(found) :], places[len(found) :]
    return scores


def _layer(values: dict[str, list[Tensor]], name: str, layer: int) -> Tensor:
    check_names((name,), values)
    found = values[name][layer]
    return found.flatten(2) if found.dim() > 2 else found[..., None]


def _means(values: Tensor, length: int) -> Tensor:
    """Means over windows of this length, [T - length + 1, ...]."""
    sums = F.pad(values.double().cumsum(0), (0, 0) * (values.dim() - 1) + (1, 0))
    return (sums[length:] - sums[:-length]) / length


def _by_units_on(values: Tensor, looked_for: Pattern) -> Tensor:
    chosen = torch.zeros(values.shape[-1], dtype=torch.bool)
    chosen[list(looked_for.chosen)] = True
    on = _means(values > looked_for.threshold, len(looked_for.activations)) > 1 - 1e-9
    return (on & chosen).sum(-1) / (on | chosen).sum(-1)


def _by_cosine(values: Tensor, looked_for: Pattern) -> Tensor:
    chosen = list(looked_for.chosen)
    wanted = looked_for.activations[:, chosen].double().mean(0)
    return F.cosine_similarity(_means(values[..., chosen], len(looked_for.activations)), wanted, dim=-1).float()


def _by_nearness(values: Tensor, looked_for: Pattern) -> Tensor:
    """1 / (1 + root mean square difference of the chosen units from the pattern), [T - length + 1, rows]."""
    chosen, length = list(looked_for.chosen), len(looked_for.activations)
    starts = len(values) - length + 1
    squares = torch.zeros(values[:starts].shape[:-1])
    for step, wanted in enumerate(looked_for.activations[:, chosen]):
        squares += (values[step : step + starts][..., chosen] - wanted).square().mean(-1)
    return 1 / (1 + (squares / length).sqrt())


MEASURES = {"on": _by_units_on, "cosine": _by_cosine, "near": _by_nearness}


def _apart(scores: Tensor, length: int, top: int) -> list[int]:
    """The starts of the best passages that do not overlap."""
    left = scores.clone()
    found: list[int] = []
    while len(found) < top and float(left.max()) > 0:
        best = int(left.argmax())
        found.append(best)
        left[max(0, best - length + 1) : best + length] = -torch.inf
    return found


def _match(start: int, end: int, score: float, texts: Sequence[str] | None) -> Match:
    if texts is None:
        return Match(start, end, score)
    around = (texts[max(0, start - AROUND) : start], texts[start:end], texts[end : end + AROUND])
    return Match(start, end, score, *("".join(part) for part in around))
