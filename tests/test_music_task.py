"""The chorales as a task: what is judged, and the counted models that a network must be better than."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from conveyor.errors import BadInput
from conveyor.tasks import chorales, music
from conveyor.tasks.music import Music

pytestmark = pytest.mark.xdist_group("music")  # one process reads the chorales, which takes seconds


def test_every_frame_but_the_first_is_judged():
    read, task = chorales.read(), Music()
    for part, kept in (("validation", read.valid), ("test", read.test)):
        batch = task.held_out(part, 1000)
        assert batch.mask.sum() == sum(len(chorale.roll) - 1 for chorale in kept)
        for row, chorale in enumerate(kept):
            length = len(chorale.roll) - 1
            assert torch.equal(batch.inputs[:length, row], chorale.roll[:-1])
            assert torch.equal(batch.targets[:length, row], chorale.roll[1:])
    drawn = task.draw(4, torch.Generator().manual_seed(0))
    learnt = {chorale.roll[:-1].numpy().tobytes() for chorale in read.train}
    assert all(drawn.inputs[:n, row].numpy().tobytes() in learnt for row, n in enumerate(drawn.lengths.tolist()))


def test_another_corpus_with_as_many_notes_is_told(monkeypatch):
    chorales.read.cache_clear()
    monkeypatch.setattr(chorales, "DIGEST", "another")
    with pytest.raises(
        BadInput, match=r"the expected number of notes, but different ones: pip install 'music21==10.5.1'"
    ):
        chorales.read()


def test_the_metric_is_the_nats_that_a_frame_takes():
    task, batch = Music(), Music().held_out("test", 3)
    outputs = torch.randn(*batch.targets.shape)
    nats = binary_cross_entropy(outputs.sigmoid(), batch.targets, reduction="none").sum(-1)
    assert task.measure(outputs, batch) == pytest.approx(float(nats[batch.mask].mean()), rel=1e-5)


def test_what_the_counted_models_know():
    """Each as outputs of a network, which the task judges; with 1 more of each count they are near the best."""
    task, learn, test = Music(), music.parts()["learn"], music.parts()["test"]
    now, after = (torch.cat([roll[cut] for roll in rolls()]) for cut in (slice(-1), slice(1, None)))
    often = (after.sum(0) + 1) / (len(after) + 2)
    alone = task.measure(often.logit().expand_as(test.targets), test)
    chances = torch.stack([(after * (now == state)).sum(0) + 1 for state in (0, 1)])
    chances /= torch.stack([(now == state).sum(0) + 2 for state in (0, 1)])
    first_order = task.measure(torch.where(test.inputs > 0, chances[1], chances[0]).logit(), test)
    assert len(now) == learn.mask.sum()
    assert task.chance == pytest.approx(alone, abs=0.02)
    assert music.markov() == pytest.approx(first_order, abs=0.02)
    assert (round(task.chance, 2), round(music.markov(), 2)) == (10.69, 10.28)


def rolls():
    return [chorale.roll for chorale in chorales.read().train]
