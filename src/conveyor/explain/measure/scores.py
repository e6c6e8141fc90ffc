"""How well each of many units tells a label: learnt on one part of a text, measured on the other."""

from __future__ import annotations

from collections.abc import Iterator
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


Sample = tuple[Tensor, Tensor]  # values [N, units] and labels [N]


def two_classes(labels: Tensor) -> bool:
    return len(labels.unique()) == 2


def score(learn: Sample, test: Sample) -> Scores:
    """The scores of all units.

    Labels of two classes: the balanced accuracy (the mean of the two classes' accuracies; .5 is chance) of the best
    threshold of the first part. Other numbers: Spearman's rank correlation, with the sign that it has in the first.
    """
    parts = [scorer.score(learn[1], test[1]) for scorer in _scorers(learn, test)]
    return Scores(*(torch.cat([getattr(part, name) for part in parts]) for name in ("score", "sign", "threshold")))


def chance(learn: Sample, test: Sample, generator: torch.Generator) -> float:
    """The best score of any unit when the labels stand elsewhere in the text.

    Blocks of labels change places, so that they follow each other as they did before: what is slow matches what is slow
    rather often. The best of 20 such shuffles: a find by chance is above it once in 21 times, however many units.
    """
    shuffled = [tuple(_in_blocks(labels, generator) for _, labels in (learn, test)) for _ in range(SHUFFLES)]
    found = (scorer.score(*labels).score.max() for scorer in _scorers(learn, test) for labels in shuffled)
    return max(0.0, *map(float, found))


def _in_blocks(labels: Tensor, generator: torch.Generator) -> Tensor:
    cuts = torch.randint(1, max(2, len(labels)), (BLOCKS - 1,), generator=generator).unique()
    blocks = labels.tensor_split(cuts.tolist())
    return torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])


def _scorers(learn: Sample, test: Sample) -> Iterator[_ByThreshold | _ByRank]:
    """One for some units at a time, so that a long text and a wide layer fit into memory."""
    kind = _ByThreshold if two_classes(learn[1]) else _ByRank
    for i in range(0, learn[0].shape[1], WIDTH):
        yield kind(learn[0][:, i : i + WIDTH], test[0][:, i : i + WIDTH])


class _ByThreshold:
    """The units' values, sorted once for whatever labels come."""

    def __init__(self, learn: Tensor, test: Tensor):
        self.values, self.order = learn.t().sort(1)  # [units, N]
        self.test = test
        self.same = self.values[:, :-1] == self.values[:, 1:]

    def score(self, learn: Tensor, test: Tensor) -> Scores:
        low = learn.min()
        right = _balanced((learn > low).float()[self.order])
        right[:, :-1][self.same] = 0.5  # between equal values there is no threshold
        right[:, -1] = 0.5
        place = (right - 0.5).abs().argmax(1, keepdim=True)  # [units, 1]
        sign = torch.where(right.gather(1, place)[:, 0] < 0.5, -1, 1)
        above = (place + 1).clamp(max=self.values.shape[1] - 1)
        threshold = (self.values.gather(1, place)[:, 0] + self.values.gather(1, above)[:, 0]) / 2
        return Scores(_balanced_accuracy(self.test, (test > low).double(), threshold, sign), sign, threshold)


def _balanced(labels: Tensor) -> Tensor:
    """The balanced accuracy of calling 0 what is sorted up to each place, and 1 the rest, [units, N]."""
    ones, seen = labels[0].sum(), labels.cumsum(1)  # whole numbers, exact in float32 to 2^24
    zeros = torch.arange(1, labels.shape[1] + 1) - seen
    return ((1 - seen / ones) + zeros / (labels.shape[1] - ones)) / 2


def _balanced_accuracy(values: Tensor, labels: Tensor, threshold: Tensor, sign: Tensor) -> Tensor:
    """Of calling 1 what is above the threshold, or below it where the sign is negative, [units]."""
    called = ((values > threshold) == (sign > 0)).double()
    ones, zeros = labels / labels.sum(), (1 - labels) / (1 - labels).sum()
    return (ones @ called + zeros @ (1 - called)) / 2


class _ByRank:
    """The units' ranks, found once for whatever labels come."""

    def __init__(self, learn: Tensor, test: Tensor):
        self.learn, self.test = _ranks(learn), _ranks(test)

    def score(self, learn: Tensor, test: Tensor) -> Scores:
        before, now = (_ranks(one[:, None])[:, 0] @ ranks for one, ranks in ((learn, self.learn), (test, self.test)))
        sign = torch.where(before < 0, -1, 1)
        return Scores(now * sign, sign, torch.full_like(now, torch.nan))


def _ranks(values: Tensor) -> Tensor:
    """Of each column, equal values sharing the mean of their ranks; about zero and of norm 1, or all 0 if constant."""
    found = torch.empty(values.shape, dtype=torch.float64)
    for column, ranks in zip(values.t(), found.t(), strict=True):
        _, which, counts = column.unique(return_inverse=True, return_counts=True)
        ranks.copy_((counts.cumsum(0) - (counts - 1) / 2)[which])
    found -= found.mean(0)
    return found / found.norm(dim=0).clamp(min=1e-9)
