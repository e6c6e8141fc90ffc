"""Language models over characters, bytes or words: model, settings, training job, and loading of trained models."""

from conveyor.language.model import LanguageModel, Measure, generate, loss

__all__ = ["LanguageModel", "Measure", "generate", "loss"]
