"""Models Bach's chorales, or speech, with a latent variable at every frame (VRNN, Chung et al. 2015).

`conveyor run vrnn` takes 2 minutes on two busy cores. On the 42 test chorales it reaches a bound of 6.34 nats per frame
and an importance-weighted estimate of 6.13 with 50 samples. For comparison: predicting each key from its own last frame
has 10.27, and an LSTM has an exact 8.32 (benchmarks/papers/chorales.py).

`conveyor run vrnn --data vowels` takes 2 minutes and reaches a bound of -2.32 and an estimate of -2.90 on 370
utterances, in nats per frame of coefficients with standard deviation 1. Predicting each coefficient from its own last
frame has 1.39.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conveyor.applications.stochastic import Stochastic, StochasticSettings
from conveyor.training.settings import TrainingSettings, setting
from conveyor.zoo.vrnn import VRNN


@dataclass(frozen=True)
class VRNNSettings(StochasticSettings):
    """The settings of `conveyor run vrnn`. Raises BadInput for values out of bounds."""

    feature_size: int = setting(256, "units of the hidden layers around the recurrent network", low=1)
    lr: float = setting(2e-3, "highest learning rate", above=0, high=1e3)


class LearnVRNN(Stochastic):
    """Model chorales or speech with a latent variable whose prior depends on the past (VRNN, Chung et al. 2015)."""

    settings_type: ClassVar[type[TrainingSettings]] = VRNNSettings
    command = "conveyor run vrnn"
    settings: VRNNSettings

    def network(self, width: int) -> VRNN:
        s = self.settings
        return VRNN(width, s.hidden_size, s.latent_size, s.feature_size, self.data.likelihood, s.recurrent_dropout)
