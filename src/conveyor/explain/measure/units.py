"""Finds units that follow a label along a text, such as an open quotation or the number of a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.labels import Labelling, label
from conveyor.explain.measure.record import Layers, resolve, token_texts, values_along
from conveyor.explain.measure.scores import Sample, Scores, chance, score, two_classes
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained

FEWEST = 10  # tokens of each class in each part of the text
MARGIN = 0.05  # above chance: among many labels, some exceed it slightly by accident


@dataclass(frozen=True)
class Unit:
    """A unit that follows a label.

    `score`: on the second half of the text, the balanced accuracy if the label has two classes, else the correlation of
    ranks. `chance`: the best score of any unit with shuffled labels. `sign`: 1 if the unit is larger with the label,
    else -1. `threshold`: between two classes, else None.
    """

    label: str
    value: str
    layer: int
    index: int
    score: float
    chance: float
    sign: int
    threshold: float | None

    def classify(self, values: Tensor) -> Tensor:
        """Predicts the larger of the two classes (True) or the other from values of the unit.

        Raises BadInput for a label with more than two classes.
        """
        if self.threshold is None:
            raise BadInput(f"{self.label} has more than two classes, so it has no threshold")
        return (values > self.threshold) == (self.sign > 0)

    def __str__(self) -> str:
        return f"{self.value}[{self.index}] of layer {self.layer}: {self.score:.3f} (chance {self.chance:.3f})"


def units(
    model: LanguageModel | Trained,
    text: str | bytes | Tensor,
    follow: Mapping[str, Labelling | Tensor] | Sequence[str],
    values: Sequence[str] = (),
    top: int = 5,
) -> dict[str, list[Unit]]:
    """The units that follow each label best, best first. A unit must exceed chance by 0.05.

        units(trained, text, ["position in line", "inside quotes"])
        units(trained, text, {"upper": lambda tokens: [token.isupper() for token in tokens]}, values=["C"])

    `text`: a text, or token numbers [T], that the model was not trained on; thresholds and signs are fitted on its
    first half, and scores computed on the second. `follow`: names of built-in labellings (`LABELLINGS`), or by name a
    function from tokens to labels, or the labels [T], NaN where undefined. `values`: the values whose units are
    tried; (): the states. If values of a layer share a unit, as h[3] and C[3], only the better one is returned.

    After Karpathy, Johnson & Fei-Fei 2015 and, for the number of a subject, Lakretz et al. 2019, "The emergence of
    number and syntax units in LSTM language models". Raises BadInput for a label that is
    constant in a half of the text, has fewer than ten tokens of a class or not one label per token, and as `record`.
    """
    reader, tokens, vocabulary = resolve(model, text)
    if tokens.dim() != 1:
        raise BadInput(f"one text is expected, tokens [T], not {list(tokens.shape)}")
    texts = token_texts(tokens, vocabulary) if vocabulary is not None else None
    asked = dict(follow) if isinstance(follow, Mapping) else {name: name for name in follow}
    labels = {name: _labels(name, one, texts, len(tokens)) for name, one in asked.items()}
    found = values_along(reader, tokens, tuple(values) or reader.rnn.state_names)
    return {name: _best(name, found, one, top) for name, one in labels.items()}


def _labels(name: str, one: str | Labelling | Tensor, texts: Sequence[str] | None, count: int) -> Tensor:
    if isinstance(one, Tensor):
        found = one.double().cpu()
    elif texts is None:
        raise BadInput(f"{name} needs the text of tokens, and the model has no vocabulary: give load(folder)")
    else:
        found = label(one, texts)
    if found.shape != (count,):
        raise BadInput(f"{name} has labels {list(found.shape)}, but there are {count} tokens")
    if bool(found.isinf().any()):
        raise BadInput(f"{name} has infinite labels: give NaN where it is undefined")
    halves = [half[~half.isnan()] for half in _halves(found)]
    for half in halves:
        classes, counts = half.unique(return_counts=True)
        if len(classes) < 2 or (two_classes(torch.cat(halves)) and int(counts.min()) < FEWEST) or len(half) < FEWEST:
            shown = ", ".join(
                f"{c:g} ({n} tokens)" for c, n in zip(classes[:4].tolist(), counts.tolist(), strict=False)
            )
            raise BadInput(f"{name} is in a half of the text {shown or 'nowhere defined'}: give more text")
    return found


def _halves(whole: Tensor) -> tuple[Tensor, Tensor]:
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]


def _best(name: str, found: dict[str, Layers], labels: Tensor, top: int) -> list[Unit]:
    """The best units of all values and layers. Chance is the maximum over all, since all are tried."""
    places = [(value, i, layer) for value, layers in found.items() for i, layer in enumerate(layers)]
    parts = [_parts(layer, labels) for _, _, layer in places]
    floor = max(chance(*part, torch.Generator().manual_seed(0)) for part in parts)
    two = two_classes(labels[~labels.isnan()])
    ranked = [
        unit
        for (value, i, _), part in zip(places, parts, strict=True)
        for unit in _named(name, value, i, score(*part), floor, two)
    ]
    best: dict[tuple[int, int], Unit] = {}
    for unit in sorted(ranked, key=lambda unit: -unit.score):
        best.setdefault((unit.layer, unit.index), unit)
    return list(best.values())[:top]


def _parts(values: Tensor, labels: Tensor) -> tuple[Sample, Sample]:
    """Both halves of the text, without tokens whose label is undefined."""
    first, second = (
        (v[~one.isnan()], one[~one.isnan()]) for v, one in zip(_halves(values), _halves(labels), strict=True)
    )
    return first, second


def _named(label: str, value: str, layer: int, scores: Scores, floor: float, two: bool) -> Iterator[Unit]:
    """The units whose scores exceed chance by the margin."""
    for index in (scores.score > floor + MARGIN).nonzero()[:, 0].tolist():
        threshold = float(scores.threshold[index]) if two else None
        yield Unit(label, value, layer, index, float(scores.score[index]), floor, int(scores.sign[index]), threshold)
