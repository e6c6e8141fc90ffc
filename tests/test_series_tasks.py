"""Weather and speakers as tasks: the windows and utterances, their parts, the figures of who repeats what was."""

import importlib.util
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from conveyor.compare import problems
from conveyor.errors import BadInput
from conveyor.tasks import speakers, vowels, weather
from conveyor.tasks.speakers import Speakers
from conveyor.tasks.weather import DAYS, HOURS, DailyTemperature, HourlyTemperature
from test_speech import write_vowels

each_kind = pytest.mark.parametrize("kind", [HourlyTemperature, DailyTemperature])


@each_kind
def test_a_window_is_followed_by_its_target_and_parts_share_no_step(kind):
    task, table, count = kind(20), kind.table, {HOURS: 8_759, DAYS: 1_461}[kind.table]
    inputs, target = weather.read(table)
    assert inputs.shape == (count, task.input_size)
    assert target.shape == (count,)
    learnt = target[: table.cuts[0]]
    mean, deviation = learnt.mean(), learnt.std(correction=0)
    column = table.inputs.index(table.target)
    for name, (begin, end) in zip(("learn", "validation", "test"), pairwise((0, *table.cuts, count)), strict=True):
        part = task.parts[name]
        assert len(part.lengths) == end - begin - 20
        assert torch.allclose(part.inputs[:, 0, column] * deviation + mean, target[begin : begin + 20], atol=1e-3)
        assert torch.allclose(part.targets[-1, :, 0] * deviation + mean, target[begin + 20 : end], atol=1e-3)
        assert torch.equal(part.inputs[1:, 0], part.inputs[:-1, 1]), "each begins a step after the one before"
    assert task.parts["learn"].inputs[0].mean().abs() < 0.1


@each_kind
def test_who_repeats_what_was(kind):
    """As outputs of a network, which the task judges."""
    task, table = kind(30), kind.table
    test, target = task.parts["test"], weather.read(table)[1]
    column = table.inputs.index(table.target)
    assert task.measure(test.inputs[..., column, None], test) == pytest.approx(task.chance, rel=1e-3)
    a_day_before = test.inputs[-24, :, column].expand(30, -1)[..., None]
    assert task.measure(a_day_before, test) == pytest.approx(task.repeating(24), rel=1e-3)
    assert task.repeating(1) == task.chance < target.std()


def test_the_figures_in_the_docstrings():
    hours, days = HourlyTemperature(), DailyTemperature()
    assert [round(value, 2) for value in (hours.chance, hours.repeating(24), days.chance)] == [0.57, 0.21, 2.93]


def test_what_is_wrong_with_the_weather_is_told(monkeypatch):
    for wrong, said in [(0, "must be a whole number, 1 or more, not 0"), (365, "can have 364 steps at most, not 365")]:
        with pytest.raises(BadInput, match=said):
            DailyTemperature(wrong)
    with pytest.raises(BadInput, match=r"seattle-temps.csv differs from the file of vega_datasets 0.9.0"):
        weather.read(replace(HOURS, checksum="0"))
    with pytest.raises(BadInput, match=r"cannot read .*nothing.csv: No such file or directory; pip install"):
        weather.read(replace(HOURS, file="nothing.csv"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"vega_datasets, which is not installed: pip install 'conveyor\[series\]'"):
        weather.read(replace(HOURS, target="another"))  # which is not remembered


def test_speakers_are_told_at_the_end_of_their_utterances(tmp_path):
    write_vowels(tmp_path)
    read, task = vowels.read(tmp_path), Speakers(tmp_path)
    for name, part in (("learn", read.train), ("validation", read.valid), ("test", read.test)):
        batch = task.parts[name]
        assert batch.mask.sum(0).tolist() == [1] * len(part)
        for row, utterance in enumerate(part):
            length = len(utterance.frames)
            assert torch.equal(batch.inputs[:length, row], utterance.frames)
            assert batch.targets[length - 1, row] == int(utterance.speaker) - 1
            assert batch.mask[length - 1, row]
    held_out = task.held_out("test", 2)
    assert torch.equal(held_out.inputs[:7, 1], task.parts["test"].inputs[:7, 2]), "spread over all four"


def test_another_speaker_and_a_missing_package_are_told(tmp_path, monkeypatch):
    write_vowels(tmp_path)
    path = tmp_path / "JapaneseVowels_TEST.ts"
    path.write_text(path.read_text().replace(":1\n", ":ten\n"))
    with pytest.raises(BadInput, match="speakers of JapaneseVowels must be 1 to 9, not 'ten'"):
        Speakers(tmp_path).held_out("test", 1)
    speakers.parts.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[speech\]'"):
        problems.find("speakers")
