"""Subject-verb agreement across intervening nouns: "the keys to the cabinet ... are"."""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import importlib.util
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, ClassificationTask, Data, before, check

CHECKSUM = "8c44bd5bec62488bef043f98b0cab022a431d6cb03954864ea70334530908ba7"  # of the file in lemminflect 0.2.3
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
MOST = 4  # the maximum number of nouns between subject and verb


class Forms(NamedTuple):
    """The two forms of a noun or verb."""

    singular: str
    plural: str


class Plural(NamedTuple):
    """Maps each noun and each verb form to 0 if it is singular, 1 if it is plural."""

    nouns: dict[str, int]
    verbs: dict[str, int]


class Verb(NamedTuple):
    """A verb in a text: its word index, its grammatical number, and those of the nouns between its subject and it."""

    place: int
    number: int
    between: tuple[int, ...]

    @property
    def attractors(self) -> int:
        """The number of nouns between subject and verb that have the other grammatical number."""
        return sum(number != self.number for number in self.between)


@dataclass(frozen=True)
class Agreement(ClassificationTask):
    """Subject-verb agreement in synthetic English sentences (after Linzen, Dupoux & Goldberg 2016).

        the keys to the cabinet that the boy near the doors sees are old . the child swims .

    A text has `sentences` sentences. Up to four nouns stand between a subject and its verb. Each follows a preposition,
    or is the subject of a relative clause with its own verb, and can have such modifiers itself. Singular and plural
    are drawn at random.

    With `objective` "number", the model predicts the grammatical number of each verb just before it. With "language",
    it predicts every next word, and a verb is correct if its form has a larger output than the verb's other form. Verbs
    of relative clauses count like main verbs. `details` gives the error rate by the number of attractors, which are
    nouns between subject and verb with the other grammatical number.

    The forms of nouns and verbs come from the package lemminflect. `nearest` is the error rate of the rule that a verb
    agrees with the nearest noun. Departures from the paper: its sentences come from Wikipedia, and only the main verb
    is predicted.

    Raises BadInput if lemminflect is missing.
    """

    objective: str = "number"
    sentences: int = 3
    metric: ClassVar[str] = "verb error rate"
    data: ClassVar[Data] = Data("lemminflect 0.2.3: resources/infl_lu.csv.gz", "MIT", CHECKSUM)
    chance: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        if self.objective not in ("number", "language"):
            raise BadInput(f"the objective must be number or language, not {self.objective}")
        check("the number of sentences", self.sentences, 1)

    @property
    def input_size(self) -> int:
        return len(lexicon().words)

    @property
    def output_size(self) -> int:
        return 2 if self.objective == "number" else len(lexicon().words)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch(self.texts(rows, generator))

    def texts(self, rows: int, generator: torch.Generator) -> list[list[str]]:
        """Draws `rows` texts, each a list of words."""
        random = Random(int(torch.randint(2**62, (), generator=generator)))
        return [[word for _ in range(self.sentences) for word in sentence(random)] for _ in range(rows)]

    def batch(self, texts: Sequence[Sequence[str]]) -> Batch:
        """These texts as one batch."""
        known = lexicon()
        lengths = torch.tensor([len(words) - 1 for words in texts])
        numbers = np.zeros((int(lengths.max()) + 1, len(texts)), np.int64)
        asked, verbs = np.zeros((2, *numbers.shape), np.int64)
        for row, text in enumerate(texts):
            numbers[: len(text), row] = [known.numbers[word] for word in text]
            for verb in verbs_of(text):
                asked[verb.place - 1, row], verbs[verb.place - 1, row] = verb.number, 1
        words, within = torch.from_numpy(numbers), before(lengths)
        inputs = (F.one_hot(words[:-1], len(known.words)) * within[..., None]).float()
        if self.objective == "language":
            return Batch(inputs, words[1:] * within, within, lengths)
        return Batch(inputs, torch.from_numpy(asked[:-1]), torch.from_numpy(verbs[:-1]).bool(), lengths)

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.wrong(outputs, batch)[self.verbs(batch)].float().mean())

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        return ~(self.wrong(outputs, batch) & self.verbs(batch)).any(0)

    def details(self, outputs: Tensor, batch: Batch) -> dict[str, float]:
        """The error rate at verbs, by their number of attractors."""
        wrong, attractors = self.wrong(outputs, batch), self.attractors(batch)
        counts = attractors[self.verbs(batch)].unique().tolist()
        return {f"{n} attractors": float(wrong[attractors == n].float().mean()) for n in counts}

    def verbs(self, batch: Batch) -> Tensor:
        """The mask of the steps at which the next word is a verb, [T, B]."""
        return batch.mask if self.objective == "number" else lexicon().others[batch.targets] != batch.targets

    def wrong(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Whether the verb's other number, or form, has an output at least as large, [T, B]; valid at verbs only."""
        others = 1 - batch.targets if self.objective == "number" else lexicon().others[batch.targets]
        wanted, other = (outputs.gather(-1, one[..., None])[..., 0] for one in (batch.targets, others))
        return ~(wanted > other)  # so that NaN counts as wrong

    def rules(self) -> dict[str, float]:
        return {"agree with the nearest noun": nearest(self.words(self.held_out("test", 1_000)))}

    def attractors(self, batch: Batch) -> Tensor:
        """The number of attractors of the verb predicted at each step, [T, B]; -1 where the next word is no verb."""
        found = torch.full(batch.mask.shape, -1)
        for row, words in enumerate(self.words(batch)):
            for verb in verbs_of(words):
                found[verb.place - 1, row] = verb.attractors
        return found

    def words(self, batch: Batch) -> list[list[str]]:
        """The texts of a batch, as words."""
        known, numbers = lexicon().words, batch.inputs.argmax(-1).T.tolist()
        return [[*(known[i] for i in row[:n]), STOP] for row, n in zip(numbers, batch.lengths.tolist(), strict=True)]


def verbs_of(words: Sequence[str]) -> list[Verb]:
    """The verbs of a text made of these sentences, in order."""
    plural, found = lexicon().plural, []
    subjects: list[tuple[int, list[int]]] = []  # without a verb so far; with the nouns since
    for place, word in enumerate(words):
        if word in plural.nouns:
            number = plural.nouns[word]
            for _, between in subjects:
                between.append(number)
            if not subjects or words[place - 2] == THAT:
                subjects.append((number, []))
        elif word in plural.verbs:
            number, nouns = subjects.pop()
            found.append(Verb(place, number, tuple(nouns)))
    return found


def nearest(texts: Iterable[Sequence[str]]) -> float:
    """The fraction of the verbs whose nearest preceding noun differs in number from their subject."""
    verbs = [verb for words in texts for verb in verbs_of(words)]
    return sum(verb.between[-1:] not in ((), (verb.number,)) for verb in verbs) / len(verbs)


@dataclass(frozen=True)
class Lexicon:
    """The words of the sentences."""

    nouns: tuple[Forms, ...]
    verbs: tuple[Forms, ...]  # of the main clause
    sees: tuple[Forms, ...]  # of relative clauses

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary, in the order of the indices."""
        inflected = (form for forms in (*self.nouns, *self.verbs, *self.sees) for form in forms)
        return tuple(dict.fromkeys([THE, THAT, STOP, *PREPOSITIONS, *ADJECTIVES, *IS, *inflected]))

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The index of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @functools.cached_property
    def plural(self) -> Plural:
        """The grammatical number of each noun and verb form."""
        verbs = (*self.verbs, *self.sees, Forms(*IS))
        return Plural(*({form: n for forms in of for n, form in enumerate(forms)} for of in (self.nouns, verbs)))

    @functools.cached_property
    def others(self) -> Tensor:
        """The index of the other form of each verb form, [words]; other words have their own index."""
        found = torch.arange(len(self.words))
        for singular, plural in (*self.verbs, *self.sees, IS):
            one, other = self.numbers[singular], self.numbers[plural]
            found[one], found[other] = other, one
        return found


def sentence(random: Random) -> list[str]:
    """The words of a random sentence."""
    known, number = lexicon(), random.randrange(2)
    words = _phrase(random, number, random.randrange(MOST + 1))
    end = [IS[number], random.choice(ADJECTIVES)] if random.random() < 0.5 else [random.choice(known.verbs)[number]]
    return [*words, *end, STOP]


def _phrase(random: Random, number: int, nouns: int) -> list[str]:
    """A noun of this grammatical number with modifiers that contain `nouns` nouns."""
    known = lexicon()
    words = [THE, random.choice(known.nouns)[number]]
    while nouns:
        within = random.randrange(nouns)  # the nouns that modify the next one
        other = random.randrange(2)
        phrase, nouns = _phrase(random, other, within), nouns - 1 - within
        if random.random() < 0.5:
            words += [random.choice(PREPOSITIONS), *phrase]
        else:
            words += [THAT, *phrase, random.choice(known.sees)[other]]
    return words


@functools.cache
def lexicon() -> Lexicon:
    """The words, always the same. Raises BadInput if lemminflect is missing or another version."""
    spec = importlib.util.find_spec("lemminflect")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"the inflections come from the package lemminflect, which is not installed: {CURE}")
    return read(Path(spec.submodule_search_locations[0]) / "resources" / "infl_lu.csv.gz")


def read(path: Path) -> Lexicon:
    """Reads the words from lemminflect's table of lemma, part of speech and inflected forms.

    Raises BadInput if the file cannot be read or is not the one of lemminflect 0.2.3.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error}; reinstall it: {CURE}") from error
    if hashlib.sha256(data).hexdigest() != CHECKSUM:
        raise BadInput(f"{path} differs from the table of lemminflect 0.2.3: {CURE}")
    table = list(csv.reader(io.StringIO(gzip.decompress(data).decode())))
    nouns = {row[0]: row[2].partition("/")[0] for row in table if row[1] == "noun"}
    verbs = {row[0]: row[5].partition("/")[0] for row in table if row[1] == "verb" and len(row) == 6}
    main, relative = (tuple(Forms(verbs[lemma], lemma) for lemma in lemmas) for lemmas in (VERBS, SEES))
    return Lexicon(tuple(Forms(lemma, nouns[lemma]) for lemma in NOUNS), main, relative)
