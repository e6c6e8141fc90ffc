"""Language models over characters, bytes or words: the model, its settings, its training, and what is trained."""

from conveyor.language.model import LanguageModel, Measure, generate, loss

__all__ = ["LanguageModel", "Measure", "generate", "loss"]
