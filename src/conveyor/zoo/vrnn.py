"""The variational recurrent network: a latent variable at every step, with a prior that depends on the past."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, relu

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
from conveyor.zoo.lstm import LSTM


class VRNNCell(Cell):
    """One step of a variational recurrent network: a latent z_t with a prior given the past (Chung et al. 2015).

    φ_x = relu(W_x · x_t + b_x),  φ_z = relu(W_z · z_t + b_z)
    prior       N(μ_0, σ_0),  μ_0, σ_0 = φ_prior(h_{t-1})
    posterior   N(μ, σ),      μ, σ = φ_enc(φ_x, h_{t-1}),   z_t = μ + σ * ε_t
    likelihood  θ_t = φ_dec(φ_z, h_{t-1})
    recurrence  h_t, C_t = LSTM([φ_x, φ_z], h_{t-1}, C_{t-1})

    φ_prior, φ_enc and φ_dec have one hidden layer of rectifiers and an affine map each, W' · relu(W · [...] + b) + b'.
    φ_dec gives θ; the others give μ and a with σ = softplus(a) + 1e-4, as in `latent.gaussian`. x and the noise
    ε ~ N(0, 1) are streams. Extra outputs: θ, the parameters of p(x_t | z_1..t, x_1..t-1) for the network's likelihood;
    kl = KL(N(μ, σ) || N(μ_0, σ_0)) and ratio = ln N(z_t; μ, σ) - ln N(z_t; μ_0, σ_0), in nats.

    Shapes: x [B, input]; ε, z, μ, σ, μ_0, σ_0 [B, latent]; φ_x, φ_z and the hidden layers [B, feature]; h, C
    [B, hidden]; θ [B, outputs]; kl, ratio [B].
    Paper: Chung, Kastner, Dinh, Goel, Courville & Bengio 2015, "A Recurrent Latent Variable Model for Sequential Data",
    section 3.
    Departures: one hidden layer in each φ, where the authors' networks have up to four; σ is at least 1e-4; affine maps
    with many inputs have smaller initial weights than `hidden_size` would give (`latent.limit_initial_weights`).
    Doubt: the equations are from memory, compared with the authors' code.

    Raises ValueError and TypeError for sizes that are not positive integers.
    """

    state = ("h", "C")
    extra = ("theta", "kl", "ratio")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        latent_size: int = 16,
        feature_size: int = 64,
        outputs: int | None = None,
    ):
        check_sizes(latent_size=latent_size, feature_size=feature_size)
        names = ("phi_x", "phi_z", "prior", "enc", "dec")
        widths = dict.fromkeys(names, feature_size) | dict.fromkeys(("epsilon", "z"), latent_size)
        super().__init__(input_size, hidden_size, **widths)
        self.phi_x = self.affine("x", out=feature_size)
        self.phi_z = self.affine("z", out=feature_size)
        self.prior_hidden = self.affine("h", out=feature_size)
        self.prior = self.affine("prior", out=2 * latent_size)
        self.posterior_hidden = self.affine("phi_x", "h", out=feature_size)
        self.posterior = self.affine("enc", out=2 * latent_size)
        self.likelihood_hidden = self.affine("phi_z", "h", out=feature_size)
        self.likelihood = self.affine("dec", out=input_size if outputs is None else outputs)
        self.recurrence = LSTM(2 * feature_size, hidden_size)
        limit_initial_weights(self)

    def step(self, x: Tensor, epsilon: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, ...]:
        phi_x = relu(self.phi_x(x))
        mu_0, sigma_0 = self.expect(h)
        mu, sigma = gaussian(self.posterior(relu(self.posterior_hidden(phi_x, h))))
        z = mu + sigma * epsilon
        phi_z = relu(self.phi_z(z))
        theta = self.decode(phi_z, h)
        kl = divergence(mu, sigma, mu_0, sigma_0)
        ratio = log_ratio(epsilon, sigma, z, mu_0, sigma_0)
        h, C = self.recurrence.step(torch.cat([phi_x, phi_z], -1), h, C)
        return h, C, theta, kl, ratio

    def expect(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The prior's μ_0 and σ_0, [B, latent] each."""
        return gaussian(self.prior(relu(self.prior_hidden(h))))

    def decode(self, phi_z: Tensor, h: Tensor) -> Tensor:
        """The likelihood's θ, [B, outputs]."""
        return self.likelihood(relu(self.likelihood_hidden(phi_z, h)))


class VRNN(LatentNetwork):
    """Variational recurrent network (Chung et al. 2015) over sequences x [T, B, input_size].

        network = VRNN(88, 128, latent_size=32, likelihood=Bernoulli())
        loss = network(x, lengths).bound.sum() / sum(lengths)    # nats per frame

    The equations are those of `VRNNCell`; the interface is that of `LatentNetwork`. `generate` is a loop in Python, not
    a kernel, since x_t is sampled at every step. `recurrent_dropout` is passed to the layer: in training it masks the h
    that the affine maps read. Without it the network overfits a few hundred sequences quickly.

    Shapes: x [T, B, input]; ε [T, B, latent]; θ [T, B, outputs], outputs = input, or 2 * input for `Gaussian`; nll, kl
    and ratio [T, B]; `generate` [T, B, input].
    Paper: Chung et al. 2015, sections 3 and 4; the estimate is from Burda et al. 2016.
    Departures: as for the cell; no mixture of Gaussians as likelihood, which the paper uses for speech; the recurrent
    dropout is not in the paper.

    Raises ValueError for x or noise of another shape or dtype, and for x outside the support of the likelihood.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        latent_size: int = 16,
        feature_size: int = 64,
        likelihood: Likelihood | None = None,
        recurrent_dropout: float = 0.0,
    ):
        likelihood = likelihood or Bernoulli()
        super().__init__(input_size, latent_size, likelihood)
        self.layer = Recurrent(
            VRNNCell,
            input_size,
            hidden_size,
            latent_size=latent_size,
            feature_size=feature_size,
            outputs=likelihood.parameters * input_size,
            recurrent_dropout=recurrent_dropout,
        )

    def frames(self, steps: int, rows: int, generator: torch.Generator | None) -> Iterator[Tensor]:
        cell: VRNNCell = self.layer.cell  # type: ignore[assignment]
        h = C = next(self.parameters()).new_zeros(rows, cell.hidden_size)
        for _ in range(steps):
            mu_0, sigma_0 = cell.expect(h)
            phi_z = relu(cell.phi_z(mu_0 + sigma_0 * noise(mu_0.shape, h, generator)))
            x = self.likelihood.sample(cell.decode(phi_z, h), generator)
            h, C = cell.recurrence.step(torch.cat([relu(cell.phi_x(x)), phi_z], -1), h, C)
            yield x
