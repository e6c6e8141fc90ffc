"""Learns Bach's chorales, or speech, with a latent variable at every frame (VRNN, Chung et al. 2015).

`conveyor run vrnn` reaches in 2 minutes, on two cores that had other work too, a bound of 6.34 nats a frame for the 42
chorales of the test part, and 6.13 as the importance-weighted estimate with 50 samples. Each
key from its own last frame has 10.27 and an LSTM, exactly, 8.32 (benchmarks/papers/chorales.py).

`conveyor run vrnn --data vowels` reaches in 2 minutes a bound of -2.32 and an estimate of -2.90 for 370 utterances, in
nats a frame of coefficients with deviation 1; each coefficient from its own last frame has 1.39.
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
    """Learn chorales or speech with a latent variable that the past foresees (VRNN, Chung et al. 2015)."""

    settings_type: ClassVar[type[TrainingSettings]] = VRNNSettings
    command = "conveyor run vrnn"
    settings: VRNNSettings

    def network(self, width: int) -> VRNN:
        s = self.settings
        return VRNN(width, s.hidden_size, s.latent_size, s.feature_size, self.data.likelihood, s.recurrent_dropout)
