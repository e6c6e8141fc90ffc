"""The applications of VRNN and STORN, a few steps long: what they write, and that their figures are true bounds."""

import json

import pytest
import torch

from conveyor.applications.storn import LearnSTORN, STORNSettings
from conveyor.applications.vrnn import LearnVRNN, VRNNSettings
from conveyor.training import train
from conveyor.training.progress import Progress
from test_music import read_midi
from test_speech import write_vowels

TINY = {"steps": 3, "batch_size": 4, "hidden_size": 8, "latent_size": 2, "samples": 2}
PNG = b"\x89PNG\r\n"


def tiny(kind, folder, **more):
    if more.get("data") == "vowels":
        write_vowels(folder)
        more["folder"] = str(folder)
    sizes = {"feature_size": 8} if kind is LearnVRNN else {"recogniser_size": 8}
    return kind.settings_type(**TINY, **sizes, **more)


@pytest.mark.parametrize("kind", [LearnVRNN, LearnSTORN])
def test_chorales_are_learnt_shown_and_played(kind, tmp_path):
    result = train.start(kind, tiny(kind, tmp_path), tmp_path / "run", Progress())
    assert "42 test chorales, nats per frame: bound" in result.summary
    assert "The scores and the split differ from those of the published figures" in result.summary
    folder = tmp_path / "run" / "results"
    figures = json.loads((folder / "figures.json").read_text())
    assert f"bound {figures['bound']:.3f} (KL {figures['kl']:.3f})" in result.summary
    assert (folder / "chorale.png").read_bytes().startswith(PNG)
    ends = {read_midi((folder / f"{name}.mid").read_bytes())[3] for name in ("chorale", "reconstruction", "sample")}
    assert len(ends) == 1


@pytest.mark.parametrize("kind", [LearnVRNN, LearnSTORN])
def test_speech_is_learnt_and_shown(kind, tmp_path):
    result = train.start(kind, tiny(kind, tmp_path, data="vowels"), tmp_path / "run", Progress())
    assert "4 test utterances, nats per frame: bound" in result.summary
    assert (tmp_path / "run" / "results" / "utterance.png").read_bytes().startswith(PNG)
    assert not list((tmp_path / "run" / "results").glob("*.mid"))


def test_figures_have_the_whole_divergence_whatever_the_loss_has(tmp_path):
    """The KL's weight grows over the first steps in the loss only; batches are those of seed and step."""
    jobs = []
    for warmup in (0, 1000):
        torch.manual_seed(0)
        jobs.append(LearnVRNN(tiny(LearnVRNN, tmp_path, data="vowels", kl_warmup=warmup)))
    with torch.no_grad():
        losses = []
        for job in jobs:
            torch.manual_seed(1)
            losses.append(job.loss(0)[0].item())
            job.model.eval()
        figures = [job.measure() for job in jobs]
    assert figures[0] == figures[1] == jobs[0].measure()
    assert figures[0]["kl"] > 0
    assert losses[0] > losses[1]  # by the KL, which has a thousandth of its weight
    job = jobs[0]
    x, lengths = job.padded(job.data.valid)
    terms = job.model(x, lengths, generator=torch.Generator().manual_seed(0))
    assert figures[0]["bound"] == pytest.approx((terms.nll + terms.kl).sum().item() / int(lengths.sum()))


def test_settings_are_the_networks(tmp_path):
    assert isinstance(tiny(LearnVRNN, tmp_path), VRNNSettings)
    network = LearnSTORN(tiny(LearnSTORN, tmp_path, data="vowels")).model
    assert isinstance(tiny(LearnSTORN, tmp_path), STORNSettings)
    cell = network.layer.cell
    assert (cell.input_size, cell.hidden_size, cell.widths["r"], cell.widths["z"]) == (12, 8, 8, 2)
