"""DRAW as a generative model of images: its variational bound, an estimate of the likelihood, and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.cell import check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.check import check_tensor
from conveyor.zoo.draw import DRAW
from conveyor.zoo.latent import Bernoulli, divergence, importance_weighted, log_ratio, noise


@dataclass(frozen=True)
class Drawing:
    """What a network drew for given images, glimpse by glimpse. `nll`, `kl` and `ratio` are in nats."""

    canvas: Tensor  # [T, B, pixels], the logits of the pixels: σ(canvas[-1]) are the probabilities
    nll: Tensor  # [B], -ln p(x | z)
    kl: Tensor  # [T, B], KL(q(z_t | x, z_{<t}) || p(z_t))
    ratio: Tensor  # [T, B], ln q(z_t) - ln p(z_t) at the sampled z; its mean over z is the KL
    windows: dict[str, Tensor]  # with attention "read_window" and "write_window", [T, B, 5]

    @property
    def bound(self) -> Tensor:
        """The upper bound on -ln p(x) of each image: [B]."""
        return self.nll + self.kl.sum(0)


class DrawNetwork(nn.Module):
    """DRAW, or AttentiveDRAW, over a number of glimpses (Gregor et al. 2015).

        network = DrawNetwork(zoo.AttentiveDRAW, 8, 8, latent_size=10, hidden_size=64, glimpses=10, read_size=3,
                              write_size=3)
        network(images).bound.mean().backward()          # images: [B, 64], nats an image
        network.estimate(images, samples=100)            # [B], the importance-weighted estimate of -ln p(x)
        network.generate(rows=16)[-1].sigmoid()          # [16, 64], from the prior z_t ~ N(0, 1)

    L = -ln p(x | σ(c_T)) + Σ_t KL(q(z_t | h_enc_t) || N(0, 1)) ≥ -ln p(x) in expectation over ε, with Bernoulli pixels
    and KL = ½ Σ (μ² + σ² - ln σ² - 1) over the latent units. (The paper's "- T / 2" is this -½ for one unit per step.)

    `options` are passed to the cell. With one glimpse it is a variational autoencoder that sees the image once.

    Shapes: images x [B, height * width]; ε, z, μ, σ [T, B, latent], with T = `glimpses`; c [T, B, height * width]; the
    KL [T, B]; the first part of L [B].
    Paper: Gregor et al. 2015, "DRAW: A Recurrent Neural Network For Image Generation", section 2; the estimate is from
    Burda et al. 2016.
    Departures: the whole initial state is learned, including the LSTMs' memory cells.
    Doubt: from memory, as the cells.

    Raises ValueError for images or noise of another shape or dtype, and for pixels outside [0, 1].
    """

    def __init__(
        self,
        cell: type[DRAW],
        height: int,
        width: int,
        latent_size: int,
        hidden_size: int,
        glimpses: int,
        **options: Any,
    ):
        super().__init__()
        check_sizes(glimpses=glimpses)
        self.glimpses, self.latent_size = glimpses, latent_size
        self.rnn = Recurrent(
            cell, latent_size, hidden_size, learn_initial_state=True, height=height, width=width, **options
        )
        self.pixels = self.rnn.cell.widths["image"]

    def forward(
        self, image: Tensor, epsilon: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Drawing:
        """Encodes the images and draws them; `epsilon` [T, B, latent] is the noise for z, sampled if not given."""
        check_tensor("image", image, ("B", self.pixels), self.weight)
        epsilon = self.noise(len(image), generator) if epsilon is None else epsilon
        self._check_glimpses("epsilon", epsilon, len(image))
        canvas, _, values = self.rnn(epsilon, image=image)
        values = {name: value[0, 0] for name, value in values.items()}
        mu, log_sigma = values.pop("mu"), values.pop("log_sigma")
        sigma = log_sigma.exp().clamp(min=torch.finfo(log_sigma.dtype).tiny)  # for 0 the divergence would be infinite
        prior = torch.zeros_like(mu), torch.ones_like(sigma)
        kl = divergence(mu, sigma, *prior)
        ratio = log_ratio(epsilon, sigma, mu + sigma * epsilon, *prior)
        return Drawing(canvas, Bernoulli().nll(image, canvas[-1]), kl, ratio, values)

    @torch.no_grad()
    def estimate(self, image: Tensor, samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """-ln p(x) of each image in nats, [B], by `latent.importance_weighted`; one sample at a time."""
        check_sizes(samples=samples)
        drawings = (self(image, generator=generator) for _ in range(samples))
        return importance_weighted(torch.stack([drawn.nll + drawn.ratio.sum(0) for drawn in drawings]))

    @torch.no_grad()
    def generate(self, rows: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Canvases sampled from the prior, [T, rows, pixels]."""
        check_sizes(rows=rows)
        return self.decode(self.noise(rows, generator))

    def decode(self, z: Tensor) -> Tensor:
        """The canvases [T, B, pixels] that the decoder draws from z [T, B, latent]. This is a loop in Python."""
        self._check_glimpses("z", z, "B")
        cell: DRAW = self.rnn.cell  # type: ignore[assignment]
        c, h_dec, C_dec = (self.rnn.initial_state[name].expand(z.shape[1], -1) for name in ("c", "h_dec", "C_dec"))
        canvas = []
        for z_t in z:
            c, h_dec, C_dec, *_ = cell.paint(z_t, c, h_dec, C_dec)
            canvas.append(c)
        return torch.stack(canvas)

    def noise(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise for this many images, [T, rows, latent]."""
        return noise((self.glimpses, rows, self.latent_size), self.weight, generator)

    @property
    def weight(self) -> Tensor:
        """A parameter, for its dtype and device."""
        return next(self.parameters())

    def _check_glimpses(self, name: str, value: Tensor, rows: int | str) -> None:
        check_tensor(name, value, (self.glimpses, rows, self.latent_size), self.weight)
