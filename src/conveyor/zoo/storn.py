"""The stochastic recurrent network: a plain RNN with a latent input at every step, inferred by another RNN."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, tanh

from conveyor.cell.cell import Cell, check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.latent import (
    Bernoulli,
    LatentNetwork,
    Likelihood,
    divergence,
    gaussian,
    limit_initial_weights,
    log_ratio,
    noise,
)


class STORNCell(Cell):
    """One step of a stochastic recurrent network: an RNN with a latent input and a recognition RNN (Bayer et al. 2014).

    recogniser  h'_t = tanh(W' · x_t + R' · h'_{t-1} + b'),   μ, σ from W_q · h'_t + b_q,   z_t = μ + σ * ε_t
    prior       N(0, 1), independent of everything
    generator   h_t = tanh(W · x_{t-1} + R · h_{t-1} + V · z_t + b),   θ_t = W_y · h_t + b_y

    x, `past` = x_{t-1} (zero in the first step) and the noise ε ~ N(0, 1) are streams. `recogniser_size` is the width
    of h' (called `r` in `step`), by default `hidden_size`. W_q · h'_t + b_q is (μ, a) with σ = softplus(a) + 1e-4, as
    in `latent.gaussian`. Extra outputs: θ, the parameters of p(x_t | z_1..t, x_1..t-1) for the network's likelihood;
    kl = KL(N(μ, σ) || N(0, 1)) and ratio = ln N(z_t; μ, σ) - ln N(z_t; 0, 1), in nats.

    Shapes: x, past [B, input]; ε, z, μ, σ [B, latent]; h [B, hidden]; h' [B, recogniser]; θ [B, outputs]; kl, ratio
    [B]; W' [recogniser, input], R' [recogniser, recogniser], W_q [2 * latent, recogniser]; W [hidden, input],
    R [hidden, hidden], V [hidden, latent], W_y [outputs, hidden].
    Paper: Bayer & Osendorfer 2014, "Learning Stochastic Recurrent Networks".
    Departures: σ is at least 1e-4; affine maps with many inputs have smaller initial weights than `hidden_size` would
    give (`latent.limit_initial_weights`).
    Doubt: from memory; the parametrisation of σ (the paper has σ², perhaps without softplus), whether the paper's
    recogniser has more layers, and its activation functions.

    Raises ValueError and TypeError for sizes that are not positive integers.
    """

    state = ("h", "r")
    extra = ("theta", "kl", "ratio")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        latent_size: int = 16,
        recogniser_size: int | None = None,
        outputs: int | None = None,
    ):
        r = hidden_size if recogniser_size is None else recogniser_size
        check_sizes(latent_size=latent_size, recogniser_size=r)
        super().__init__(input_size, hidden_size, r=r, past=input_size, epsilon=latent_size, z=latent_size)
        self.recognise = self.affine("x", "r", out=r)
        self.posterior = self.affine("r", out=2 * latent_size)
        self.hidden = self.affine("past", "h", "z")
        self.likelihood = self.affine("h", out=input_size if outputs is None else outputs)
        limit_initial_weights(self)

    def step(self, x: Tensor, past: Tensor, epsilon: Tensor, h: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        r = tanh(self.recognise(x, r))
        mu, sigma = gaussian(self.posterior(r))
        z = mu + sigma * epsilon
        h = tanh(self.hidden(past, h, z))
        theta = self.likelihood(h)
        zero, one = torch.zeros_like(mu), torch.ones_like(mu)
        kl = divergence(mu, sigma, zero, one)
        ratio = log_ratio(epsilon, sigma, z, zero, one)
        return h, r, theta, kl, ratio


class STORN(LatentNetwork):
    """Stochastic recurrent network (Bayer & Osendorfer 2014) over sequences x [T, B, input_size].

        network = STORN(88, 200, latent_size=32, likelihood=Bernoulli())
        loss = network(x, lengths).bound.sum() / sum(lengths)    # nats per frame

    The equations are those of `STORNCell`; the interface is that of `LatentNetwork`. `generate` is a loop in Python,
    not a kernel, since x_t is sampled at every step. `recurrent_dropout` is passed to the layer: in training it masks
    the h that the affine maps read. Without it the network overfits a few hundred sequences quickly.

    Shapes: x [T, B, input]; ε [T, B, latent]; θ [T, B, outputs], outputs = input, or 2 * input for `Gaussian`; nll, kl
    and ratio [T, B]; `generate` [T, B, input].
    Paper: Bayer & Osendorfer 2014; the estimate is from Burda et al. 2016.
    Departures: as for the cell; the recurrent dropout is not in the paper.

    Raises ValueError for x or noise of another shape or dtype, and for x outside the support of the likelihood.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        latent_size: int = 16,
        recogniser_size: int | None = None,
        likelihood: Likelihood | None = None,
        recurrent_dropout: float = 0.0,
    ):
        likelihood = likelihood or Bernoulli()
        super().__init__(input_size, latent_size, likelihood)
        self.layer = Recurrent(
            STORNCell,
            input_size,
            hidden_size,
            latent_size=latent_size,
            recogniser_size=recogniser_size,
            outputs=likelihood.parameters * input_size,
            recurrent_dropout=recurrent_dropout,
        )

    def streams(self, x: Tensor) -> dict[str, Tensor]:
        return {"past": torch.cat([torch.zeros_like(x[:1]), x[:-1]])}

    def frames(self, steps: int, rows: int, generator: torch.Generator | None) -> Iterator[Tensor]:
        cell: STORNCell = self.layer.cell  # type: ignore[assignment]
        h = next(self.parameters()).new_zeros(rows, cell.hidden_size)
        x = h.new_zeros(rows, self.input_size)
        for _ in range(steps):
            h = tanh(cell.hidden(x, h, noise((rows, self.latent_size), h, generator)))
            x = self.likelihood.sample(cell.likelihood(h), generator)
            yield x
