"""DRAW as a generative model of images: its bound, an estimate of the likelihood, and images of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conveyor.cell import check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.draw import DRAW


@dataclass(frozen=True)
class Drawing:
    """What a network drew after its images, glimpse by glimpse."""

    canvas: Tensor  # [T, B, pixels], each pixel's score: σ(canvas[-1]) are the probabilities
    nll: Tensor  # [B], -log p(x | z) in nats
    kl: Tensor  # [T, B], KL(q(z_t | x, z_{<t}) || p(z_t)) in nats
    log_ratio: Tensor  # [B], log q(z | x) - log p(z) of the z that was drawn, whose mean over z is the sum of the KL
    windows: dict[str, Tensor]  # with attention "read_window" and "write_window", [T, B, 5]

    @property
    def bound(self) -> Tensor:
        """The upper bound on -log p(x), in nats an image: [B]."""
        return self.nll + self.kl.sum(0)


class DrawNetwork(nn.Module):
    """DRAW, or AttentiveDRAW, over a number of glimpses (Gregor et al. 2015).

        network = DrawNetwork(zoo.AttentiveDRAW, 8, 8, latent_size=10, hidden_size=64, glimpses=10, read_size=3,
                              write_size=3)
        network(images).bound.mean().backward()          # images: [B, 64], nats an image
        canvas = network.generate(network.noise(16))     # [T, 16, 64] from the prior z_t ~ N(0, 1)

    L = -log p(x | σ(c_T)) + Σ_t KL(q(z_t | h_enc_t) || N(0, 1)) ≥ -log p(x) in the mean over ε, with Bernoulli pixels
    and KL = ½ Σ (μ² + σ² - log σ² - 1) over the latent units. (The paper's "- T / 2" is this -½ for one unit a step.)

    `options` go to the cell. With one glimpse it is a variational autoencoder that sees the image once.
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

    def noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers for `count` images, [T, count, latent]."""
        like = self.rnn.initial_state["c"]
        shape = (self.glimpses, count, self.latent_size)
        return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Drawing:
        """Draws after the images [B, pixels] with this noise [T, B, latent], or with new noise."""
        if image.dim() != 2:
            raise ValueError(f"images are rows of pixels, [B, height * width], not {list(image.shape)}: flatten them")
        noise = self.noise(len(image)) if noise is None else noise
        if noise.shape[1:] != (len(image), self.latent_size):
            raise ValueError(
                f"noise for these images is [T, {len(image)}, {self.latent_size}], not {list(noise.shape)}"
            )
        canvas, _, values = self.rnn(noise, image=image)
        values = {name: value[0, 0] for name, value in values.items()}
        mu, log_sigma = values.pop("mu"), values.pop("log_sigma")
        z = mu + log_sigma.exp() * noise
        kl = 0.5 * (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(-1)
        log_ratio = (0.5 * z**2 - 0.5 * noise**2 - log_sigma).sum((0, 2))
        nll = F.binary_cross_entropy_with_logits(canvas[-1], image, reduction="none").sum(-1)
        return Drawing(canvas, nll, kl, log_ratio, values)

    def estimate(self, image: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """The importance-weighted bound on -log p(x) with K samples, [B] (Burda et al. 2016): tighter with more.

        -log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x), with z_k from q; in the mean it is the bound where K is 1.
        """
        check_sizes(samples=samples)
        weights = []
        for _ in range(samples):
            drawing = self(image, self.noise(len(image), generator))
            weights.append(-drawing.nll - drawing.log_ratio)
        return math.log(samples) - torch.stack(weights).logsumexp(0)

    def generate(self, noise: Tensor) -> Tensor:
        """The canvases [T, B, pixels] that the decoder alone draws from z = `noise`, [T, B, latent]."""
        cell: DRAW = self.rnn.cell  # type: ignore[assignment]
        start = (self.rnn.initial_state[name].expand(noise.shape[1], -1) for name in ("c", "h_dec", "C_dec"))
        c, h_dec, C_dec = start
        canvas = []
        for z in noise:
            c, h_dec, C_dec, *_ = cell.paint(z, c, h_dec, C_dec)
            canvas.append(c)
        return torch.stack(canvas)
