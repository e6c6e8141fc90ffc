"""Translates English into Spanish by attention, the essay's own example: `conveyor run translate`.

The sentences are verses of up to 15 words, where Debian's packages with them are installed, else numbers in words.
`alignment.png` shows for every Spanish word at which English words the network looked, `translations.txt` what it says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from conveyor.applications.picture import figure, png
from conveyor.applications.sentences import bleu, exact, likelihood, looks, say
from conveyor.tasks.translation import DATA, Pairs, choose, translation
from conveyor.tasks.verses import CURE
from conveyor.tasks.words import UNKNOWN, Said, Words, columns
from conveyor.training.job import Job
from conveyor.training.run import Run
from conveyor.training.settings import Common, setting
from conveyor.zoo.decoder import negative_log_likelihood
from conveyor.zoo.translator import Translator

SHOWN = 4  # sentences in the picture
ROWS = 128  # sentences that are translated side by side


@dataclass(frozen=True)
class TranslateSettings(Common):
    data: str = setting("auto", "verses, numbers in words, or the verses where they are installed", choices=DATA)
    longest: int = setting(15, "of the verses: the most words", low=1)
    held_out: int = setting(500, "pairs of sentences to measure on", low=SHOWN)
    vocabulary_size: int = setting(4_000, "the most frequent words of each language, the rest are <unk>", low=2)
    hidden_size: int = setting(128, "units of the decoder, and of both directions of the encoder together", low=2)
    embedding_size: int = setting(64, "width of a word's vector", low=1)
    dropout: float = setting(0.2, "dropout on words, annotations and output", low=0, high=1)
    beam: int = setting(5, "width of the beam search", low=1)
    length_power: float = setting(0.7, "of the length that a sentence's score is divided by in the search", low=0)
    steps: int = setting(1_500, "steps of the optimiser", low=1)
    batch_size: int = setting(64, "pairs of sentences learnt from in a step", low=1)
    lr: float = setting(4e-3, "highest learning rate", above=0, high=1e38)


class Translate(Job):
    """Translate English sentences into Spanish, looking at their words (attention; the essay's own example)."""

    settings_type: ClassVar[type[Common]] = TranslateSettings
    unit = "word"
    settings: TranslateSettings
    model: Translator

    def __init__(self, settings: TranslateSettings):
        super().__init__(settings)
        self.data = translation(settings.data, settings.longest, settings.held_out)
        self.digest = hashlib.sha256(repr((self.data.learnt, self.data.held_out)).encode()).hexdigest()
        english, spanish = zip(*self.data.learnt, strict=True)
        self.source, self.target = (Words.of(side, settings.vocabulary_size, True) for side in (english, spanish))
        self.pairs = [(self.source.encode(one), self.target.encode(other)) for one, other in self.data.learnt]
        sizes = (settings.hidden_size, settings.embedding_size, settings.dropout)
        self.model = Translator(len(self.source), len(self.target), *sizes)
        self.figures: list[str] = []

    @classmethod
    def resolve(cls, settings: Any, folder: Path) -> Any:
        """What "auto" stands for here is written down, so that the run goes on with it."""
        return super().resolve(replace(settings, data=choose(settings.data)), folder)

    def describe(self) -> str:
        data = self.data
        instead = "" if data.name == "verses" else f"; to learn from verses: {CURE}"
        words = f"{len(self.source):,} English and {len(self.target):,} Spanish words"
        count = f"{len(data.learnt):,} pairs of {data.name}, {len(data.held_out)} held out"
        return f"{super().describe()}; {count}; {words}{instead}"

    def loss(self, step: int) -> tuple[Tensor, int]:
        chosen = np.random.default_rng([self.settings.seed, step]).integers(
            len(self.pairs), size=self.settings.batch_size
        )
        sources, targets = zip(*(self.pairs[i] for i in chosen), strict=True)
        said = Said.of(targets).to(self.device)
        a, mask = self.annotate(sources)
        scores, _ = self.model.decoder(said.inputs, a, mask, lengths=said.lengths)
        return negative_log_likelihood(scores, said.targets).sum() / said.count, said.count

    def annotate(self, sentences: Any) -> tuple[Tensor, Tensor]:
        words, lengths = columns(sentences)
        return self.model.annotate(words.to(self.device), lengths)

    def measure(self) -> dict[str, float]:
        """A held-out word that is not known counts as <unk>, which flatters the likelihood, but not BLEU."""
        said, wanted = self.translate(1), [spanish for _, spanish in self.data.held_out]
        total, words = 0.0, 0
        for part in self.parts():
            targets = Said.of([self.target.encode(spanish) for _, spanish in part]).to(self.device)
            total += targets.count * likelihood(self.model.decoder, targets, *self.annotate(self.sources(part)))
            words += targets.count
        return {"nats_a_word": total / words, "bleu": bleu(said, wanted), "exact": exact(said, wanted)}

    def parts(self) -> list[Pairs]:
        held_out = self.data.held_out
        return [held_out[i : i + ROWS] for i in range(0, len(held_out), ROWS)]

    def sources(self, pairs: Pairs) -> list[list[int]]:
        return [self.source.encode(english) for english, _ in pairs]

    def translate(self, width: int) -> list[str]:
        """What the network makes of the held-out sentences. It never says <unk>."""
        unsaid = (Words.start, self.target.symbols.index(UNKNOWN))
        limit = max(len(spanish.split()) for _, spanish in self.data.learnt)
        power = self.settings.length_power if width > 1 else 0.0
        return [
            self.target.decode(found.words)
            for part in self.parts()
            for found in say(self.model.decoder, *self.annotate(self.sources(part)), width, limit, power, unsaid)
        ]

    def results(self) -> dict[str, bytes]:
        wanted = [spanish for _, spanish in self.data.held_out]
        beam = self.translate(self.settings.beam)
        self.figures = [
            f"{len(wanted)} held-out {self.data.name}, {name} search: BLEU {bleu(said, wanted):.1f}, "
            f"{100 * exact(said, wanted):.1f}% as in the text"
            for name, said in (("greedy", self.translate(1)), (f"beam {self.settings.beam}", beam))
        ]
        lines = [
            f"{english}\n  {said}" + ("" if said == spanish else f"\n  ({spanish})")
            for (english, spanish), said in zip(self.data.held_out, beam, strict=True)
        ]
        text = "\n".join([*self.figures, "", *lines, ""])
        return {"translations.txt": text.encode(), "alignment.png": self.picture(beam)}

    def picture(self, translations: list[str]) -> bytes:
        """For a few long held-out sentences a matrix: a row for every Spanish word, a column for every English one."""
        few = range(min(ROWS, len(translations)))
        chosen = sorted(few, key=lambda i: -len(self.data.held_out[i][0].split()))[:SHOWN]
        pairs = [self.data.held_out[i] for i in chosen]
        sentences = [self.target.encode(translations[i]) for i in chosen]
        alphas = looks(self.model.decoder, *self.annotate(self.sources(pairs)), sentences)
        drawn = figure(11, 10)
        for axis, (english, _), sentence, alpha in zip(
            drawn.subplots(2, 2).flat, pairs, sentences, alphas, strict=True
        ):
            columns_of, rows = english.split(), [*self.target.labels(sentence), "<end>"]
            axis.imshow(alpha[:, : len(columns_of)].numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
            axis.set_xticks(range(len(columns_of)), columns_of, rotation=60, ha="left", fontsize=8)
            axis.xaxis.tick_top()
            axis.set_yticks(range(len(rows)), rows, fontsize=8)
        return png(drawn)

    def summary(self, step: int, best: float, run: Run) -> str:
        return "\n".join([super().summary(step, best, run), *self.figures])
