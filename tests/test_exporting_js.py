"""Exports to JavaScript, run in Node."""

import pytest
import torch

import conveyor
from cases import CASES, every_cell, extra_inputs
from conveyor.language import LanguageModel
from conveyor.tasks.text import Vocabulary


@every_cell
def test_every_cell_is_the_same_in_javascript(name, tmp_path):
    torch.manual_seed(0)
    rnn = CASES[name].layer(3, 5, num_layers=2)
    report = conveyor.export(rnn, tmp_path / "out", "js", inputs=extra_inputs(rnn, 4, 2, torch.float32))
    assert report.proof.error <= 1e-5


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("tie", [False, True])
def test_a_language_model(inline, tie, tmp_path):
    torch.manual_seed(0)
    vocabulary = Vocabulary.of("to be or not to be ünd".encode(), "char")
    model = LanguageModel(len(vocabulary), conveyor.zoo.LSTM, 6, 2, embedding_size=0 if tie else 4, tie=tie)
    report = conveyor.export(model, tmp_path / "out", "js", vocabulary=vocabulary, inline=inline)
    assert report.proof.error <= 1e-5
    assert ("lstm.bin" in report.files) != inline
