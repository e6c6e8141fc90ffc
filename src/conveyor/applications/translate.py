"""English to Spanish translation with an encoder, a decoder and attention: `conveyor run translate`.

The sentences are Bible verses of up to 15 words if the Debian packages sword-text-kjv and sword-text-sparv and the
Python package pysword are installed, and otherwise numbers in words, "three hundred and forty-two". `alignment.png`
shows the attention to the English words for each Spanish word.

Measured with seed 0 and one thread on the 500 sentences of the test part:

    --data numbers                    greedy and beam of 5: all exact, BLEU 100            1 minute
    --data verses --steps 3000        greedy 1.4% exact, BLEU 18.1; beam of 5 BLEU 20.5    4 minutes of CPU time
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from conveyor.applications.sentences import attention_maps, bleu, decode, describe_scores, nats_per_word, score
from conveyor.figures import figure, png
from conveyor.tasks.translation import DATA, choose, translation
from conveyor.tasks.verses import CURE
from conveyor.tasks.words import END, UNKNOWN, TokenBatch, WordVocabulary, columns
from conveyor.training.job import TrainingJob
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings, setting
from conveyor.zoo.decoder import negative_log_likelihood
from conveyor.zoo.translator import Translator

SHOWN = 4  # sentences in the picture


@dataclass(frozen=True)
class TranslateSettings(TrainingSettings):
    """The settings of `conveyor run translate`. Raises BadInput for values out of bounds."""

    data: str = setting("auto", "verses or numbers; auto: verses if they are installed, else numbers", choices=DATA)
    longest: int = setting(15, "for verses: maximum number of words in a sentence", low=1)
    numbers: int = setting(20_000, "for numbers: size of the data set", low=1, high=1_000_000)
    vocabulary_size: int = setting(4_000, "words of each language; other words become <unk>", low=1)
    hidden_size: int = setting(128, "units of the decoder, and of both encoder directions together", low=2)
    embedding_size: int = setting(64, "size of the word embedding", low=1)
    dropout: float = setting(0.3, "dropout on words, annotations and output", low=0, high=1)
    held_out: int = setting(500, "sentences for validation, and as many for testing", low=SHOWN, high=100_000)
    beam: int = setting(5, "width of the beam search", low=1, results=True)
    length_power: float = setting(
        1.0, "beam search: exponent of the length by which the score of a sentence is divided", low=0, results=True
    )
    steps: int = setting(1_500, "training steps", low=1)
    batch_size: int = setting(64, "sentences per batch", low=1, high=100_000)
    lr: float = setting(4e-3, "peak learning rate", above=0, high=1e3)


class Translate(TrainingJob):
    """Translate English to Spanish with attention (after Bahdanau et al. 2015, Xu et al. 2015)."""

    settings_type: ClassVar[type[TrainingSettings]] = TranslateSettings
    command = "conveyor run translate"
    needs = ("matplotlib", "sacrebleu")
    unit = "word"
    model: Translator

    @classmethod
    def resolve(cls, settings: TranslateSettings, folder: Path) -> TranslateSettings:
        return dataclasses.replace(super().resolve(settings, folder), data=choose(settings.data))

    def __init__(self, settings: TranslateSettings):
        self.settings = settings
        data = translation(choose(settings.data), settings.longest, settings.held_out, settings.numbers)
        self.digest = hashlib.sha256(repr(data).encode()).hexdigest()
        size = settings.vocabulary_size
        self.english, self.spanish = (
            WordVocabulary.of((p[k] for p in data.learnt), size, unknown=True) for k in (0, 1)
        )
        self.data = data
        self.learnt = self.encoded(data.learnt)
        self.model = Translator(
            len(self.english),
            len(self.spanish),
            settings.hidden_size,
            settings.embedding_size,
            dropout=settings.dropout,
        )

    def encoded(self, pairs: list[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]]]:
        """The word indices of the sentences, English and Spanish."""
        return [self.english.encode(e) for e, _ in pairs], [self.spanish.encode(s) for _, s in pairs]

    def describe(self) -> str:
        learnt, kept = len(self.data.learnt), len(self.data.test)
        line = f"{super().describe()}; {self.data.name}: {learnt:,} training pairs of sentences, {kept} for testing"
        return line if self.data.name == "verses" else f"{line} (to train on verses: {CURE})"

    def loss(self, step: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng([self.settings.seed, step])
        chosen = rng.integers(len(self.learnt[0]), size=self.settings.batch_size)
        a, mask = self.annotate([self.learnt[0][i] for i in chosen])
        said = TokenBatch.of([self.learnt[1][i] for i in chosen]).to(self.device)
        scores, _ = self.model.decoder(said.inputs, a, mask, lengths=said.lengths)
        return negative_log_likelihood(scores, said.targets).sum() / said.count, said.count

    def annotate(self, sentences: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The annotations of the sentences, [B, L, D], and their mask, [B, L]."""
        words, lengths = columns([[*sentence, WordVocabulary.end] for sentence in sentences])
        return self.model.annotate(words.to(self.device), lengths)

    def measure(self) -> dict[str, float]:
        """Nats per word and BLEU. Unknown words count as <unk>, which improves the first but not the second."""
        english, spanish = self.encoded(self.data.validation)
        loss = nats_per_word(self.model.decoder, TokenBatch.of(spanish).to(self.device), *self.annotate(english))
        said = self.translations(self.data.validation, 1)
        return {"nats_a_word": loss, "bleu": bleu(said, [spanish for _, spanish in self.data.validation])}

    def translations(self, pairs: list[tuple[str, str]], width: int) -> list[str]:
        """The Spanish sentences generated for the English ones of the pairs, with a beam of this width."""
        english, _ = self.encoded(pairs)
        limit = 2 + 2 * max(map(len, english))
        power = self.settings.length_power if width > 1 else 0.0
        forbidden = (WordVocabulary.start, self.spanish.symbols.index(UNKNOWN))
        found = decode(self.model.decoder, *self.annotate(english), width, limit, power, forbidden)
        return [self.spanish.decode(one.words) for one in found]

    def results(self) -> dict[str, bytes]:
        test = self.data.test
        said = self.translations(test, self.settings.beam)
        found = {"greedy": self.translations(test, 1), f"beam of {self.settings.beam}": said}
        figures = score(found, [spanish for _, spanish in test])
        self.figures = describe_scores(figures, len(said))
        lines = [
            f"{english}\n  {one}" + ("" if one == spanish else f"\n  ({spanish})")
            for (english, spanish), one in zip(test, said, strict=True)
        ]
        return {
            "translations.txt": "\n".join([*self.figures, "", *lines, ""]).encode(),
            "figures.json": json.dumps(figures, indent=1).encode(),
            "alignment.png": self.picture(said),
        }

    def picture(self, translations: list[str]) -> bytes:
        """A PNG with the attention weights of a few sentences of medium length."""
        english, _ = self.encoded(self.data.test)
        middling = sorted(range(len(english)), key=lambda i: abs(len(english[i]) - 11))[:SHOWN]
        drawn = figure(11, 11)
        for axis, i in zip(drawn.subplots(2, 2).flat, sorted(middling), strict=True):
            sentence = self.spanish.encode(translations[i])
            (alpha,) = attention_maps(self.model.decoder, *self.annotate([english[i]]), [sentence])
            axis.imshow(alpha.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
            axis.set_xticks(range(alpha.shape[1]), [*self.data.test[i][0].split(), END], rotation=60, ha="right")
            axis.set_yticks(range(len(alpha)), [*self.spanish.labels(sentence), END])
        return png(drawn)

    def summary(self, step: int, best: float, run: Run) -> str:
        return "\n".join([super().summary(step, best, run), *self.figures])
