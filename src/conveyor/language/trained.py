"""Loads a trained language model from its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from conveyor.errors import BadInput
from conveyor.language.job import build, read_text
from conveyor.language.model import LanguageModel
from conveyor.language.settings import Settings
from conveyor.tasks import text
from conveyor.tasks.text import Vocabulary
from conveyor.training.run import Run, digest


@dataclass(frozen=True)
class Trained:
    """A trained model with its vocabulary, settings and run."""

    model: LanguageModel
    vocabulary: Vocabulary
    settings: Settings
    run: Run
    digest: str  # of its training text

    def own_text(self) -> bytes:
        """The training text. Raises BadInput if it has changed, since the held-out tail would differ."""
        raw = read_text(self.run, self.settings)
        if digest(raw) != self.digest:
            raise BadInput("the text of this run has changed since the training: name a text to evaluate the model on")
        return raw

    def tokens(self, sources: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
        """The token indices of a text, [N], and the number of characters of each token, [N].

        Without `sources` it is the held-out tail of the training text.
        """
        raw = text.read(sources, self.vocabulary.kind) if sources else self.own_text()
        tokens, lengths = self.vocabulary.encode(raw), self.vocabulary.lengths(raw)
        if sources:
            return tokens, lengths
        return text.split(tokens, self.settings.held_out)[1], text.split(lengths, self.settings.held_out)[1]


def load(folder: Path, device: str = "cpu") -> Trained:
    """The best model of a run. Raises BadInput if its file is missing, damaged or does not match config.toml."""
    run = Run(folder)
    settings = run.settings(Settings, "conveyor train")
    tensors, description = run.read_model()
    if "symbols" not in description:
        raise BadInput(f"{run.model} is not a language model")
    vocabulary = Vocabulary(description["kind"], tuple(description["symbols"]))
    model = build(settings, len(vocabulary))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput(
            f"{run.model} does not fit config.toml and its cell {settings.cell}: restore what has changed"
        ) from error
    return Trained(model.to(device).eval(), vocabulary, settings, run, description["digest"])
