"""Learns Bach's chorales, or speech, with noise that drives a plain RNN (STORN, Bayer & Osendorfer 2014).

`conveyor run storn` or `conveyor run storn --data vowels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conveyor.applications.stochastic import Stochastic, StochasticSettings
from conveyor.training.settings import Common, setting
from conveyor.zoo.storn import STORN


@dataclass(frozen=True)
class STORNSettings(StochasticSettings):
    hidden_size: int = setting(200, "units of the generator", low=1)
    latent_size: int = setting(64, "numbers drawn at each frame", low=1)
    recogniser_size: int = setting(200, "units of the network that recognises", low=1)


class LearnSTORN(Stochastic):
    """Learn chorales or speech with independent noise that drives a plain RNN (STORN, Bayer & Osendorfer 2014)."""

    settings_type: ClassVar[type[Common]] = STORNSettings
    settings: STORNSettings

    def network(self, width: int) -> STORN:
        s = self.settings
        return STORN(width, s.hidden_size, s.latent_size, s.recogniser_size, self.data.likelihood, s.recurrent_dropout)
