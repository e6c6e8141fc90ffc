"""DRAW's attention windows, through which it reads an image and writes on its canvas: banks of Gaussian filters."""

from __future__ import annotations

import torch
from torch import Tensor, cat, einsum, exp, nn, softmax

from conveyor.cell.cell import check_sizes

NARROWEST = -40.0  # the least log σ²: such a filter is one pixel in every dtype, and 1 / σ² does not overflow


class Filterbanks(nn.Module):
    """An N x N window on an image of height B and width A: two banks of N Gaussian filters.

        F_y, F_x, gamma, window = Filterbanks(N, B, A)(place)    # place: [R, 5]; F_y: [R, N, B], F_x: [R, N, A]

    (g̃_x, g̃_y, log σ², log δ̃, log γ) = place,
    g_x = (A + 1) / 2 (g̃_x + 1),  g_y = (B + 1) / 2 (g̃_y + 1),  δ = (max(A, B) - 1) / (N - 1) δ̃,
    μ_x_i = g_x + (i - N / 2 - 1/2) δ,  F_x[i, a] = exp(-(a - μ_x_i)² / 2σ²) / Z_i

    with i = 1 ... N, a = 1 ... A, and Z_i such that a filter sums to 1 over the image. F_y is analogous. Pixels are
    numbered from 1, as in the equations: then the offsets are symmetric about the centre, g̃ = 0 is the middle of
    1 ... A, and with δ̃ = 1 the outer filters are centred on the first and the last pixel. If N is 1, the offset is 0
    and δ has no effect.

    The equations are from memory of the paper, and whether pixels are numbered from 1 is uncertain. A public port
    numbers them from 0 with the same g_x, which moves every window by one pixel; the network can learn to undo it.

    F is computed as a softmax over a, relative to the nearest pixel. So there is no 0 / 0 where every exp underflows,
    far outside the image or for a small σ. log σ² is clamped to at least -40, where a filter is one pixel.
    """

    offsets: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, height: int, width: int):
        super().__init__()
        size, height, width = check_sizes(size=size, height=height, width=width)
        self.size, self.height, self.width = size, height, width
        for name, values in (
            ("offsets", torch.arange(1, size + 1) - size / 2 - 0.5),
            ("rows", torch.arange(1.0, height + 1)),
            ("columns", torch.arange(1.0, width + 1)),
        ):
            self.register_buffer(name, values, persistent=False)

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, y, log_variance, log_stride, log_gamma = place.split(1, -1)  # [R, 1] each
        log_variance = log_variance.clamp(min=NARROWEST)
        g_x, g_y = (self.width + 1) / 2 * (x + 1), (self.height + 1) / 2 * (y + 1)
        delta = (max(self.width, self.height) - 1) / max(self.size - 1, 1) * exp(log_stride)
        precision = exp(-log_variance)
        F_y = filterbank(g_y + self.offsets * delta, precision, self.rows)
        F_x = filterbank(g_x + self.offsets * delta, precision, self.columns)
        gamma = exp(log_gamma)
        return F_y, F_x, gamma, cat([g_x, g_y, delta, exp(log_variance / 2), gamma], -1)


def filterbank(mu: Tensor, precision: Tensor, pixels: Tensor) -> Tensor:
    """exp(-(a - μ_i)² / 2σ²) normalised over the pixels a: [R, N, A] from μ [R, N] and 1 / σ² [R, 1].

    Let n be the pixel nearest to μ. Then (a - μ)² - (n - μ)² = (a - n) (a + n - 2μ). This form avoids cancellation, is
    never negative, and is 0 at n however large 1 / σ² is. Subtracting the term for n does not change the softmax.
    """
    mu = mu[:, :, None]
    nearest = (mu + 0.5).floor().clamp(1, pixels.shape[0])
    beyond = (pixels - nearest) * (pixels + nearest - 2 * mu)
    return softmax(-0.5 * precision[:, :, None] * beyond, -1)


def read(images: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
    """F_y · image · F_xᵀ for each row's C images: [R, C, N, N] from [R, C, B * A]."""
    images = images.unflatten(-1, (F_y.shape[-1], F_x.shape[-1]))
    return einsum("rib,rcba,rja->rcij", F_y, images, F_x)


def write(patch: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
    """F_yᵀ · patch · F_x for each row: [R, B * A] from [R, N * N]."""
    patch = patch.unflatten(-1, (F_y.shape[-2], F_x.shape[-2]))
    return einsum("rib,rij,rja->rba", F_y, patch, F_x).flatten(1)
