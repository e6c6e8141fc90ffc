"""The papers' findings that take seconds, by the scripts in benchmarks/papers/; the others are measured there."""

import gradient
import lag
import reber

from conveyor import zoo
from tiers import slow


def test_the_plain_networks_gradient_vanishes_and_the_lstms_does_not():
    lags = (1, 10, 50)
    plain = gradient.norms(0, zoo.RNN, lags=lags)
    assert plain[0] > 1e9 * plain[2]
    for cell, forget in [(zoo.LSTM, 5.0), (zoo.OriginalLSTM, None)]:
        assert all(0.5 < left < 10 for left in gradient.norms(0, cell, forget, lags))


@slow
def test_embedded_reber_strings_are_learnt_within_ten_thousand():
    assert reber.sequences(0) is not None


@slow
def test_a_lag_of_a_hundred_steps_is_bridged_within_the_papers_5040_sequences():
    assert lag.sequences(0, lag.original) is not None
