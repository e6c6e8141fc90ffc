"""Models Bach's chorales, or speech, with a plain RNN driven by noise (STORN, Bayer & Osendorfer 2014).

`conveyor run storn` takes 2 minutes on two busy cores. On the 42 test chorales it reaches 7.41 nats per frame (bound)
and an importance-weighted estimate of 7.24 with 50 samples (--seed 1: 7.32 and 7.17). For comparison: predicting each
key from its own last frame has 10.27, and an LSTM has an exact 8.32 (benchmarks/papers/chorales.py).

`conveyor run storn --data vowels` reaches -1.50 and -1.65 on 370 utterances, but does not use its noise: the KL is
0.004 nats per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conveyor.applications.stochastic import Stochastic, StochasticSettings
from conveyor.training.settings import TrainingSettings, setting
from conveyor.zoo.storn import STORN


@dataclass(frozen=True)
class STORNSettings(StochasticSettings):
    """The settings of `conveyor run storn`. Raises BadInput for values out of bounds."""

    hidden_size: int = setting(200, "units of the generator", low=1)
    latent_size: int = setting(128, "latent variables per frame", low=1)
    recogniser_size: int = setting(200, "units of the recognition network", low=1)
    recurrent_dropout: float = setting(0.05, "variational dropout on the generator's state", low=0, high=1)


class LearnSTORN(Stochastic):
    """Model chorales or speech with a plain RNN driven by independent noise (STORN, Bayer & Osendorfer 2014)."""

    settings_type: ClassVar[type[TrainingSettings]] = STORNSettings
    command = "conveyor run storn"
    settings: STORNSettings

    def network(self, width: int) -> STORN:
        s = self.settings
        return STORN(width, s.hidden_size, s.latent_size, s.recogniser_size, self.data.likelihood, s.recurrent_dropout)
