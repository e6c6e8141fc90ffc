"""The gradient over a lag: it vanishes in the plain network, but not in the LSTM.

    python benchmarks/papers/gradient.py        # 5 seeds, 3 seconds

Hochreiter 1991; Bengio, Simard & Frasconi 1994; the constant error carousel of Hochreiter & Schmidhuber 1997. Untrained
networks with 32 units, random inputs of width 8, float64. Measured is the norm of d(w · h_T)/d h_{T-lag} for random w,
or of d(w · C_T)/d C_{T-lag} for the LSTM, divided by the norm of w, as the mean over 16 sequences.
"""

import torch
from common import arguments, generator, table

import conveyor
from conveyor import zoo

LAGS = (1, 10, 50, 100)


def norms(seed: int, cell=zoo.RNN, forget: float | None = None, lags=LAGS) -> list[float]:
    """The fraction of the gradient that is left after each lag."""
    random = generator(seed)
    layer = conveyor.Recurrent(cell, 8, 32, dtype=torch.float64)
    if forget is not None:
        torch.nn.init.constant_(layer.cell.forget.bias, forget)
    x = torch.randn(10 + max(lags), 16, 8, generator=random, dtype=torch.float64)
    w = torch.randn(16, 32, generator=random, dtype=torch.float64)
    found = []
    for lag in lags:
        cut = len(x) - lag
        _, state = layer(x[:cut])
        carried = [value.detach().requires_grad_() for value in (state if isinstance(state, tuple) else (state,))]
        _, last = layer(x[cut:], tuple(carried) if len(carried) > 1 else carried[0])
        memory = last[-1] if isinstance(last, tuple) else last  # C of (h, C)
        (gradient,) = torch.autograd.grad((memory * w).sum(), carried[-1:])
        found.append(float((gradient.norm(dim=-1) / w.norm(dim=-1)).mean()))
    return found


def summary(found: list[float]) -> str:
    return ", ".join(f"lag {lag}: {value:.2g}" for lag, value in zip(LAGS, found, strict=True))


if __name__ == "__main__":
    given = arguments(5, __doc__)
    published = "decays exponentially where f' |w| < 1; constant for the carousel"
    for name, cell, forget in [
        ("tanh RNN", zoo.RNN, None),
        ("LSTM, forget bias 0", zoo.LSTM, 0.0),
        ("LSTM, forget bias 5 (f = .993)", zoo.LSTM, 5.0),
        ("original LSTM, no forget gate", zoo.OriginalLSTM, None),
    ]:
        table(
            f"gradient left, {name}",
            published,
            lambda seed, cell=cell, forget=forget: summary(norms(seed, cell, forget)),
            given.seeds,
        )
