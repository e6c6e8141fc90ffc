"""Shared by the networks with a latent variable at every step: Gaussians, likelihoods, the bound and its estimates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conveyor.cell import Affine
from conveyor.cell.cell import check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.check import check_probabilities, check_tensor

FLOOR = 1e-4  # the least standard deviation, so that no density is infinite


def gaussian(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation from [..., 2 * width] unconstrained values μ and a, with σ = softplus(a) + FLOOR.

    With softplus instead of exp, σ grows no faster than a: a single large value does not overflow, and for large a a
    gradient step changes σ by as much as a. (The code of VRNN's authors uses softplus, too.)
    """
    mu, a = theta.chunk(2, -1)
    return mu, F.softplus(a) + FLOOR


def divergence(mu: Tensor, sigma: Tensor, mu_0: Tensor, sigma_0: Tensor) -> Tensor:
    """KL(N(μ, σ) || N(μ_0, σ_0)) in nats, summed over the features: Σ ln σ_0/σ + (σ² + (μ - μ_0)²) / 2σ_0² - ½.

    With r = σ/σ_0, (r² - 1) / 2 is computed as (r - 1)² / 2 + r - 1, which is accurate for r near 1.
    """
    r, d = sigma / sigma_0, (mu - mu_0) / sigma_0
    e = r - 1
    return (0.5 * (e * e + d * d) + (e - torch.log(r))).sum(-1)


def log_ratio(epsilon: Tensor, sigma: Tensor, z: Tensor, mu_0: Tensor, sigma_0: Tensor) -> Tensor:
    """ln q(z) - ln p(z) at z = μ + σ ε, summed over the features; its expectation over ε is the divergence."""
    u = (z - mu_0) / sigma_0
    return (0.5 * (u * u - epsilon * epsilon) - torch.log(sigma / sigma_0)).sum(-1)


def importance_weighted(surprise: Tensor) -> Tensor:
    """-ln (1/K Σ_k p(x, z_k) / q(z_k | x)), [B], from -ln of each of the K ratios, [K, B] (Burda et al. 2016).

    With z_k sampled from q, its expectation is an upper bound on -ln p(x) that tightens with K; K = 1 is the usual one.
    """
    return math.log(len(surprise)) - (-surprise).logsumexp(0)


class Likelihood(Protocol):
    """The distribution of x_t [..., D] given θ_t [..., parameters * D]."""

    parameters: int

    def nll(self, x: Tensor, theta: Tensor) -> Tensor:
        """-ln p(x | θ) in nats, summed over the features: [...]."""

    def mean(self, theta: Tensor) -> Tensor:
        """The expectation of x, [..., D]."""

    def sample(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A sample of x, [..., D]."""


class Bernoulli:
    """Every feature is 0 or 1, independently given its logit θ.

    A feature between 0 and 1 counts as a mixture of both. Raises ValueError for features outside [0, 1].
    """

    parameters = 1

    def nll(self, x: Tensor, theta: Tensor) -> Tensor:
        """The binary cross-entropy in nats, [...] from x and θ [..., D]."""
        check_probabilities("Bernoulli's x", x)
        return F.binary_cross_entropy_with_logits(theta, x, reduction="none").sum(-1)

    def mean(self, theta: Tensor) -> Tensor:
        """The probabilities of 1, [..., D]."""
        return torch.sigmoid(theta)

    def sample(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros and ones, [..., D]."""
        uniform = torch.rand(theta.shape, dtype=theta.dtype, device=_device(theta, generator), generator=generator)
        return (uniform.to(theta.device) < torch.sigmoid(theta)).to(theta.dtype)


class Gaussian:
    """Every feature is normal, independently given θ = (μ, a), from which `gaussian` computes μ and σ."""

    parameters = 2

    def nll(self, x: Tensor, theta: Tensor) -> Tensor:
        """-ln of the density in nats, [...] from x [..., D] and θ [..., 2 * D]."""
        mu, sigma = gaussian(theta)
        d = (x - mu) / sigma
        return (0.5 * (d * d + math.log(2 * math.pi)) + torch.log(sigma)).sum(-1)

    def mean(self, theta: Tensor) -> Tensor:
        """The means μ, [..., D]."""
        return gaussian(theta)[0]

    def sample(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normal values, [..., D]."""
        mu, sigma = gaussian(theta)
        return mu + sigma * noise(mu.shape, mu, generator)


def limit_initial_weights(cell: nn.Module) -> None:
    """Initialises a cell's own affine maps with n inputs uniformly in ±√(3/n), if that is less than the default bound.

    The default bound depends on `hidden_size` alone, but the maps here may have far more inputs. A weight variance
    above 1/n would amplify the values, and a recurrence would do so at every step.
    """
    for module in cell.children():
        if isinstance(module, Affine):
            limit = math.sqrt(3 / sum(module.widths.values()))
            if limit < module.bound:
                module.bound = limit
                module.reset_parameters()


def noise(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`; sampled on the device of the generator, if given."""
    drawn = torch.randn(shape, dtype=like.dtype, device=_device(like, generator), generator=generator)
    return drawn.to(like.device)


def _device(like: Tensor, generator: torch.Generator | None) -> torch.device:
    return like.device if generator is None else generator.device


class Terms(NamedTuple):
    """The terms of the bound at every frame. `nll`, `kl` and `ratio` are [T, B] in nats, zero past a row's length."""

    theta: Tensor  # the likelihood's parameters, [T, B, parameters * D]
    nll: Tensor  # -ln p(x_t | z_1..t, x_1..t-1) at the sampled z
    kl: Tensor  # KL(q(z_t) || p(z_t))
    ratio: Tensor  # ln q(z_t) - ln p(z_t) at the sampled z

    @property
    def bound(self) -> Tensor:
        """The contribution of every frame to the bound on -ln p(x), [T, B]; the bound is the sum over the frames."""
        return self.nll + self.kl


class LatentNetwork(nn.Module):
    """A layer whose cell has the extra outputs θ, `kl` and `ratio`, with a likelihood: the base of VRNN and STORN.

        terms = network(x, lengths=[9, 4, 7])                    # x: [T, B, D]; samples z from the posterior
        terms.bound.sum(0)                                       # [B], an upper bound on -ln p(x) in expectation
        network.estimate(x, lengths=[9, 4, 7], samples=100)      # [B], the importance-weighted estimate of -ln p(x)
        network.generate(steps=50, rows=3)                       # [T, 3, D], from the prior

    All values are negative logarithms in nats: smaller is better. With `lengths`, padding has no effect.

    Raises ValueError for x or noise of another shape or dtype, and for x outside the support of the likelihood.
    """

    layer: Recurrent

    def __init__(self, input_size: int, latent_size: int, likelihood: Likelihood):
        super().__init__()
        self.input_size, self.latent_size, self.likelihood = input_size, latent_size, likelihood

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | list[int] | None = None,
        epsilon: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Terms:
        """`epsilon` [T, B, latent_size] is the noise for z, sampled if not given; zeros give the posterior's mean."""
        self._check(x)
        shape = (*x.shape[:2], self.latent_size)
        epsilon = noise(shape, x, generator) if epsilon is None else epsilon
        check_tensor("epsilon", epsilon, shape, next(self.parameters()))
        counts = torch.full(x.shape[1:2], len(x)) if lengths is None else torch.as_tensor(lengths)
        if counts.shape != x.shape[1:2]:
            raise ValueError(f"lengths must be [B], one for each of {x.shape[1]} rows, not {list(counts.shape)}")
        there = torch.arange(len(x), device=x.device)[:, None] < counts.to(x.device)  # [T, B]
        x = torch.where(there[..., None], x, 0.0)  # padding may hold anything, and zero times NaN is NaN
        values = self.layer(x, lengths=lengths, epsilon=epsilon, **self.streams(x))[2]
        theta, kl, ratio = (values[name][0, 0] for name in ("theta", "kl", "ratio"))
        return Terms(theta, torch.where(there, self.likelihood.nll(x, theta), 0.0), kl, ratio)

    def _check(self, x: Tensor) -> None:
        check_tensor("x", x, ("T", "B", self.input_size), next(self.parameters()))

    def streams(self, x: Tensor) -> dict[str, Tensor]:
        """The streams of the cell besides x and the noise, [T, B, ...] by name."""
        return {}

    @torch.no_grad()
    def estimate(
        self,
        x: Tensor,
        lengths: Tensor | list[int] | None = None,
        samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """-ln p(x) of each sequence in nats, [B], by `importance_weighted` with K = `samples`.

        All K samples run as one batch of K * B rows: pass few sequences at a time if memory is short.
        """
        check_sizes(samples=samples)
        self._check(x)
        many = None if lengths is None else torch.as_tensor(lengths).repeat(samples)
        terms = self(x.repeat(1, samples, 1), many, generator=generator)
        return importance_weighted((terms.nll + terms.ratio).sum(0).view(samples, x.shape[1]))

    @torch.no_grad()
    def generate(self, steps: int, rows: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Sequences sampled from the prior, [steps, rows, input_size]: a loop in Python, since each x_t is sampled."""
        check_sizes(steps=steps, rows=rows)
        return torch.stack([*self.frames(steps, rows, generator)])

    def frames(self, steps: int, rows: int, generator: torch.Generator | None) -> Iterator[Tensor]:
        """The frames of `generate`, [rows, input_size] each, one after the other."""
        raise NotImplementedError(f"{type(self).__name__} does not generate")
