"""The registry of tasks by name, such as "adding:100". The number after the colon is a length, a lag or a count."""

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
    """Ten spikes, each `distance` or `distance` + 1 steps after the previous one."""
    return GeneratedSpikes(distance, (0, 1), 10)


PROBLEMS: dict[str, Problem] = {
    "adding": Problem(Adding, "add the two marked numbers of a sequence", 100, "steps at least"),
    "copy": Problem(CopyMemory, "repeat ten symbols after a delay", 100, "steps of delay"),
    "recall": Problem(lambda count: CopyMemory(1, count), "repeat a few symbols without delay", 2, "symbols"),
    "order": Problem(TemporalOrder, "the order of two symbols, 40 to 100 steps before the end"),
    "order-three": Problem(lambda: TemporalOrder(THREE), "the order of three symbols"),
    "lag": Problem(Lag, "repeat the first symbol after a fixed sequence", 100, "steps"),
    "lag-noisy": Problem(NoisyLag, "repeat the first symbol after random symbols", 100, "steps"),
    "lag-open": Problem(
        lambda lag: NoisyLag(lag, open_end=True), "the same, with random length", 100, "steps at least"
    ),
    "reber": Problem(Reber, "embedded Reber grammar: predict the possible next symbols"),
    "reber-continual": Problem(ContinualReber, "the same in a stream of strings without separators", 10, "strings"),
    "anbn": Problem(lambda most: Counting(2, 1, most), "a^n b^n: predict the possible symbols", 10, "as largest n"),
    "anbncn": Problem(
        lambda most: Counting(3, 1, most), "a^n b^n c^n: predict the possible symbols", 10, "as largest n"
    ),
    "parity": Problem(Parity, "whether the number of ones is odd", 100, "bits"),
    "spikes": Problem(
        spikes, "generate spikes at two given distances, the number and one more", 10, "steps between spikes"
    ),
    "agreement": Problem(Agreement, "subject-verb agreement: the number of each verb, across up to four nouns"),
    "agreement-language": Problem(
        lambda: Agreement("language"), "the same texts with a language model: the correct form of each verb"
    ),
    "language": Problem(
        lambda length: Characters("pydoc", length), "Python's documentation, character by character", 64, "characters"
    ),
    "words": Problem(lambda length: NextWords("pydoc", length), "the same text, word by word", 32, "words"),
    "chorales": Problem(Music, "Bach's chorales: which of 88 keys sound in the next frame"),
    "speakers": Problem(Speakers, "which of nine men speaks two vowels (JapaneseVowels)"),
    "temperature": Problem(
        HourlyTemperature, "Seattle's temperature of the next hour from the previous hours", 48, "hours"
    ),
    "weather": Problem(
        DailyTemperature, "Seattle's highest temperature of the next day from the previous days", 30, "days"
    ),
    "pixels": Problem(Pixels, "classify digits read pixel by pixel"),
    "pixels-permuted": Problem(lambda: Pixels(permuted=True), "the same in a fixed random order"),
}


def find(name: str) -> Task:
    """The task with a name such as "adding" or "adding:200", or from a file such as "mine.toml".

    Raises BadInput for an unknown name or a wrong number, and if the task's data is missing.
    """
    if name.endswith(FILE):
        return own.read(Path(name))
    plain, colon, number = name.partition(":")
    if plain not in PROBLEMS:
        raise BadInput(
            f"no task is called {plain}; {suggest(plain, PROBLEMS)}; give your own task as a file such as mine.toml"
        )
    problem = PROBLEMS[plain]
    if colon and problem.number is None:
        raise BadInput(f"the task {plain} takes no number: write {plain}, not {name}")
    if colon and not (number.isascii() and number.isdigit()):
        raise BadInput(f"a task's colon must be followed by a whole number: write {plain}:{problem.number}, not {name}")
    task = problem.made(int(number) if colon else None)
    task.held_out(PARTS[0], 1)  # raises BadInput if its data is missing
    return task


def shown(name: str) -> str:
    """The name of a task in a report; for a file, its stem, such as "mine"."""
    return Path(name).stem if name.endswith(FILE) else name


def folder(name: str) -> str:
    """The name of the folder for the runs of a task."""
    return shown(name).replace(":", "-")


def about(name: str) -> TaskInfo:
    """The information on a task that the report shows."""
    task = find(name)
    text = own.about(Path(name)) if name.endswith(FILE) else PROBLEMS[name.partition(":")[0]].about
    return TaskInfo(shown(name), task.metric, task.chance, task.optimum, text, task.rules())
