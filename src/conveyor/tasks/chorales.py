"""Bach's four-part chorales as piano rolls from music21's corpus: 88 keys, a frame for each quarter note.

All scores with four parts are read. Each is transposed so that its (first) key signature has no sharps or flats, which
means C major or A minor except for signatures of the church modes. A frame holds the notes that sound at the start of
its quarter note. Silent frames at the end are dropped. Of near-duplicates, which share more than half of their
two-frame passages, the first by name is kept. The split is fixed by a hash of the names.

The format is that of the literature's "JSB Chorales" (quarter notes, 88 keys), but neither the scores nor the split are
the same. Figures on the two data sets must not be compared without saying so.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput

KEYS = 88
LOWEST = 21  # the MIDI number of the first key
TICKS = 10_080  # per quarter note; a multiple of the divisions of every file
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
CHECKED = {"scores": 364, "chorales": 349, "frames": 19_052, "notes": 73_810}  # in music21 10.5.1
DIGEST = "ad6337cb6bde07787509eb7572d7f7346afb0d2a4a1cd41cd4c251f47547b327"  # of the chorales and the split
PARTS = (0.76, 0.12, 0.12)


@dataclass(frozen=True)
class Chorale:
    """A chorale as a piano roll."""

    name: str  # such as "BWV 227.1"
    roll: Tensor  # [T, 88], 1 where a note sounds


@dataclass(frozen=True)
class Chorales:
    """All chorales, in three parts."""

    train: tuple[Chorale, ...]
    valid: tuple[Chorale, ...]
    test: tuple[Chorale, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of all frames and of the split, in hexadecimal."""
        found = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            for chorale in part:
                found.update(f"{chorale.name} {len(chorale.roll)} ".encode() + _bits(chorale.roll))
        return found.hexdigest()


@cache
def read() -> Chorales:
    """The chorales; takes a second. Raises BadInput if music21 is missing or its corpus differs."""
    paths = sorted(_folder().glob("*.mxl"))
    with _no_collection():
        scores = [chorale for path in paths if (chorale := _chorale(path)) is not None]
    kept = _distinct(scores)
    rolls = [chorale.roll for chorale in kept]
    found = (len(scores), len(kept), sum(map(len, rolls)), int(sum(roll.sum() for roll in rolls)))
    if found != tuple(CHECKED.values()):
        counts = ", ".join(f"{count} {name}" for name, count in zip(CHECKED, found, strict=True))
        wanted = ", ".join(f"{count} {name}" for name, count in CHECKED.items())
        raise BadInput(f"music21's corpus has {counts}, not {wanted}: pip install 'music21==10.5.1'")
    split = _split(kept)
    if split.digest != DIGEST:
        raise BadInput(
            "music21's corpus has the expected number of notes, but different ones: pip install 'music21==10.5.1'"
        )
    return split


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disables the garbage collector, which would take three quarters of the time and free nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _folder() -> Path:
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise BadInput("the chorales come from the package music21: pip install 'conveyor[music]'")
    return Path(spec.origin).parent / "corpus" / "bach"


def _split(chorales: Sequence[Chorale]) -> Chorales:
    shuffled = sorted(chorales, key=lambda chorale: hashlib.sha256(chorale.name.encode()).digest())
    valid, test = (round(len(chorales) * part) for part in PARTS[1:])
    train = len(chorales) - valid - test
    return Chorales(tuple(shuffled[:train]), tuple(shuffled[train : train + valid]), tuple(shuffled[train + valid :]))


def _bits(roll: Tensor) -> bytes:
    return roll.numpy().astype(np.uint8).tobytes()


def _distinct(chorales: Sequence[Chorale]) -> list[Chorale]:
    """Drops chorales that share more than half of their passages with an earlier one, such as other editions."""
    kept: list[tuple[Chorale, set[bytes]]] = []
    for chorale in chorales:
        frames = [_bits(frame) for frame in chorale.roll]
        passages = {a + b for a, b in pairwise(frames)}
        if all(2 * len(passages & other) <= min(len(passages), len(other)) for _, other in kept):
            kept.append((chorale, passages))
    return [chorale for chorale, _ in kept]


def _chorale(path: Path) -> Chorale | None:
    """The chorale in a compressed MusicXML file, if it has four parts. Raises BadInput if it is damaged."""
    try:
        return _four_parts(path)
    except Exception as error:  # a damaged file can fail in any way
        cure = "pip install --force-reinstall 'music21==10.5.1'"
        raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}): {cure}") from error


def _four_parts(path: Path) -> Chorale | None:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name != "mimetype" and not name.startswith("META-INF"))
        score = ElementTree.fromstring(archive.read(name))
    parts = score.findall("part")
    if len(parts) != 4:
        return None
    up = -7 * int(score.findtext(".//fifths", "0")) % 12
    up = up - 12 if up > 6 else up
    notes = [note for part in parts for note in _notes(part)]
    roll = np.zeros((_frame(max(end for _, _, end in notes)), KEYS), np.float32)
    for pitch, start, end in notes:
        roll[_frame(start) : _frame(end), pitch + up - LOWEST] = 1
    return Chorale(path.stem.replace("bwv", "BWV "), torch.from_numpy(roll[: 1 + np.flatnonzero(roll.any(1))[-1]]))


def _frame(at: int) -> int:
    """The index of the first frame at or after this time."""
    return -(-at // TICKS)


def _notes(part: ElementTree.Element) -> Iterator[tuple[int, int, int]]:
    """The notes of a part: MIDI number, start and end, in ticks."""
    start, divisions = 0, 1
    for measure in part.iterfind("measure"):
        at = last = end = start
        for item in measure:
            divisions = int(item.findtext("divisions") or divisions)
            duration = int(item.findtext("duration") or 0) * TICKS // divisions  # a grace note has none
            if item.tag in ("forward", "backup"):
                at += duration if item.tag == "forward" else -duration
            elif item.tag == "note":
                if item.find("chord") is None:  # otherwise it starts with the previous note
                    last, at = at, at + duration
                pitch = item.find("pitch")
                if pitch is not None:
                    yield _number(pitch), last, last + duration
            end = max(end, at)
        start = end


def _number(pitch: ElementTree.Element) -> int:
    step, octave = pitch.findtext("step", ""), int(pitch.findtext("octave", ""))
    return 12 * (octave + 1) + STEPS[step] + int(pitch.findtext("alter") or 0)


def unigram(train: Sequence[Tensor], test: Sequence[Tensor]) -> float:
    """Nats per frame of a baseline: each key independently, by its frequency in `train` with add-one smoothing."""
    frames = torch.cat(list(train))
    chance = (frames.sum(0) + 1) / (len(frames) + 2)
    return float(_nll(torch.cat(list(test)), chance).mean())


def markov(train: Sequence[Tensor], test: Sequence[Tensor]) -> float:
    """Nats per frame of a baseline: each key given its own last frame, with add-one smoothing.

    The first frame of each roll is predicted by `unigram`. All rolls are [T, 88].
    """
    before, after = (torch.cat([roll[cut] for roll in train]) for cut in (slice(-1), slice(1, None)))
    on = (before * after).sum(0).add(1) / before.sum(0).add(2)
    off = ((1 - before) * after).sum(0).add(1) / (1 - before).sum(0).add(2)
    rest = sum(float(_nll(roll[1:], torch.where(roll[:-1] > 0, on, off)).sum()) for roll in test)
    first = unigram(train, [roll[:1] for roll in test]) * len(test)
    return (first + rest) / sum(map(len, test))


def _nll(frames: Tensor, chance: Tensor) -> Tensor:
    """-ln p of each frame, summed over the keys."""
    return -torch.where(frames > 0, chance, 1 - chance).log().sum(-1)
