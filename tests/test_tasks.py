"""The synthetic tasks: what every one of them promises, and the definition of each."""

import math
import re
from itertools import pairwise

import pytest
import torch

from conveyor.errors import BadInput
from conveyor.tasks import (
    Adding,
    Counting,
    GeneratedSpikes,
    HalvesAdding,
    Lag,
    MeasuredSpikes,
    Parity,
    Reber,
    TemporalOrder,
    Wave,
    characters,
    pixels,
    reber,
    temporal_order,
)
from conveyor.tasks.agreement import Agreement
from conveyor.tasks.characters import Characters, NextWords
from conveyor.tasks.copy_memory import CopyMemory
from conveyor.tasks.lag import NoisyLag
from conveyor.tasks.music import Music
from conveyor.tasks.pixels import Pixels
from conveyor.tasks.reber import ContinualReber
from conveyor.tasks.weather import DailyTemperature, HourlyTemperature

TASKS = {
    "agreement": Agreement(),
    "characters": Characters(length=12),
    "chorales": Music(),
    "copy memory": CopyMemory(5),
    "adding": Adding(40),
    "adding, halves": HalvesAdding(21),
    "counting": Counting(letters=2),
    "counting, three": Counting(),
    "lag": Lag(7),
    "lag among distractors": NoisyLag(7),
    "lag, open end": NoisyLag(7, open_end=True),
    "measured spikes": MeasuredSpikes(4, (0, 2, 3), 5),
    "generated spikes": GeneratedSpikes(3, (1,), 4),
    "parity": Parity(9),
    "pixels": Pixels(),
    "pixels, permuted": Pixels(permuted=True),
    "reber": Reber(),
    "reber, continual": ContinualReber(3),
    "temporal order": TemporalOrder(),
    "temporal order, three": TemporalOrder(temporal_order.THREE),
    "temperature, hourly": HourlyTemperature(5),
    "temperature, daily": DailyTemperature(5),
    "wave": Wave(64, 3),
    "words": NextWords(length=12),
}
NUMBERS = (Adding, DailyTemperature, HalvesAdding, HourlyTemperature, MeasuredSpikes, Wave)
CEILINGS = {  # of chance, where it is not a part or a small error
    "bits per character": 8,
    "bits per word": 10,
    "RMSE in degrees Celsius": 4,
    "RMSE in degrees Fahrenheit": 2,
    "nats per frame": 88,
}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def draw(task, rows, seed=0):
    return task.draw(rows, torch.Generator().manual_seed(seed))


def perfect(task, batch):
    """Outputs that are right: the numbers themselves, or 20 for what is and -20 for what is not."""
    if isinstance(task, NUMBERS):
        return batch.targets
    if batch.targets.dim() == 2:
        return torch.nn.functional.one_hot(batch.targets, task.output_size) * 40.0 - 20
    return batch.targets * 40 - 20


@each_task
def test_shapes_and_padding(task):
    batch = draw(task, 6)
    steps = int(batch.lengths.max())
    assert batch.inputs.shape == (steps, 6, task.input_size)
    assert batch.targets.shape in [(steps, 6), (steps, 6, task.output_size)]
    assert batch.mask.shape == (steps, 6)
    padding = torch.arange(steps)[:, None] >= batch.lengths
    assert not batch.inputs[padding].any()
    assert not batch.targets[padding].any()
    assert not batch.mask[padding].any()
    assert batch.mask.any(0).all(), "every row is judged somewhere"


@each_task
def test_equal_seeds_give_equal_sequences(task):
    first, again, other = draw(task, 20), draw(task, 20), draw(task, 20, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    if not isinstance(task, Wave | GeneratedSpikes):
        assert not torch.equal(first.inputs, other.inputs)
    if isinstance(task, Wave):
        assert not torch.equal(first.targets, other.targets)


@each_task
def test_what_is_right_and_what_is_not(task):
    batch = draw(task, 6)
    outputs = perfect(task, batch)
    assert task.correct(outputs, batch).all()
    assert task.loss(outputs, batch) < task.loss(torch.zeros_like(outputs), batch)
    for row in range(6):
        wrong = outputs.clone()
        step = int(batch.mask[:, row].nonzero()[-1])  # one step wrong makes the row wrong, and no other row
        wrong[step, row] = outputs[step, row] + 1 if isinstance(task, NUMBERS) else -outputs[step, row]
        assert task.correct(wrong, batch).tolist() == [other != row for other in range(6)]
        assert task.loss(wrong, batch) > task.loss(outputs, batch)


@each_task
def test_steps_that_are_not_judged_do_not_count(task):
    batch = draw(task, 6)
    outputs = perfect(task, batch)
    other = torch.where(batch.mask[..., None], outputs, torch.randn_like(outputs))
    assert torch.equal(task.loss(outputs, batch), task.loss(other, batch))
    assert task.correct(other, batch).all()


@each_task
def test_some_of_the_rows(task):
    batch = draw(task, 6)
    some = batch.rows(torch.tensor([4, 1, 1]))
    assert some.lengths.tolist() == batch.lengths[[4, 1, 1]].tolist()
    assert len(some.inputs) == some.lengths.max()
    outputs = torch.randn(*batch.inputs.shape[:2], task.output_size)
    chosen = outputs[: len(some.inputs), [4, 1, 1]]
    assert torch.equal(task.correct(chosen, some), task.correct(outputs, batch)[[4, 1, 1]])


@each_task
def test_what_is_measured_is_least_for_who_is_right(task):
    batch = draw(task, 6)
    best = task.measure(perfect(task, batch), batch)
    assert abs(best - task.optimum) < 1e-6 or math.isnan(task.optimum)
    assert best < task.chance <= CEILINGS.get(task.metric, 1)
    assert task.metric


def test_chance_of_the_tasks_with_numbers_is_that_of_their_mean():
    for task in (Adding(), HalvesAdding()):
        batch = draw(task, 100_000)
        mean = batch.targets[batch.mask].mean()
        assert task.measure(torch.full_like(batch.targets, mean), batch) == pytest.approx(task.chance, rel=0.02)


def test_copy_memory_by_hand():
    task = CopyMemory(5)
    batch = draw(task, 1000)
    kept, said = batch.inputs[:10].argmax(-1), batch.inputs.argmax(-1)
    assert (kept.min(), kept.max()) == (1, 8)
    assert (said[10:14] == 0).all()
    assert (said[14] == 9).all()
    assert (said[15:] == 0).all()
    assert (batch.targets[:-10] == 0).all()
    assert torch.equal(batch.targets[-10:], kept)
    outputs = torch.full((25, 1000, 9), -50.0)  # who remembers nothing knows when to speak, and no more
    outputs[:-10, :, 0] = outputs[-10:, :, 1:] = 0
    assert task.measure(outputs, batch) == pytest.approx(task.chance, rel=1e-4)


@each_task
def test_what_is_held_out_is_always_the_same_and_not_what_is_learnt_from(task):
    validation, again, test = (task.held_out(part, 30) for part in ("validation", "validation", "test"))
    assert torch.equal(validation.inputs, again.inputs)
    assert torch.equal(validation.targets, again.targets)
    if not isinstance(task, Wave | GeneratedSpikes | Lag):  # in which there are no two that differ, or but two
        assert not torch.equal(validation.inputs, test.inputs)
    with pytest.raises(BadInput, match="validation and test, not learn"):
        task.held_out("learn", 1)


def test_no_image_is_in_two_parts():
    parts = [part.inputs[..., 0].t().tolist() for part in pixels.parts(False).values()]
    images = [set(map(tuple, part)) for part in parts]
    assert len(set.union(*images)) == sum(map(len, images)) == 1797
    assert [len(part) for part in images] == [1439, 179, 179]


def test_permuted_pixels_are_the_same_points_in_one_other_order():
    plain, other = (Pixels(permuted).held_out("test", 50) for permuted in (False, True))
    assert torch.equal(plain.targets, other.targets)
    assert torch.equal(plain.inputs.sort(0).values, other.inputs.sort(0).values)
    columns = [plain.inputs[:, :, 0].tolist().index(row) for row in other.inputs[30:34, :, 0].tolist()]
    assert len(set(columns)) == 4


def test_characters_are_those_of_the_text():
    symbols, text = characters.parts("pydoc")
    batch = Characters(length=10).held_out("test", 3)
    said = "".join(symbols[n] for n in batch.inputs[:, 0].argmax(-1))
    assert "".join(symbols[n] for n in text["test"][:10]) == said
    assert torch.equal(batch.inputs[1:].argmax(-1), batch.targets[:-1])
    assert 4 < Characters().chance < 5.5
    with pytest.raises(BadInput, match="no file, folder or corpus is called nothing"):
        Characters("nothing").input_size  # noqa: B018 - it is read then


def test_words_are_those_of_the_text():
    """And only the part to learn from says which are known."""
    symbols, text = characters.parts("pydoc", "word")
    batch = NextWords(length=10).held_out("test", 3)
    assert torch.equal(batch.inputs[:, 0].argmax(-1), text["test"][:10])
    assert torch.equal(batch.inputs[1:].argmax(-1), batch.targets[:-1])
    counts = torch.bincount(text["learn"], minlength=len(symbols))[1:]  # without <unk>
    assert (counts[:-1] >= counts[1:]).all(), "by how frequent they are"
    assert len(symbols) == 1000


@each_task
@pytest.mark.parametrize("rows", [0, -1, 2.0, True])
def test_rows_that_are_no_number_of_rows(task, rows):
    with pytest.raises(BadInput, match="rows must be a whole number, 1 or more"):
        draw(task, rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adding(23), "steps of the adding problem must be a whole number, 24 or more, not 23"),
        (lambda: HalvesAdding(1), "2 or more, not 1"),
        (lambda: Counting(letters=1), "letters must be a whole number, 2 or more"),
        (lambda: Counting(least=0), "the least n"),
        (lambda: Counting(least=5, most=4), "the largest n must be a whole number, 5 or more, not 4"),
        (lambda: Counting().strings([3, 0]), "n must be a whole number, 1 or more, not 0"),
        (lambda: Lag(1), "the lag must be a whole number, 2 or more"),
        (lambda: Parity(0), "bits"),
        (lambda: CopyMemory(0), "the delay must be a whole number, 1 or more"),
        (lambda: Parity(7.5), "bits must be a whole number, 1 or more, not 7.5"),
        (lambda: MeasuredSpikes(0), "the distance of spikes"),
        (lambda: MeasuredSpikes(delays=()), "delays must be whole numbers"),
        (lambda: GeneratedSpikes(delays=(0, -1)), "a delay must be a whole number, 0 or more, not -1"),
        (lambda: GeneratedSpikes(spikes=0), "the number of spikes"),
        (lambda: Wave(31), "steps of the wave"),
        (lambda: Wave(partials=0), "partials"),
        (lambda: TemporalOrder(()), "the windows must be disjoint, ascending pairs of steps"),
        (lambda: TemporalOrder(((10, 20), (20, 30))), "disjoint, ascending pairs"),
        (lambda: TemporalOrder(((20, 10),)), "the windows must be disjoint, ascending pairs of steps"),
        (lambda: TemporalOrder(((0, 10),)), "between the first and the last step"),
        (lambda: TemporalOrder(shortest=60, longest=70), "(0 and 59)"),
        (lambda: TemporalOrder(shortest=110, longest=100), "the longest length must be a whole number, 110 or more"),
    ],
)
def test_sizes_that_cannot_be(make, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        make()


# The grammar as one automaton with the outer letter in its states, drawn apart from the package's.
EDGES = [
    ("start", "B", "outer"),
    *[("outer", letter, f"{letter}0") for letter in "TP"],
    *[
        (f"{letter}{a}", symbol, f"{letter}{b}")
        for letter in "TP"
        for a, symbol, b in [
            (0, "B", 1),
            (1, "T", 2),
            (1, "P", 3),
            (2, "S", 2),
            (2, "X", 4),
            (3, "T", 3),
            (3, "V", 5),
            (4, "X", 3),
            (4, "S", 6),
            (5, "P", 4),
            (5, "V", 6),
            (6, "E", 7),
        ]
    ],
    *[(f"{letter}7", letter, "last") for letter in "TP"],
    ("last", "E", "end"),
]


def walk(string):
    """After each symbol, the set of those that may come next; None if the string leaves the automaton."""
    state, found = "start", []
    for symbol in string:
        state = next((b for a, edge, b in EDGES if (a, edge) == (state, symbol)), None)
        if state is None:
            return None
        found.append({edge for a, edge, _ in EDGES if a == state})
    return found if state == "end" else None


def texts(batch, alphabet):
    return [
        "".join(alphabet[n] for n in batch.inputs[:length, row].argmax(-1).tolist())
        for row, length in enumerate(batch.lengths.tolist())
    ]


def test_reber_strings_and_what_may_come_next():
    batch = draw(Reber(), 300)
    strings = texts(batch, reber.SYMBOLS)
    assert min(map(len, strings)) == 9
    assert len(set(strings)) > 50
    assert 0.4 < sum(string[1] == "T" for string in strings) / 300 < 0.6
    for row, string in enumerate(strings):
        legal = walk(string)
        assert legal is not None, string
        assert [set(symbols) for symbols in reber.successors(string)] == legal
        for step, symbols in enumerate(legal[:-1]):
            assert {reber.SYMBOLS[n] for n in batch.targets[step, row].nonzero()[:, 0].tolist()} == symbols
        assert batch.mask[:, row].sum() == len(string) - 1


def test_reber_refuses_what_is_not_of_the_grammar():
    string = "BTBTSSXXTVVETE"
    assert walk(string) is not None
    edits = {string[:i] + symbol + string[i + 1 :] for i in range(len(string)) for symbol in reber.SYMBOLS} - {string}
    edits |= {string[:i] + string[i + 1 :] for i in range(len(string))} | {"", "B", "BT", string + "E"}
    illegal = {edit for edit in edits if walk(edit) is None}
    assert len(illegal) > 80
    for edit in illegal:
        with pytest.raises(BadInput, match="is not of the embedded Reber grammar"):
            reber.successors(edit)
    for edit in edits - illegal:
        assert len(reber.successors(edit)) == len(edit)


def test_reber_outer_is_the_symbol_before_the_end():
    task, batch = Reber(), draw(Reber(), 50)
    outputs = perfect(task, batch)
    assert task.outer(outputs, batch).all()
    for row, length in enumerate(batch.lengths.tolist()):
        outputs[length - 3, row] *= -1
    assert not task.outer(outputs, batch).any()
    assert not task.correct(outputs, batch).any()
    assert (~task.legal(outputs, batch) & batch.mask).sum() == 50


def test_reber_learns_from_the_symbol_that_comes():
    """The loss of the true probabilities is the strings' own entropy: ln 2 at each step of two choices, else 0."""
    task, batch = Reber(), draw(Reber(), 200)
    choices = (batch.targets.sum(-1)[batch.mask] == 2).float().mean()
    assert torch.allclose(task.loss(perfect(task, batch), batch), choices * torch.log(torch.tensor(2.0)))


def test_adding_is_the_sum_of_the_marked():
    batch = draw(Adding(40), 400)
    assert set(batch.lengths.tolist()) == {40, 41, 42, 43, 44}
    for row, length in enumerate(batch.lengths.tolist()):
        numbers, markers = batch.inputs[:length, row].T.tolist()
        ones = [step for step, marker in enumerate(markers) if marker == 1]
        assert len(ones) == 2
        assert ones[0] < 10
        assert ones[1] < 19
        assert markers[-1] == -1
        assert markers[0] == (1 if 0 in ones else -1)
        assert set(markers[1:-1]) <= {0, 1}
        assert all(-1 <= number <= 1 for number in numbers)
        if 0 in ones:
            assert numbers[0] == 0
        assert batch.mask[:, row].nonzero().tolist() == [[length - 1]]
        assert batch.targets[length - 1, row].item() == pytest.approx(0.5 + sum(numbers[i] for i in ones) / 4, abs=1e-6)
    assert (batch.inputs[0, :, 1] == 1).any(), "the first step is marked now and then"


def test_adding_of_halves():
    batch = draw(HalvesAdding(21), 300)
    numbers, markers = batch.inputs.unbind(-1)
    assert (markers[:10].sum(0) == 1).all()
    assert (markers[10:].sum(0) == 1).all()
    assert ((numbers >= 0) & (numbers <= 1)).all()
    assert torch.allclose(batch.targets[-1, :, 0], (numbers * markers).sum(0))
    error = HalvesAdding(21).loss(torch.ones_like(batch.targets), batch)
    assert error.item() == pytest.approx(1 / 6, rel=0.3)


@pytest.mark.parametrize("windows", [temporal_order.TWO, temporal_order.THREE], ids=["6a", "6b"])
def test_temporal_order_is_the_class(windows):
    batch = draw(TemporalOrder(windows), 200)
    assert set(batch.lengths.tolist()) == set(range(100, 111))
    for row, string in enumerate(texts(batch, temporal_order.SYMBOLS)):
        signs = [(step, symbol) for step, symbol in enumerate(string) if symbol in "XY"]
        assert all(low <= step <= high for (low, high), (step, _) in zip(windows, signs, strict=True))
        assert (string[0], string[-1]) == ("E", "B")
        assert set(string[1:-1]) <= set("abcdXY")
        number = int("".join("01"[symbol == "Y"] for _, symbol in signs), 2)
        assert batch.targets[len(string) - 1, row] == number
        assert batch.mask[:, row].nonzero().tolist() == [[len(string) - 1]]
    assert set(batch.targets[batch.mask].tolist()) == set(range(2 ** len(windows)))


def test_lag_has_two_sequences():
    task = Lag(5)
    x, y = task.both().inputs.argmax(-1).T.tolist()
    assert (x, y) == ([4, 0, 1, 2, 3], [5, 0, 1, 2, 3])
    assert task.both().targets.T.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 5]]
    drawn = draw(task, 100).inputs.argmax(-1).T.tolist()
    assert {tuple(sequence) for sequence in drawn} == {tuple(x), tuple(y)}
    assert task.error(perfect(task, task.both()), task.both()) < 1e-6
    assert task.error(torch.zeros(5, 2, 6), task.both()) == pytest.approx(5 / 6)


def test_spikes_come_at_their_distances():
    task = MeasuredSpikes(4, (0, 2, 3), 5)
    measured = draw(task, 50)
    assert len(measured.inputs) == 5 * (4 + 3)
    seen = set()
    for row in range(50):
        places = [-1, *measured.inputs[:, row, 0].nonzero()[:, 0].tolist()]
        delays = [b - a - 4 for a, b in pairwise(places)]
        assert delays == measured.targets[measured.inputs[:, row, 0].bool(), row, 0].tolist()
        assert 35 - 1 - places[-1] < 4 + 3, "spikes up to the end"
        seen |= set(delays)
    assert seen == {0, 2, 3}
    assert torch.equal(measured.mask, measured.inputs[..., 0].bool())


def test_generated_spikes_are_the_measured_ones_turned_round():
    made, measured = draw(GeneratedSpikes(4, (0, 2, 3), 5), 50), draw(MeasuredSpikes(4, (0, 2, 3), 5), 50)
    assert torch.equal(made.targets, measured.inputs)
    assert torch.equal(made.inputs * made.targets, measured.targets)
    for row in range(50):  # an interval's delay is put in from its first step on
        ends = made.targets[:, row, 0].nonzero()[:, 0].tolist()
        for a, b in pairwise([-1, *ends]):
            assert made.inputs[a + 1 : b + 1, row, 0].tolist() == [b - a - 4] * (b - a)


@pytest.mark.parametrize("letters", [2, 3, 4])
def test_counting_strings(letters):
    task = Counting(letters, least=2, most=4)
    for row, string in enumerate(texts(draw(task, 30), task.symbols)):
        n = string.count("a")
        assert 2 <= n <= 4
        assert string == "S" + "".join(letter * n for letter in "abcd"[:letters])
        targets = draw(task, 30).targets[: len(string), row]
        sets = ["".join(task.symbols[i] for i in symbols.nonzero()[:, 0].tolist()) for symbols in targets]
        assert sets == ["a"] + ["ab"] * n + [*string[n + 2 :], "T"]
    assert task.strings([7]).lengths.tolist() == [7 * letters + 1]


def test_counted_is_up_to_the_first_that_is_wrong():
    task = Counting()
    assert task.counted(torch.tensor([True, True, False, True])) == 2
    assert task.counted(torch.tensor([False, True])) == 0
    assert task.counted(torch.tensor([True, True])) == 2


def test_parity_is_the_ones():
    batch = draw(Parity(9), 200)
    assert set(batch.inputs.unique().tolist()) == {0, 1}
    assert torch.equal(batch.targets[-1], (batch.inputs.sum((0, 2)) % 2).long())
    assert 0.4 < batch.targets[-1].float().mean() < 0.6


def test_a_wave_fills_its_range():
    task = Wave()
    batch = draw(task, 30)
    assert batch.inputs.shape == (320, 30, 1)
    assert not batch.inputs.any()
    assert torch.allclose(batch.targets.abs().amax(0), torch.ones(30, 1))
    mean = batch.targets.mean(0).expand_as(batch.targets)
    assert torch.allclose(task.error(mean, batch), torch.ones(30))
    assert torch.allclose(task.error(batch.targets, batch), torch.zeros(30))
    spectrum = torch.fft.rfft(batch.targets[..., 0], dim=0).abs()
    assert (spectrum[:22].square().sum(0) > 0.9 * spectrum.square().sum(0)).all(), "nothing much beyond 21 periods"
