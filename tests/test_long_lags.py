"""The lag among distractors and the endless Reber grammar: what is asked, step by step."""

import pytest
import torch

from conveyor.errors import BadInput
from conveyor.tasks import reber
from conveyor.tasks.lag import NoisyLag
from conveyor.tasks.reber import ContinualReber

X, Y, BEGIN, END = (torch.arange(4) + 7).tolist()  # the symbols behind seven distractors


def symbols(batch):
    numbers = batch.inputs.argmax(-1)
    return [numbers[:length, row].tolist() for row, length in enumerate(batch.lengths.tolist())]


def draw(task, rows):
    return task.draw(rows, torch.Generator().manual_seed(0))


def test_the_first_symbol_comes_again_behind_distractors():
    batch = draw(NoisyLag(8), 300)
    drawn = symbols(batch)
    assert {len(one) for one in drawn} == {8}
    assert {one[0] for one in drawn} == {X, Y}
    assert {symbol for one in drawn for symbol in one[1:]} == set(range(7))
    assert len({tuple(one[1:]) for one in drawn}) > 290, "they are noise"
    assert batch.targets[-1].tolist() == [one[0] - X for one in drawn]
    assert batch.mask.sum(0).tolist() == [1] * 300


def test_an_open_end_comes_when_it_comes():
    batch = draw(NoisyLag(7, open_end=True), 2000)
    drawn = symbols(batch)
    assert batch.inputs.shape[-1] == 11
    for row, one in enumerate(drawn):
        assert (one[0], one[-1]) == (BEGIN, END)
        assert one[1] in (X, Y)
        assert set(one[2:-1]) <= set(range(7))
        assert batch.targets[len(one) - 1, row] == one[1] - X
    more = torch.tensor([len(one) - 10 for one in drawn]).float()
    assert more.min() == 0
    assert more.mean().item() == pytest.approx(9, abs=0.6)
    assert (more >= 10).float().mean().item() == pytest.approx(0.9**10, abs=0.04)


def perfect(batch):
    return batch.targets * 40 - 20


def test_a_stream_is_judged_along_its_whole_length():
    task = ContinualReber(5)
    batch = draw(task, 20)
    for row, numbers in enumerate(symbols(batch)):
        text = "".join(reber.SYMBOLS[n] for n in numbers)
        ends = [i for i in range(2, len(text)) if text[i] == "E" and text[i - 2] == "E"]  # the last of ... E T E
        strings = [text[a:b] for a, b in zip([0, *[end + 1 for end in ends]], [end + 1 for end in ends], strict=False)]
        assert len(strings) == 5
        expected = [set(after) for one in strings for after in [*reber.successors(one)[:-1], "B"]]
        for step, after in enumerate(expected[:-1]):
            assert {reber.SYMBOLS[n] for n in batch.targets[step, row].nonzero()[:, 0].tolist()} == after
        assert batch.mask[:, row].sum() == len(text) - 1


def test_a_wrong_step_makes_its_string_wrong_and_no_other():
    task = ContinualReber(5)
    batch = task.batch([["BTBTXSETE"] * 5, ["BPBTXSEPE"] * 5])
    outputs = perfect(batch)
    assert task.measure(outputs, batch) == 0
    for steps, wrong in [((3,), 1), ((3, 5), 1), ((8,), 1), ((8, 9), 2), ((0, 17, 20, 43), 4), ((44,), 0)]:
        other = outputs.clone()
        other[list(steps), 1] *= -1
        assert task.measure(other, batch) == pytest.approx(wrong / 10)
        assert task.correct(other, batch).tolist() == [True, wrong == 0]


def test_who_guesses_the_outer_symbol_is_at_chance():
    task = ContinualReber(40)
    batch = draw(task, 30)
    outputs = perfect(batch)
    outer = torch.zeros_like(batch.mask)
    for row, numbers in enumerate(symbols(batch)):
        text = "".join(reber.SYMBOLS[n] for n in numbers)
        outer[[i - 1 for i in range(1, len(text) - 1) if text[i - 1] == text[i + 1] == "E" and i > 1], row] = True
    assert outer.sum() == 30 * 40
    always_t = torch.where(outer[..., None], torch.tensor([symbol == "T" for symbol in reber.SYMBOLS]) * 40.0, outputs)
    assert task.measure(always_t, batch) == pytest.approx(task.chance, abs=0.05)


def test_sizes_that_cannot_be():
    with pytest.raises(BadInput, match="the lag must be a whole number, 2 or more, not 1"):
        NoisyLag(1)
    with pytest.raises(BadInput, match="the strings of a stream must be a whole number, 1 or more, not 0"):
        ContinualReber(0)
    with pytest.raises(BadInput, match="is not of the embedded Reber grammar"):
        ContinualReber(2).batch([["BTBTXSETE", "BTBTXSEPE"]])
