"""Agreement of subject and verb over the nouns between, the essay's example: "the keys to the cabinet ... are"."""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import importlib.util
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, Classes, at, before, check

CHECKSUM = "8c44bd5bec62488bef043f98b0cab022a431d6cb03954864ea70334530908ba7"  # of the file of lemminflect 0.2.3
CURE = "pip install 'conveyor[agreement]'"
NOUNS = """
    author bird boat book boy brother cabinet car cat chair child city cloud coat daughter doctor dog door driver
    farmer field fish flower friend garden girl horse house key king lake lamp letter lion man mirror mountain
    mouse neighbour painter pilot poet prince queen river road sailor senator ship shop sister soldier son star
    stone student table teacher thief tower town tree village wall wife window wolf woman writer
""".split()  # noqa: SIM905
VERBS = """
    appear arrive change disappear fall go grow help laugh matter move play remain rest return rise run shine sing
    sleep stand stay swim travel vanish wait walk work
""".split()  # noqa: SIM905
SEES = """
    admire avoid call choose fear find follow forget hear help know like love miss need remember see want watch
""".split()  # noqa: SIM905
ADJECTIVES = ("beautiful", "famous", "lost", "old", "quiet", "small", "strange", "tired")
PREPOSITIONS = ("above", "behind", "beside", "near", "of", "to", "under", "with")
IS = ("is", "are")
THE, THAT, STOP = "the", "that", "."
SINGULAR, PLURAL = 0, 1
MOST = 4  # nouns between subject and verb


class Forms(NamedTuple):
    singular: str
    plural: str


class Sentence(NamedTuple):
    """The words, the place of the main verb among them, and whether the subject and each noun after it is a plural."""

    words: list[str]
    verb: int
    nouns: list[int]

    @property
    def attractors(self) -> int:
        """How many nouns between subject and verb are of the other number."""
        return sum(number != self.nouns[0] for number in self.nouns)


@dataclass(frozen=True)
class Agreement(Classes):
    """Subject-verb agreement in made-up English sentences (after Linzen, Dupoux & Goldberg 2016).

        the keys to the cabinet that the boy sees are old .

    A subject, three times in ten after a preposition and a noun; up to four modifiers of it, each a preposition and a
    noun or, one time in four, a relative clause with its own noun and verb; the main verb. All numbers are drawn by
    chance. `objective` "number": from the words before the main verb its number is to be told, at the last of them.
    "language": at every word the next one is; a sentence is right if, before the main verb, the verb's right form has a
    larger output than its other form.

    The forms of nouns and verbs are those of the package lemminflect. `nearest` is the error of the rule that the verb
    has the number of the nearest noun. Departures: the paper's sentences are Wikipedia's.

    Raises BadInput where lemminflect is missing.
    """

    objective: str = "number"
    metric: ClassVar[str] = "verbs wrong"
    chance: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        if self.objective not in ("number", "language"):
            raise BadInput(f"the objective is number or language, not {self.objective}")

    @property
    def input_size(self) -> int:
        return len(lexicon().words)

    @property
    def output_size(self) -> int:
        return 2 if self.objective == "number" else len(lexicon().words)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch(self.sentences(rows, generator))

    def sentences(self, rows: int, generator: torch.Generator, attractors: int | None = None) -> list[Sentence]:
        """So many sentences; all with this many attractors, where it is given, and no other noun between."""
        if attractors is not None and not 0 <= attractors <= MOST:
            raise BadInput(f"there are 0 to {MOST} attractors, not {attractors}")
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        return [_sentence(lexicon(), random, attractors) for _ in range(rows)]

    def batch(self, sentences: Sequence[Sentence]) -> Batch:
        """These sentences side by side."""
        known = lexicon()
        lengths = torch.tensor([s.verb if self.objective == "number" else len(s.words) - 1 for s in sentences])
        numbers = np.zeros((max(len(s.words) for s in sentences), len(sentences)), np.int64)
        for row, sentence in enumerate(sentences):
            numbers[: len(sentence.words), row] = [known.numbers[word] for word in sentence.words]
        words, steps, within = torch.from_numpy(numbers), int(lengths.max()), before(lengths)
        inputs = F.one_hot(words[:steps], len(known.words)) * within[..., None]
        if self.objective == "language":
            return Batch(inputs.float(), words[1 : steps + 1] * within, within, lengths)
        last = at(lengths - 1, lengths)
        subjects = torch.tensor([sentence.nouns[0] for sentence in sentences])
        return Batch(inputs.float(), subjects * last, last, lengths)

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        if self.objective == "number":
            return super().right(outputs, batch)
        others, rows = lexicon().others, torch.arange(len(batch.lengths))
        inflected = others[batch.targets] != batch.targets  # which targets are verbs; the main one is the last
        verb = (inflected * torch.arange(len(inflected))[:, None]).amax(0)
        said, wanted = outputs[verb, rows], batch.targets[verb, rows]
        return said[rows, wanted] > said[rows, others[wanted]]


def nearest(sentences: Sequence[Sentence]) -> float:
    """The part of the sentences in which the nearest noun before the verb has not the subject's number."""
    return sum(sentence.nouns[-1] != sentence.nouns[0] for sentence in sentences) / len(sentences)


@dataclass(frozen=True)
class Lexicon:
    """The words of the sentences."""

    nouns: tuple[Forms, ...]
    verbs: tuple[Forms, ...]  # of the main clause
    sees: tuple[Forms, ...]  # of relative clauses

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        inflected = (form for forms in (*self.nouns, *self.verbs, *self.sees) for form in forms)
        return tuple(dict.fromkeys([THE, THAT, STOP, *PREPOSITIONS, *ADJECTIVES, *IS, *inflected]))

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @functools.cached_property
    def others(self) -> Tensor:
        """For each verb's form the number of its other form, for other words their own, [words]."""
        found = torch.arange(len(self.words))
        for singular, plural in (*self.verbs, *self.sees, IS):
            one, other = self.numbers[singular], self.numbers[plural]
            found[one], found[other] = other, one
        return found


def _sentence(known: Lexicon, random: np.random.Generator, attractors: int | None) -> Sentence:
    subject = int(random.integers(2))
    count = int(random.integers(MOST + 1)) if attractors is None else attractors
    numbers = random.integers(2, size=count).tolist() if attractors is None else [1 - subject] * count

    def one(of: Sequence[Any]) -> Any:
        return of[int(random.integers(len(of)))]

    before = [one(PREPOSITIONS), THE, one(known.nouns)[int(random.integers(2))]] if random.random() < 0.3 else []
    words = [*before, THE, one(known.nouns)[subject]]
    for number in numbers:
        noun = [THE, one(known.nouns)[number]]
        words += [one(PREPOSITIONS), *noun] if random.random() < 0.75 else [THAT, *noun, one(known.sees)[number]]
    end = [IS[subject], one(ADJECTIVES)] if random.random() < 0.5 else [one(known.verbs)[subject]]
    return Sentence([*words, *end, STOP], len(words), [subject, *numbers])


@functools.cache
def lexicon() -> Lexicon:
    """The words, always the same. Raises BadInput where lemminflect is missing or another."""
    spec = importlib.util.find_spec("lemminflect")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"the inflections are in the package lemminflect, which is not installed: {CURE}")
    return read(Path(spec.submodule_search_locations[0]) / "resources" / "infl_lu.csv.gz")


def read(path: Path) -> Lexicon:
    """The words out of lemminflect's table: lemma, part of speech, and the forms in which it is inflected."""
    try:
        data = path.read_bytes()
        table = list(csv.reader(io.StringIO(gzip.decompress(data).decode())))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}; install it anew, {CURE}") from error
    if hashlib.sha256(data).hexdigest() != CHECKSUM:
        raise BadInput(f"{path} is not the table of lemminflect 0.2.3 that is known: {CURE}")
    nouns = {row[0]: row[2].partition("/")[0] for row in table if row[1] == "noun"}
    verbs = {row[0]: row[5].partition("/")[0] for row in table if row[1] == "verb" and len(row) == 6}
    main, relative = (tuple(Forms(verbs[lemma], lemma) for lemma in lemmas) for lemmas in (VERBS, SEES))
    return Lexicon(tuple(Forms(lemma, nouns[lemma]) for lemma in NOUNS), main, relative)
