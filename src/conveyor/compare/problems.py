"""The registry of tasks by name, such as "adding:100"; the number after the colon is a length, a lag or a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conveyor.compare.outcomes import TaskInfo
from conveyor.errors import BadInput, suggest
from conveyor.tasks import (
    Adding,
    ContinualReber,
    CopyMemory,
    Counting,
    GeneratedSpikes,
    Lag,
    NoisyLag,
    Parity,
    Reber,
    Task,
    TemporalOrder,
    own,
)
from conveyor.tasks.agreement import Agreement
from conveyor.tasks.characters import Characters, NextWords
from conveyor.tasks.music import Music
from conveyor.tasks.pixels import Pixels
from conveyor.tasks.speakers import Speakers
from conveyor.tasks.task import PARTS
from conveyor.tasks.temporal_order import THREE
from conveyor.tasks.weather import DailyTemperature, HourlyTemperature

FILE = ".toml"  # of a user-defined task


@dataclass(frozen=True)
class Problem:
    """An entry of the registry."""

    make: Callable[..., Task]
    about: str
    number: int | None = None  # default of the number after the colon; None if the task takes none
    unit: str = ""  # of that number

    def made(self, number: int | None = None) -> Task:
        """The task with this number, or the default."""
        number = self.number if number is None else number
        return self.make() if number is None else self.make(number)


def spikes(distance: int) -> Task:
    """Spikes at a distance of `distance` steps, or one more."""
    return GeneratedSpikes(distance, (0, 1), 10)


PROBLEMS: dict[str, Problem] = {
    "adding": Problem(Adding, "the sum of two marked numbers of a sequence", 100, "steps at least"),
    "copy": Problem(CopyMemory, "ten symbols to be said again after a delay", 100, "steps of silence"),
    "recall": Problem(lambda count: CopyMemory(1, count), "so many symbols to be said again at once", 2, "symbols"),
    "order": Problem(TemporalOrder, "in which order two signs came, 40 to 100 steps before the end"),
    "order-three": Problem(lambda: TemporalOrder(THREE), "in which order three signs came"),
    "lag": Problem(Lag, "the last symbol is the first, so many steps before", 100, "steps"),
    "lag-noisy": Problem(NoisyLag, "which was the first symbol, so many random ones before?", 100, "steps"),
    "lag-open": Problem(
        lambda lag: NoisyLag(lag, open_end=True), "the same, asked at a step that chance decides", 100, "steps at least"
    ),
    "reber": Problem(Reber, "embedded Reber grammar: all symbols that may come next"),
    "reber-continual": Problem(
        ContinualReber, "a stream of so many such strings, with nothing between them", 10, "strings"
    ),
    "anbn": Problem(lambda most: Counting(2, 1, most), "a^n b^n: how many b are to come", 10, "for the largest n"),
    "anbncn": Problem(
        lambda most: Counting(3, 1, most), "a^n b^n c^n: how many b and c are to come", 10, "for the largest n"
    ),
    "parity": Problem(Parity, "is the number of ones odd?", 100, "bits"),
    "spikes": Problem(
        spikes, "spikes to be made at a distance of so many steps or one more", 10, "steps between spikes"
    ),
    "agreement": Problem(Agreement, "the number of every verb, over up to four nouns since its subject"),
    "agreement-language": Problem(
        lambda: Agreement("language"), "the same texts by a language model: which form of each verb is likelier?"
    ),
    "language": Problem(
        lambda length: Characters("pydoc", length), "Python's documentation, character by character", 64, "characters"
    ),
    "words": Problem(lambda length: NextWords("pydoc", length), "the same text, word by word", 32, "words"),
    "chorales": Problem(Music, "Bach's chorales: which of 88 keys sound in the next frame"),
    "speakers": Problem(Speakers, "which of nine men says two vowels? (JapaneseVowels)"),
    "temperature": Problem(
        HourlyTemperature, "Seattle's temperature of the next hour, from so many before", 48, "hours"
    ),
    "weather": Problem(
        DailyTemperature, "Seattle's highest temperature of the next day, from so many days before", 30, "days"
    ),
    "pixels": Problem(Pixels, "which digit is it, read point by point?"),
    "pixels-permuted": Problem(lambda: Pixels(permuted=True), "the same in an order drawn once"),
}


def find(name: str) -> Task:
    """The task with a name such as "adding" or "adding:200", or of a file such as "mine.toml".

    Raises BadInput for an unknown name or a wrong number, and if the task's data is missing.
    """
    if name.endswith(FILE):
        return own.read(Path(name))
    plain, colon, number = name.partition(":")
    if plain not in PROBLEMS:
        raise BadInput(
            f"no task is called {plain}; {suggest(plain, PROBLEMS)}; a task of your own is a file, mine.toml"
        )
    problem = PROBLEMS[plain]
    if colon and problem.number is None:
        raise BadInput(f"the task {plain} takes no number, as in {name}")
    if colon and not (number.isascii() and number.isdigit()):
        raise BadInput(f"after the colon of a task comes a whole number, as in {plain}:{problem.number}, not {name}")
    task = problem.made(int(number) if colon else None)
    task.held_out(PARTS[0], 1)  # raises BadInput if its data is missing
    return task


def shown(name: str) -> str:
    """The name of a task in a report: of a file its stem, "mine"."""
    return Path(name).stem if name.endswith(FILE) else name


def folder(name: str) -> str:
    """The name of the folder for the runs of a task."""
    return shown(name).replace(":", "-")


def about(name: str) -> TaskInfo:
    """What a report says of a task."""
    task = find(name)
    text = own.about(Path(name)) if name.endswith(FILE) else PROBLEMS[name.partition(":")[0]].about
    return TaskInfo(shown(name), task.metric, task.chance, task.optimum, text, task.rules())
