"""A network that describes an image in words, looking at a place of it for each (Xu et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell import check_sizes
from conveyor.zoo.decoder import Decoder


class Captioner(nn.Module):
    """Annotations of an image's places by convolutions, and a decoder that attends to them.

        model = Captioner(21, side=28, hidden_size=96)
        a, mask = model.annotate(canvases)              # canvases: [B, 28, 28], a: [B, 49, annotation_size]
        scores, values = model.decoder(words, a, mask)  # words: [T, B]

    Three convolutions, normalised over the image and the first two pooled by 2 x 2, make an annotation of every 4 x 4
    points. To each is added a vector of its place, which is learnt: what a place shows does not say where it is.
    `decoder` takes further arguments of `Decoder`, such as `attention`.

    Paper: Xu et al. 2015, "Show, Attend and Tell".
    Departures: the paper's annotations are those of the last convolution of a network that knows a million photographs,
    at 14 x 14 places, with nothing added.

    Raises ValueError for images of another size or type.
    """

    def __init__(self, vocabulary_size: int, side: int, hidden_size: int, annotation_size: int = 64, **decoder: Any):
        super().__init__()
        check_sizes(side=side, annotation_size=annotation_size)
        if side % 4:
            raise ValueError(f"the image's side must be a multiple of 4, not {side}")
        self.side, self.places = side, side // 4
        pool = nn.MaxPool2d(2)
        self.convolutions = nn.Sequential(*_block(1, 16), pool, *_block(16, 32), pool, *_block(32, annotation_size))
        self.place = nn.Parameter(0.1 * torch.randn(self.places**2, annotation_size))
        self.decoder = Decoder(vocabulary_size, hidden_size, annotation_size, **decoder)

    def annotate(self, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """a [B, L, annotation_size], from top left to bottom right by rows, and its mask [B, L] of ones."""
        if canvases.dim() != 3 or canvases.shape[1:] != (self.side, self.side):
            raise ValueError(f"the images must be [B, {self.side}, {self.side}], not {list(canvases.shape)}")
        if canvases.dtype != self.place.dtype:
            raise ValueError(f"the images must be {self.place.dtype} as the weights are, not {canvases.dtype}")
        a = self.convolutions(canvases[:, None]).flatten(2).transpose(1, 2) + self.place
        return a, a.new_ones(a.shape[:2])


def _block(before: int, after: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution, nn.GroupNorm(1, after), nn.ReLU()
