"""JapaneseVowels: files of its form are read and normalised, and what is wrong with one is told."""

import importlib.util

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from conveyor.errors import BadInput
from conveyor.tasks import vowels


def write_vowels(folder, train=18, test=4):
    """Files of the form of aeon's, with random numbers; and the series that they hold, [T, 12] each."""
    chance, series = np.random.default_rng(0), {}
    for part, count in (("TRAIN", train), ("TEST", test)):
        series[part] = [chance.normal(2, 3, (chance.integers(7, 30), 12)).round(4) for _ in range(count)]
        lines = [
            ":".join([",".join(map(str, c)) for c in frames.T] + [str(i % 9 + 1)])
            for i, frames in enumerate(series[part])
        ]
        head = "#comment\n@problemName JapaneseVowels\n@classLabel true 1 2 3\n@data\n"
        (folder / f"JapaneseVowels_{part}.ts").write_text(head + "\n".join(lines) + "\n")
    return series


def test_the_utterances_are_those_of_the_files(tmp_path):
    series, found = write_vowels(tmp_path), vowels.read(tmp_path)
    assert [len(part) for part in (found.train, found.valid, found.test)] == [16, 2, 4]
    learnt = [frames for i, frames in enumerate(series["TRAIN"]) if i not in (8, 17)]
    mean, deviation = np.concatenate(learnt).mean(0), np.concatenate(learnt).std(0)
    for part, expected in ((found.train, learnt), (found.valid, series["TRAIN"][8::9]), (found.test, series["TEST"])):
        for utterance, frames in zip(part, expected, strict=True):
            assert torch.allclose(utterance.frames, torch.tensor((frames - mean) / deviation).float())
    assert [utterance.speaker for utterance in found.test] == ["1", "2", "3", "4"]


def test_simple_models_are_fitted():
    """Against predictions of every frame, made one by one, with the lines fitted by NumPy."""
    train, test = ([torch.randn(n, 12).double().cumsum(0) for n in lengths] for lengths in ((9, 5), (4, 2)))
    frames = torch.cat(train)
    alone = [Normal(frames[:, k].mean(), frames[:, k].std(correction=0)) for k in range(12)]
    expected = expected_lines = 0
    for values in test:
        for t, frame in enumerate(values):
            for k in range(12):
                itself = -alone[k].log_prob(frame[k])
                before, after = (np.concatenate([v[cut, k] for v in train]) for cut in (slice(-1), slice(1, None)))
                slope, start = np.polyfit(before, after, 1)
                spread = (after - slope * before - start).std()
                line = Normal(start + slope * values[t - 1, k], spread)
                expected += itself
                expected_lines += -line.log_prob(frame[k]) if t else itself
    assert vowels.independent(train, test) == pytest.approx(expected.item() / 6, rel=1e-9)
    assert vowels.autoregressive(train, test) == pytest.approx(expected_lines.item() / 6, rel=1e-9)


def test_what_is_wrong_is_told(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="it has no line @data"):
        vowels.parse("1,2:3,4:1\n", "a.ts")
    with pytest.raises(BadInput, match=r"a\.ts, series 2: its dimensions are not numbers, or differ in length"):
        vowels.parse("@data\n" + ":".join(["1,2"] * 12) + ":1\n1,2:3:1\n", "a.ts")
    with pytest.raises(BadInput, match="series 1: 2 dimensions, not 12"):
        vowels.parse("@data\n1,2:3,4:1\n", "a.ts")
    with pytest.raises(BadInput, match=r"cannot read .*JapaneseVowels_TRAIN\.ts: No such file"):
        vowels.read(tmp_path)
    write_vowels(tmp_path)
    monkeypatch.setattr(vowels, "_folder", lambda: tmp_path)
    with pytest.raises(BadInput, match="is not the expected file of 270 utterances"):
        vowels.read()


def corrupt(folder, part, change):
    path = folder / f"JapaneseVowels_{part}.ts"
    path.write_bytes(change(path.read_bytes()))


def coefficient(value):
    """The first coefficient of every series is this in every frame."""

    def change(data):
        head, _, lines = data.decode().partition("@data\n")
        series = [line.split(":") for line in lines.splitlines()]
        same = [":".join([",".join([value] * len(first.split(","))), *rest]) for first, *rest in series]
        return f"{head}@data\n{chr(10).join(same)}\n".encode()

    return change


def first(count):
    """Only so many series."""
    return lambda data: (
        b"\n".join(data.split(b"@data\n")[0:1])
        + b"@data\n"
        + b"\n".join(data.split(b"@data\n")[1].split(b"\n")[:count])
    )


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("TRAIN", lambda _: b"\xff\xfe@data\n", r"TRAIN\.ts is not a \.ts file: byte 0 is not UTF-8"),
        ("TRAIN", first(0), r"TRAIN\.ts has 0 series, but at least 9 are needed"),
        ("TRAIN", first(5), r"TRAIN\.ts has 5 series, but at least 9 are needed"),
        ("TEST", first(0), r"TEST\.ts has 0 series, but at least 1 are needed"),
        ("TRAIN", coefficient("nan"), "series 1: a number is not finite"),
        ("TEST", coefficient("1e999"), "series 1: a number is not finite"),
        ("TRAIN", coefficient("0.1"), "coefficient 1 is the same in every frame"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_told(part, change, words, tmp_path):
    write_vowels(tmp_path)
    corrupt(tmp_path, part, change)
    with pytest.raises(BadInput, match=words):
        vowels.read(tmp_path)


def test_line_ends_of_another_system_are_read(tmp_path):
    write_vowels(tmp_path)
    found = vowels.read(tmp_path)
    for part in ("TRAIN", "TEST"):
        corrupt(tmp_path, part, lambda data: data.replace(b"\n", b"\r\n"))
    for one, other in zip(found.train, vowels.read(tmp_path).train, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert one.speaker == other.speaker


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[speech\]'"):
        vowels.read()
