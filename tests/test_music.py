"""The chorales as music21 itself reads them, the figures of simple models, and MIDI files that can be read back."""

import importlib.util
import io
import math
import struct
import zipfile
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from conveyor.errors import BadInput
from conveyor.tasks import chorales
from conveyor.tasks.midi import midi

pytestmark = pytest.mark.xdist_group("music")  # one process reads the chorales, which takes seconds


def by_music21(name):
    """The piano-roll of a score, by music21's own reader."""
    from music21 import converter

    path = chorales._folder() / f"{name}.mxl"
    score = converter.parse(path, forceSource=True, storePickle=False)
    up = -7 * score.recurse().getElementsByClass("KeySignature").first().sharps % 12
    up = up - 12 if up > 6 else up
    notes = [note for part in score.parts for note in part.flatten().notes]
    roll = np.zeros((math.ceil(max(note.offset + note.quarterLength for note in notes)), 88), np.float32)
    for note in notes:
        sounds = range(math.ceil(note.offset), math.ceil(note.offset + note.quarterLength))
        for pitch in note.pitches:
            roll[list(sounds), pitch.midi + up - 21] = 1
    return roll


@pytest.mark.parametrize("name", ["bwv66.6", "bwv227.1", "bwv248.28"])
def test_a_chorale_is_what_music21_reads(name):
    expected = by_music21(name)
    found = chorales._chorale(chorales._folder() / f"{name}.mxl").roll
    assert torch.equal(found, torch.from_numpy(expected[: len(found)]))
    assert not expected[len(found) :].any()


def test_the_split_holds_every_chorale_once_and_no_near_copies():
    found = chorales.read()
    parts = [found.train, found.valid, found.test]
    assert [len(part) for part in parts] == [265, 42, 42]
    together = [chorale for part in parts for chorale in part]
    assert len({chorale.name for chorale in together}) == len(together) == chorales.CHECKED["chorales"]
    passages = [{a + b for a, b in pairwise(row.byte().numpy().tobytes() for row in c.roll)} for c in together]
    assert all(2 * len(a & b) <= min(len(a), len(b)) for a, b in combinations(passages, 2))
    assert all(((c.roll == 0) | (c.roll == 1)).all() and c.roll[-1].any() for c in together)


def test_the_digest_tells_another_split_and_another_note():
    found = chorales.read()
    other = chorales.Chorale(found.train[0].name, 1 - found.train[0].roll)
    several = [found, chorales.Chorales(found.train[::-1], found.valid, found.test)]
    several += [chorales.Chorales((other, *found.train[1:]), found.valid, found.test)]
    assert len({one.digest for one in several}) == 3


def test_a_missing_package_and_another_corpus_are_told(monkeypatch, tmp_path):
    chorales.read.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[music\]'"):
        chorales.read()
    monkeypatch.setattr(chorales, "_folder", lambda: tmp_path)
    with pytest.raises(BadInput, match="has 0 scores, 0 chorales, 0 frames, 0 notes, not 364 scores"):
        chorales.read()


def zipped(text):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("score.xml" if text else "mimetype", text)
    return data.getvalue()


DAMAGED = {
    "empty": b"",
    "no zip": b"no zip",
    "no score": zipped(""),
    "cut short": zipped("<score"),
    "empty parts": zipped("<a>" + "<part/>" * 4 + "</a>"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_score_is_told(how, monkeypatch, tmp_path):
    chorales.read.cache_clear()
    (tmp_path / "bwv1.mxl").write_bytes(DAMAGED[how])
    monkeypatch.setattr(chorales, "_folder", lambda: tmp_path)
    with pytest.raises(BadInput, match=r"bwv1\.mxl is damaged .*: pip install --force-reinstall"):
        chorales.read()


def test_simple_models_are_counted():
    """Against predictions of every frame, made one by one."""
    train, test = (
        [torch.bernoulli(torch.full((n, 88), 0.3)).double() for n in lengths] for lengths in ((9, 5), (4, 2))
    )
    frames = torch.cat(train)
    once = (frames.sum(0) + 1) / (14 + 2)
    expected, expected_markov = [], []
    for roll in test:
        for t, frame in enumerate(roll):
            expected.append(binary_cross_entropy(once, frame, reduction="sum"))
            chance = once.clone()
            for key in range(88) if t else ():
                after = torch.stack([b[key] for r in train for a, b in pairwise(r) if a[key] == roll[t - 1, key]])
                chance[key] = (after.sum() + 1) / (len(after) + 2)
            expected_markov.append(binary_cross_entropy(chance, frame, reduction="sum"))
    assert chorales.unigram(train, test) == pytest.approx(sum(expected).item() / 6, rel=1e-12)
    assert chorales.markov(train, test) == pytest.approx(sum(expected_markov).item() / 6, rel=1e-12)


def number(data, at):
    """A MIDI file's number of 7 bits a byte, and where it ends."""
    value = 0
    while True:
        value = value << 7 | data[at] & 127
        at += 1
        if data[at - 1] < 128:
            return value, at


def read_midi(data):
    """By the standard: ticks of a quarter note, microseconds of one, notes as (begin, end, pitch), and the end."""
    assert data[:8] == b"MThd\0\0\0\6"
    form, tracks, ticks = struct.unpack(">HHH", data[8:14])
    assert (form, tracks, data[14:18]) == (0, 1, b"MTrk")
    assert struct.unpack(">I", data[18:22])[0] == len(data) - 22
    at, now, status, since, notes, tempo = 22, 0, 0, {}, [], None
    while at < len(data):
        wait, at = number(data, at)
        now += wait
        if data[at] >= 128:
            status, at = data[at], at + 1
        if status == 0xFF:
            kind, (size, start) = data[at], number(data, at + 1)
            tempo, at = int.from_bytes(data[start : start + size]) if kind == 0x51 else tempo, start + size
        elif status >> 4 == 0xC:
            at += 1
        elif status >> 4 == 9:
            since[data[at]], at = now, at + 2
        else:
            assert status >> 4 == 8
            notes.append((since.pop(data[at]), now, data[at]))
            at += 2
    assert not since
    return ticks, tempo, notes, now


def test_a_midi_file_is_the_piano_roll():
    roll = (torch.rand(40, 88) < 0.2).float()
    ticks, tempo, notes, end = read_midi(midi(roll, tempo=90.0, frames=2))
    found = torch.zeros_like(roll)
    for begin, stop, pitch in notes:
        found[begin * 2 // ticks : stop * 2 // ticks, pitch - 21] = 1
    assert torch.equal(found, roll)
    assert abs(tempo - 60e6 / 90) <= 1
    assert end == 40 * ticks // 2
    before = torch.cat([torch.zeros(1, 88), roll[:-1]])
    assert len(notes) == ((roll - before) > 0).sum()  # what sounds on is one note


def test_bad_piano_rolls_are_told(monkeypatch):
    with pytest.raises(ValueError, match=r"a piano roll must be \[T, 88\], not \[4, 87\]"):
        midi(torch.zeros(4, 87))
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[music\]'"):
        midi(torch.zeros(4, 88))
