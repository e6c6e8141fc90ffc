"""Learns Bach's chorales, or speech, with a latent variable at every frame (VRNN, Chung et al. 2015).

`conveyor run vrnn` or `conveyor run vrnn --data vowels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conveyor.applications.stochastic import Stochastic, StochasticSettings
from conveyor.training.settings import Common, setting
from conveyor.zoo.vrnn import VRNN


@dataclass(frozen=True)
class VRNNSettings(StochasticSettings):
    feature_size: int = setting(256, "units of the hidden layers around the recurrent network", low=1)
    lr: float = setting(2e-3, "highest learning rate", above=0, high=1e38)


class LearnVRNN(Stochastic):
    """Learn chorales or speech with a latent variable that the past foresees (VRNN, Chung et al. 2015)."""

    settings_type: ClassVar[type[Common]] = VRNNSettings
    settings: VRNNSettings

    def network(self, width: int) -> VRNN:
        s = self.settings
        return VRNN(width, s.hidden_size, s.latent_size, s.feature_size, self.data.likelihood, s.recurrent_dropout)
