"""Scenes of digits and their captions: what is said is what is seen, and what cannot be is refused."""

import numpy as np
import pytest
import torch

import conveyor
from conveyor.applications.attend import Attend, AttendSettings
from conveyor.errors import BadInput
from conveyor.tasks.digits import digits, read
from conveyor.tasks.scenes import CANVAS, FIELD, NAMES, PLACES, WORDS, Scenes, split
from conveyor.tasks.words import TokenBatch, WordVocabulary
from conveyor.zoo.captioner import Captioner


def test_the_digits_are_those_of_the_package():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_other_digits_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be read.*pip install 'conveyor\[images\]'"):
        read(tmp_path / "digits.csv.gz")
    np.savetxt(tmp_path / "digits.csv.gz", np.zeros((1797, 65), int), "%d", ",")
    with pytest.raises(BadInput, match="does not hold the expected 1,797 digits"):
        read(tmp_path / "digits.csv.gz")


def test_no_digit_is_in_two_parts():
    parts = [{image.tobytes() for image in images} for images, _ in split()]
    assert [len(images) for images, _ in split()] == [1439, 179, 179]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 1797


def test_a_caption_says_what_is_on_the_canvas():
    """Read off the canvas: of digits that are even areas, each of a shade of its own."""
    shades = np.linspace(0.1, 1, 10, dtype=np.float32)
    images = np.broadcast_to(shades[:, None, None], (10, 8, 8))
    scenes = Scenes.draw(images, np.arange(10), 200, 9, np.random.default_rng(0))
    counts = set()
    for canvas, caption in zip(scenes.canvases, scenes.captions, strict=True):
        fields = (canvas[FIELD * k :, FIELD * n :][:FIELD, :FIELD].max().item() for k in range(3) for n in range(3))
        seen = {
            place: int(np.argmin(abs(shades - field))) for place, field in zip(PLACES, fields, strict=True) if field
        }
        assert caption == " and ".join(f"{NAMES[digit]} {place}" for place, digit in seen.items())
        assert WORDS.decode(WORDS.encode(caption)) == caption
        counts.add(len(seen))
    assert counts == set(range(1, 10))


def test_what_cannot_be_a_scene_or_a_caption_is_refused():
    images, labels = digits()
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="must be 8 x 8 pixels, not 8 x 7"):
        Scenes.draw(images[:, :, 1:], labels, 1, 3, rng)
    with pytest.raises(BadInput, match="from 1 to 9 digits, not 10"):
        Scenes.draw(images, labels, 1, 10, rng)
    with pytest.raises(BadInput, match="unknown words, tree: did you mean three"):
        WORDS.encode("a tree top left")
    model = Captioner(len(WORDS), CANVAS, 4, 4, embedding_size=4)
    with pytest.raises(ValueError, match=r"must be \[B, 28, 28\], not \[2, 28, 27\]"):
        model.annotate(torch.zeros(2, 28, 27))
    with pytest.raises(ValueError, match="multiple of 4, not 30"):
        Captioner(len(WORDS), 30, 4)


def test_words_as_a_decoder_reads_and_says_them():
    words = WordVocabulary.of(["b a", "a c"], limit=2, unknown=True)
    assert words.symbols == ("<end>", "<start>", "<unk>", "a", "b")
    assert words.encode("a strange b") == [3, 2, 4]
    said = TokenBatch.of([[3, 4], [3]])
    assert said.inputs.tolist() == [[1, 1], [3, 3], [4, 0]]
    assert said.targets.tolist() == [[3, 3], [4, 0], [0, -100]]
    assert (said.lengths.tolist(), said.count) == ([3, 2], 5)


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_a_batch_depends_on_seed_and_step_only(attention):
    """And its loss is finite, with every parameter in its gradient."""
    sizes = {"hidden_size": 5, "annotation_size": 4, "batch_size": 3, "held_out": 6, "doubly_stochastic": 0.1}
    torch.manual_seed(0)
    job = Attend(AttendSettings(attention=attention, selector=True, **sizes))
    losses = []
    with conveyor.backend("eager"):
        for step in (0, 1, 0):
            torch.manual_seed(step)
            job.model.baseline.value.zero_()
            loss, count = job.loss(step)
            losses.append((loss.item(), count))
    loss.backward()
    assert losses[0] == losses[2] != losses[1]
    assert np.isfinite(losses).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in job.model.parameters())
