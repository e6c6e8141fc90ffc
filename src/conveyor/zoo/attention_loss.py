"""Loss terms for attention (Xu et al. 2015): doubly stochastic regularisation, and REINFORCE for hard attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def doubly_stochastic(alpha: Tensor, mask: Tensor) -> Tensor:
    """Penalises uneven attention over the sequence: the mean over rows of Σ_i (1 - Σ_t α_ti)², a scalar.

    alpha: [T, B, L], zero past a row's last step; mask: [B, L]. Padded locations do not count. Xu et al. 2015,
    section 4.2.1.
    """
    return (mask * (1 - alpha.sum(0)).square()).sum(-1).mean()


def log_probability(alpha: Tensor, s: Tensor) -> Tensor:
    """The log-probability of the locations that each row sampled, Σ_t log α_t(s_t): [B]. alpha, s: [T, B, L]."""
    return (s * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


def reinforce(cost: Tensor, baseline: Tensor | float, alpha: Tensor, s: Tensor) -> Tensor:
    """The REINFORCE term for hard attention: [B], to be added to the cost [B] of each row. alpha, s: [T, B, L].

    Its value has no meaning. Its expected gradient is the gradient of the expected cost through the probabilities of
    the locations. A baseline near the mean cost reduces its variance.
    """
    return (cost.detach() - baseline) * log_probability(alpha, s)


def entropy(alpha: Tensor) -> Tensor:
    """The entropy of the attention weights in nats, summed over the steps: [B]. alpha: [T, B, L]; 0 · log 0 is 0."""
    return -(alpha * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


class Baseline(nn.Module):
    """The moving average of the cost, b ← 0.9 b + 0.1 cost; a buffer, so that checkpoints contain it."""

    value: Tensor

    def __init__(self, keep: float = 0.9):
        super().__init__()
        self.keep = keep
        self.register_buffer("value", torch.zeros(()))

    def update(self, cost: Tensor) -> None:
        """Adds the costs of a batch, [B]."""
        self.value.mul_(self.keep).add_((1 - self.keep) * cost.detach().mean())
