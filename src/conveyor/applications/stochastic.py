"""Shared by the VRNN and STORN applications: data, training on the variational bound, figures and results."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from conveyor.applications.stochastic_pictures import lines, rolls
from conveyor.tasks import chorales, vowels
from conveyor.tasks.midi import check, midi
from conveyor.training.job import TrainingJob
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings, setting
from conveyor.zoo.latent import Bernoulli, Gaussian, LatentNetwork, Likelihood, Terms

DRAWS = 10  # samples of the noise, for the bound at the end
ROWS = 256  # sequences in a batch of an evaluation
SHOWN = 0  # index of the test sequence in the pictures


@dataclass(frozen=True)
class StochasticSettings(TrainingSettings):
    """The common settings of both applications. Raises BadInput for values out of bounds."""

    data: str = setting("chorales", "Bach's chorales, or speech as 12 coefficients", choices=("chorales", "vowels"))
    folder: str = setting("", "with --data vowels: folder of JapaneseVowels_TRAIN.ts and _TEST.ts, by default in aeon")
    hidden_size: int = setting(128, "units of the recurrent network", low=1)
    latent_size: int = setting(32, "latent variables per frame", low=1)
    recurrent_dropout: float = setting(0.2, "variational dropout on the recurrent state", low=0, high=1)
    kl_warmup: int = setting(500, "steps in which the weight of the KL in the training loss rises from 0 to 1", low=0)
    samples: int = setting(50, "samples for the final importance-weighted estimate", low=1, high=100_000, results=True)
    steps: int = setting(2_500, "training steps", low=1)
    batch_size: int = setting(16, "sequences per batch", low=1, high=100_000)
    lr: float = setting(3e-3, "peak learning rate", above=0, high=1e3)


@dataclass(frozen=True)
class Sequences:
    """A data set: sequences [T, D] in three parts, with the likelihood of a frame and baselines."""

    train: list[Tensor]
    valid: list[Tensor]
    test: list[Tensor]
    likelihood: Likelihood
    digest: str
    kind: str  # the name of a sequence, in the singular
    shown: str  # title of the test sequence in the pictures
    yardsticks: dict[str, float]  # baselines: nats per frame of simple models on the test part
    caution: str = ""


def read(settings: StochasticSettings) -> Sequences:
    """The data set named by the settings. Raises BadInput if it is missing."""
    return _chorales() if settings.data == "chorales" else _vowels(settings.folder)


def _chorales() -> Sequences:
    check()  # now, not after the training
    found = chorales.read()
    train, valid, test = ([chorale.roll for chorale in part] for part in (found.train, found.valid, found.test))
    yardsticks = {
        "each key by itself": chorales.unigram(train, test),
        "each key from its own last frame": chorales.markov(train, test),
    }
    caution = "The scores and the split differ from those of the published figures for JSB Chorales."
    shown = found.test[SHOWN].name
    return Sequences(train, valid, test, Bernoulli(), found.digest, "chorale", shown, yardsticks, caution)


def _vowels(folder: str) -> Sequences:
    found = vowels.read(Path(folder) if folder else None)
    train, valid, test = ([utterance.frames for utterance in part] for part in (found.train, found.valid, found.test))
    yardsticks = {
        "each coefficient by itself": vowels.independent(train, test),
        "each coefficient from its own last frame": vowels.autoregressive(train, test),
    }
    shown = f"an utterance of speaker {found.test[SHOWN].speaker}"
    return Sequences(train, valid, test, Gaussian(), found.digest, "utterance", shown, yardsticks)


class Stochastic(TrainingJob):
    """Base class: trains a LatentNetwork on its variational bound, with batches of whole sequences."""

    settings_type: ClassVar[type[TrainingSettings]] = StochasticSettings
    needs = ("matplotlib",)
    unit = "frame"
    model: LatentNetwork

    def __init__(self, settings: Any):
        self.settings = settings
        self.data = read(settings)
        self.digest = self.data.digest
        self.model = self.network(self.data.train[0].shape[1])

    def network(self, width: int) -> LatentNetwork:
        """The network for sequences [T, B, width]."""
        raise NotImplementedError

    @classmethod
    def resolve(cls, settings: Any, folder: Path) -> Any:
        settings = super().resolve(settings, folder)
        return replace(settings, folder=str(Path(settings.folder).absolute())) if settings.folder else settings

    def describe(self) -> str:
        data, parameters = self.data, sum(parameter.numel() for parameter in self.model.parameters())
        counts = f"{len(data.train)} training {data.kind}s, {len(data.valid)} and {len(data.test)} held out"
        return f"{type(self.model).__name__}, {parameters:,} parameters; {counts}"

    def loss(self, step: int) -> tuple[Tensor, int]:
        size = min(self.settings.batch_size, len(self.data.train))
        chosen = np.random.default_rng([self.settings.seed, step]).permutation(len(self.data.train))[:size]
        x, lengths = self.padded([self.data.train[i] for i in chosen])
        terms = self.model(x, lengths)
        weight = min(1.0, (step + 1) / max(1, self.settings.kl_warmup))
        frames = int(lengths.sum())
        return (terms.nll + weight * terms.kl).sum() / frames, frames

    def padded(self, sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The padded sequences, [T, B, D], and their lengths, [B]."""
        return pad_sequence(sequences).to(self.device), torch.tensor([len(sequence) for sequence in sequences])

    def measure(self) -> dict[str, float]:
        """The bound, with the full KL, and the KL on the validation part, in nats per frame."""
        return self.bound(self.data.valid, draws=1)

    def bound(self, sequences: list[Tensor], draws: int) -> dict[str, float]:
        """The bound and its KL term in nats per frame, averaged over `draws` noise samples."""
        chance, found = torch.Generator().manual_seed(0), torch.zeros(2)
        for start in range(0, len(sequences), ROWS):
            x, lengths = self.padded(sequences[start : start + ROWS])
            for _ in range(draws):
                terms = self.model(x, lengths, generator=chance)
                found += torch.stack([terms.bound.sum(), terms.kl.sum()]).cpu()
        bound, kl = (found / (draws * sum(map(len, sequences)))).tolist()
        return {"bound": bound, "kl": kl}

    def estimate(self, sequences: list[Tensor]) -> float:
        """The importance-weighted estimate of -ln p, in nats per frame."""
        chance, found = torch.Generator().manual_seed(1), 0.0
        at_a_time = max(1, 4 * ROWS // self.settings.samples)
        for start in range(0, len(sequences), at_a_time):
            x, lengths = self.padded(sequences[start : start + at_a_time])
            found += self.model.estimate(x, lengths, self.settings.samples, chance).sum().item()
        return found / sum(map(len, sequences))

    def results(self) -> dict[str, bytes]:
        test = self.data.test
        self.figures = self.bound(test, DRAWS) | {"estimate": self.estimate(test), **self.data.yardsticks}
        return {"figures.json": f"{json.dumps(self.figures, indent=1)}\n".encode(), **self.shown()}

    def shown(self) -> dict[str, bytes]:
        """Files with a test sequence, its reconstruction, and a sample from the prior."""
        sequence = self.data.test[SHOWN]
        terms: Terms = self.model(sequence[:, None].to(self.device), generator=torch.Generator().manual_seed(2))
        kl = terms.kl[:, 0].cpu().numpy()
        again = self.data.likelihood.mean(terms.theta)[:, 0].cpu()
        sample = self.model.generate(len(sequence), 1, torch.Generator().manual_seed(3))[:, 0].cpu()
        rows = {self.data.shown: sequence, "reconstruction": again, "sample from the prior": sample}
        if self.settings.data == "vowels":
            return {"utterance.png": lines(rows, kl)}
        files = {"chorale.mid": sequence, "reconstruction.mid": (again > 0.5).float(), "sample.mid": sample}
        return {"chorale.png": rolls(rows, kl)} | {name: midi(roll) for name, roll in files.items()}

    def summary(self, step: int, best: float, run: Run) -> str:
        data, found = self.data, self.figures
        yardsticks = ", ".join(f"{name} {value:.2f}" for name, value in data.yardsticks.items())
        return (
            f"{super().summary(step, best, run)}\n"
            f"{len(data.test)} test {data.kind}s, nats per frame: bound {found['bound']:.3f} "
            f"(KL {found['kl']:.3f}), estimate {found['estimate']:.3f} with {self.settings.samples} samples\n"
            f"for comparison: {yardsticks}\n{data.caution}"
        ).strip()
