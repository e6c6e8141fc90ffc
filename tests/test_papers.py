"""The papers' findings that take seconds, by the scripts in benchmarks/papers/; the others are measured there."""

import gradient

from conveyor import zoo


def test_the_plain_networks_gradient_vanishes_and_the_lstms_does_not():
    lags = (1, 10, 50)
    plain = gradient.norms(0, zoo.RNN, lags=lags)
    assert plain[0] > 1e3 * plain[2] * 1e6
    for cell, forget in [(zoo.LSTM, 5.0), (zoo.OriginalLSTM, None)]:
        assert all(0.5 < left < 10 for left in gradient.norms(0, cell, forget, lags))
