"""How well each unit predicts a label: fitted on one part of a text, scored on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SHUFFLES, BLOCKS = 20, 16  # few blocks cut few runs of equal labels
WIDTH = 64  # units that are scored at once


@dataclass(frozen=True)
class Scores:
    """The scores of units, [units] each.

    `score`: on the test part; `sign`: 1 if the unit is larger with the label, -1 if smaller; `threshold`: between the
    two classes, NaN for other labels.
    """

    score: Tensor
    sign: Tensor
    threshold: Tensor


Sample = tuple[Tensor, Tensor]  # values [N, units] and labels [N]


def two_classes(labels: Tensor) -> bool:
    """Whether labels have exactly two different values."""
    return len(labels.unique()) == 2


def score(learn: Sample, test: Sample) -> Scores:
    """The scores of all units.

    With two classes, the score is the balanced accuracy (the mean of the accuracies in both classes; 0.5 is chance) of
    the threshold that is best on `learn`. Otherwise it is Spearman's rank correlation, times its sign on `learn`.
    """
    parts = [scorer.score(learn[1], test[1]) for scorer in _scorers(learn, test)]
    return Scores(*(torch.cat([getattr(part, name) for part in parts]) for name in ("score", "sign", "threshold")))


def chance(learn: Sample, test: Sample, generator: torch.Generator) -> float:
    """The best score of any unit for shuffled labels: the level that chance reaches.

    Whole blocks of labels are permuted, which keeps their autocorrelation: slow labels match slow units by chance more
    often. The result is the best of 20 shuffles, so an unrelated label exceeds it with probability 1/21, whatever the
    number of units.
    """
    shuffled = [tuple(_in_blocks(labels, generator) for _, labels in (learn, test)) for _ in range(SHUFFLES)]
    found = (scorer.score(*labels).score.max() for scorer in _scorers(learn, test) for labels in shuffled)
    return max(0.0, *map(float, found))


def _in_blocks(labels: Tensor, generator: torch.Generator) -> Tensor:
    cuts = torch.randint(1, max(2, len(labels)), (BLOCKS - 1,), generator=generator).unique()
    blocks = labels.tensor_split(cuts.tolist())
    return torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])


def _scorers(learn: Sample, test: Sample) -> Iterator[_ByThreshold | _ByRank]:
    """A scorer for 64 units at a time, to save memory."""
    kind = _ByThreshold if two_classes(learn[1]) else _ByRank
    for i in range(0, learn[0].shape[1], WIDTH):
        yield kind(learn[0][:, i : i + WIDTH], test[0][:, i : i + WIDTH])


class _ByThreshold:
    """Scores by thresholds; the values of the units are sorted once for all labels."""

    def __init__(self, learn: Tensor, test: Tensor):
        self.values, self.order = learn.t().sort(1)  # [units, N]
        self.test = test
        self.same = self.values[:, :-1] == self.values[:, 1:]

    def score(self, learn: Tensor, test: Tensor) -> Scores:
        low = learn.min()
        right = _balanced((learn > low).float()[self.order])
        right[:, :-1][self.same] = 0.5  # no threshold between equal values
        right[:, -1] = 0.5
        place = (right - 0.5).abs().argmax(1, keepdim=True)  # [units, 1]
        sign = torch.where(right.gather(1, place)[:, 0] < 0.5, -1, 1)
        above = (place + 1).clamp(max=self.values.shape[1] - 1)
        threshold = (self.values.gather(1, place)[:, 0] + self.values.gather(1, above)[:, 0]) / 2
        return Scores(_balanced_accuracy(self.test, (test > low).double(), threshold, sign), sign, threshold)


def _balanced(labels: Tensor) -> Tensor:
    """The balanced accuracy of predicting 0 up to each sorted position and 1 after it, [units, N]."""
    ones, seen = labels[0].sum(), labels.cumsum(1)  # integers, exact in float32 up to 2^24
    zeros = torch.arange(1, labels.shape[1] + 1) - seen
    return ((1 - seen / ones) + zeros / (labels.shape[1] - ones)) / 2


def _balanced_accuracy(values: Tensor, labels: Tensor, threshold: Tensor, sign: Tensor) -> Tensor:
    """The balanced accuracy of predicting 1 above the threshold, or below it if the sign is negative, [units]."""
    called = ((values > threshold) == (sign > 0)).double()
    ones, zeros = labels / labels.sum(), (1 - labels) / (1 - labels).sum()
    return (ones @ called + zeros @ (1 - called)) / 2


class _ByRank:
    """Scores by rank correlation; the values of the units are ranked once for all labels."""

    def __init__(self, learn: Tensor, test: Tensor):
        self.learn, self.test = _ranks(learn), _ranks(test)

    def score(self, learn: Tensor, test: Tensor) -> Scores:
        before, now = (_ranks(one[:, None])[:, 0] @ ranks for one, ranks in ((learn, self.learn), (test, self.test)))
        sign = torch.where(before < 0, -1, 1)
        return Scores(now * sign, sign, torch.full_like(now, torch.nan))


def _ranks(values: Tensor) -> Tensor:
    """The ranks of each column, with mean ranks for ties, centred and of norm 1; all 0 for a constant column."""
    found = torch.empty(values.shape, dtype=torch.float64)
    for column, ranks in zip(values.t(), found.t(), strict=True):
        _, which, counts = column.unique(return_inverse=True, return_counts=True)
        ranks.copy_((counts.cumsum(0) - (counts - 1) / 2)[which])
    found -= found.mean(0)
    return found / found.norm(dim=0).clamp(min=1e-9)
