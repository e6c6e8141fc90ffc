"""What attention adds to a loss (Xu et al. 2015): to look everywhere, and for hard attention to learn where to look."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def doubly_stochastic(alpha: Tensor, mask: Tensor) -> Tensor:
    """How unevenly the places were looked at over the sequence: the mean over rows of Σ_i (1 - Σ_t α_ti)².

    alpha: [T, B, L], zero past a row's last step; mask: [B, L]. Padded places do not count.
    """
    return (mask * (1 - alpha.sum(0)).square()).sum(-1).mean()


def log_probability(alpha: Tensor, s: Tensor) -> Tensor:
    """log p of the places that each row of a hard attention drew, Σ_t log α_t(s_t): [B]. alpha, s: [T, B, L]."""
    return (s * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


def reinforce(cost: Tensor, baseline: Tensor | float, alpha: Tensor, s: Tensor) -> Tensor:
    """What teaches a hard attention where to look: [B], to be added to the cost [B] of each row; alpha, s: [T, B, L].

    Its value says nothing; its gradient is, in expectation, that of the expected cost by the probabilities of the
    places (REINFORCE). A baseline near the mean cost makes it less noisy.
    """
    return (cost.detach() - baseline) * log_probability(alpha, s)


def entropy(alpha: Tensor) -> Tensor:
    """Of the distribution over places, summed over the steps: [B]. alpha: [T, B, L]; 0 · log 0 is 0."""
    return -(alpha * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


class Baseline(nn.Module):
    """The moving average of the cost, b ← 0.9 b + 0.1 cost; kept with the weights, so that a resumed run goes on."""

    value: Tensor

    def __init__(self, keep: float = 0.9):
        super().__init__()
        self.keep = keep
        self.register_buffer("value", torch.zeros(()))

    def update(self, cost: Tensor) -> None:
        self.value.mul_(self.keep).add_((1 - self.keep) * cost.detach().mean())
