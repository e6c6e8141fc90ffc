"""Pages of models that conveyor has not made: read from their weights, equal to PyTorch, drawn on and edited."""

import numpy as np
import pytest
import torch

import foreign_models as foreign
from conveyor import explain

pytestmark = pytest.mark.xdist_group("explain any")

BOUND = 1e-5
CHANNELS = [f"c{k + 1}" for k in range(12)]
# What the page has computed: of all steps the numbers that come out, as the page says them.
NUMBERS = """
const app = globalThis.conveyor, record = app.record(0), { length } = record;
const rows = Array.from({ length }, (_, t) => Array.from(record.probabilities(t)));
return Float64Array.from(rows.flat());
"""


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """The classifier, two series and the page."""
    torch.manual_seed(0)
    model = foreign.classifier()
    long = torch.cat([frames for frames, _ in foreign.utterances(12, seed=5)])[:200]
    short, speaker = next(foreign.utterances(1, seed=6))
    series = [explain.Series(long, CHANNELS), explain.Series(short, CHANNELS, truth=speaker, title="an utterance")]
    page = explain.page(model, series, explain.Classes(foreign.SPEAKERS))
    return model, long, page.save(tmp_path_factory.mktemp("any") / "speakers.html")


def shown(here, count):
    """What comes out in the page, [T, count]."""
    return here.browser.numbers(NUMBERS).reshape(-1, count)


@torch.no_grad()
def each_step(model, frames):
    """The classifier's probabilities after each frame, [T, 9]: as if the series ended there."""
    return np.stack([model(frames[None, : t + 1])[0].softmax(-1).numpy() for t in range(len(frames))])


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= BOUND


def test_a_classifier_of_series_is_that_of_pytorch(here, speakers, tmp_path):
    model, frames, file = speakers
    here.open(file)
    here.rest()
    assert_close(shown(here, 9), each_step(model, frames))
    here.shot("classifier", tmp_path)
