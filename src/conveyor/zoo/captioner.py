"""A network that captions an image, attending to it at each word (Xu et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.cell import check_sizes
from conveyor.zoo.decoder import Decoder


class Captioner(nn.Module):
    """A convolutional encoder that annotates the locations of an image, and a decoder that attends to them.

        model = Captioner(21, side=28, hidden_size=96)
        a, mask = model.annotate(canvases)              # canvases: [B, 28, 28], a: [B, 49, annotation_size]
        scores, values = model.decoder(words, a, mask)  # words: [T, B]

    Three convolutions, each normalised over the image and the first two followed by 2 x 2 pooling, compute an
    annotation for every 4 x 4 pixels. A learned position embedding is added to each. `decoder` takes further arguments
    of `Decoder`, such as `attention`.

    Paper: Xu et al. 2015, "Show, Attend and Tell".
    Departures: the paper takes the annotations, at 14 x 14 locations, from the last convolution of a network trained on
    a million photographs, without a position embedding.

    Raises ValueError for images of another size or dtype.
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
        """The annotations [B, L, annotation_size], row by row from the top left, and their mask [B, L] of ones."""
        if canvases.dim() != 3 or canvases.shape[1:] != (self.side, self.side):
            raise ValueError(f"the images must be [B, {self.side}, {self.side}], not {list(canvases.shape)}")
        if canvases.dtype != self.place.dtype:
            raise ValueError(f"the images must be {self.place.dtype}, like the weights, not {canvases.dtype}")
        a = self.convolutions(canvases[:, None]).flatten(2).transpose(1, 2) + self.place
        return a, a.new_ones(a.shape[:2])


def _block(before: int, after: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution, nn.GroupNorm(1, after), nn.ReLU()
