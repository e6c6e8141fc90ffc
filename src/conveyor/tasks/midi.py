"""Writes piano rolls as MIDI files, with the package mido."""

from __future__ import annotations

import io
from itertools import pairwise

import torch
from torch import Tensor

from conveyor.errors import BadInput

TICKS = 480  # per quarter note
LOWEST = 21  # the MIDI number of a piano's first key


def check() -> None:
    """Raises BadInput if mido is missing."""
    try:
        import mido  # noqa: F401
    except ImportError as error:
        raise BadInput("writing MIDI files needs mido: pip install 'conveyor[music]'") from error


def midi(roll: Tensor, tempo: float = 72.0, program: int = 19, frames: int = 1) -> bytes:
    """The MIDI file of a piano roll [T, 88] of 0 and 1, with `frames` frames per quarter note.

    A key that sounds in consecutive frames becomes one long note, since a piano roll cannot tell it from several.
    `tempo` is in quarter notes per minute; `program` is the instrument (General MIDI, from 0; 19 is a church organ).
    Raises ValueError for a roll of another shape, BadInput if mido is missing.
    """
    check()
    import mido

    if roll.dim() != 2 or roll.shape[1] != 88:
        raise ValueError(f"a piano roll must be [T, 88], not {list(roll.shape)}")
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
    track.append(mido.Message("program_change", program=program))
    now = 0
    for at, kind, note in _events(roll):
        track.append(mido.Message(kind, note=note, velocity=64, time=(at - now) * TICKS // frames))
        now = at
    track.append(mido.MetaMessage("end_of_track", time=(len(roll) - now) * TICKS // frames))
    data = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=data)
    return data.getvalue()


def _events(roll: Tensor) -> list[tuple[int, str, int]]:
    """The start and end of every note: frame, "note_on" or "note_off", MIDI number; in order, ends before starts."""
    silence = torch.zeros(1, roll.shape[1])
    frames = torch.cat([silence, (roll > 0).float(), silence])
    events = []
    for at, (before, after) in enumerate(pairwise(frames)):
        for kind, change in (("note_off", before - after), ("note_on", after - before)):
            events += [(at, kind, LOWEST + key) for key in (change > 0).nonzero()[:, 0].tolist()]
    return events
