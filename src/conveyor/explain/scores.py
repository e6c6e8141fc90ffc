"""How well each of many units tells a label: learnt on one part of a text, measured on the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHUFFLES, BLOCKS = 20, 16  # few blocks, so that few runs of equal labels are cut
WIDTH = 64  # units that are sorted at once


@dataclass(frozen=True)
class Scores:
    """For each unit, [units]: its score on the second part, whether it is larger with the label (1) or smaller (-1),
    and for labels of two classes the threshold between them, else NaN.
    """

    score: Tensor
    sign: Tensor
    threshold: Tensor


Part = tuple[Tensor, Tensor]  # values [N, units] and labels [N]


def two_classes(labels: Tensor) -> bool:
    return len(labels.unique()) == 2


def score(learn: Part, test: Part) -> Scores:
    """The scores of all units.

    Labels of two classes: the balanced accuracy (the mean of the two classes' accuracies; .5 is chance) of the best
    threshold of the first part. Other numbers: Spearman's rank correlation, with the sign that it has in the first.
    """
    parts = [
        _score(*(((values[:, i : i + WIDTH], labels)) for values, labels in (learn, test)))
        for i in range(0, learn[0].shape[1], WIDTH)
    ]
    return Scores(*(torch.cat([getattr(part, name) for part in parts]) for name in ("score", "sign", "threshold")))


def chance(learn: Part, test: Part, generator: torch.Generator) -> float:
    """The best score of any unit when the labels stand elsewhere in the text.

    Blocks of labels change places, so that they follow each other as they did before: what is slow matches what is slow
    rather often. The best of 20 such shuffles: a find by chance is above it once in 21 times, however many units.
    """
    best = 0.0
    for _ in range(SHUFFLES):
        shuffled = [(values, _in_blocks(labels, generator)) for values, labels in (learn, test)]
        best = max(best, float(score(shuffled[0], shuffled[1]).score.max()))
    return best


def _in_blocks(labels: Tensor, generator: torch.Generator) -> Tensor:
    cuts = torch.randint(1, max(2, len(labels)), (BLOCKS - 1,), generator=generator).unique()
    blocks = labels.tensor_split(cuts.tolist())
    return torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])


def _score(learn: Part, test: Part) -> Scores:
    if two_classes(learn[1]):
        low = learn[1].min()
        return _by_threshold((learn[0], (learn[1] > low).double()), (test[0], (test[1] > low).double()))
    return _by_rank(learn, test)


def _by_threshold(learn: Part, test: Part) -> Scores:
    values, order = learn[0].sort(0)
    right = _balanced(learn[1][order])  # had the threshold been after each value, [N, units]
    right[:-1][values[:-1] == values[1:]] = 0.5  # between equal values there is none
    right[-1] = 0.5
    place = (right - 0.5).abs().argmax(0, keepdim=True)  # [1, units]
    sign = torch.where(right.gather(0, place)[0] < 0.5, -1, 1)
    above = (place + 1).clamp(max=len(values) - 1)
    threshold = (values.gather(0, place)[0] + values.gather(0, above)[0]) / 2
    return Scores(balanced_accuracy(test, threshold, sign), sign, threshold)


def _balanced(labels: Tensor) -> Tensor:
    """The balanced accuracy of calling 0 what is sorted up to each place, and 1 the rest."""
    ones, seen = labels[:, :1].sum(), labels.cumsum(0)
    zeros = torch.arange(1, len(labels) + 1)[:, None] - seen
    return ((1 - seen / ones) + zeros / (len(labels) - ones)) / 2


def balanced_accuracy(part: Part, threshold: Tensor, sign: Tensor) -> Tensor:
    """Of calling 1 what is above the threshold, or below it where the sign is negative, [units]."""
    values, labels = part
    called = ((values > threshold) == (sign > 0)).double()
    ones, zeros = labels / labels.sum(), (1 - labels) / (1 - labels).sum()
    return (ones @ called + zeros @ (1 - called)) / 2


def _by_rank(learn: Part, test: Part) -> Scores:
    before, now = rank_correlation(*learn), rank_correlation(*test)
    sign = torch.where(before < 0, -1, 1)
    return Scores(now * sign, sign, torch.full_like(now, float("nan")))


def rank_correlation(values: Tensor, labels: Tensor) -> Tensor:
    """Spearman's, of each unit with the labels, [units]; of a unit that is constant it is 0."""
    a, b = _ranks(values), _ranks(labels[:, None])
    a, b = a - a.mean(0), b - b.mean(0)
    norms = a.norm(dim=0) * b.norm(dim=0)
    return torch.where(norms > 0, (a * b).sum(0) / norms.clamp(min=1e-300), 0.0)


def _ranks(values: Tensor) -> Tensor:
    """Of each column; equal values share the mean of their ranks."""
    found = torch.empty(values.shape, dtype=torch.float64)
    for column, ranks in zip(values.t(), found.t(), strict=True):
        _, which, counts = column.unique(return_inverse=True, return_counts=True)
        ranks.copy_((counts.cumsum(0) - (counts - 1) / 2)[which])
    return found
