"""Greff et al. 2015, in the paper's letters: W for x, R for y of t-1, p for the memory c, b; z is the block's input.

`M` has the matrices by the letters of the paper, "W_z", "R_z", "b_z", "p_i" and so on.
"""

import numpy as np

from oracles.cells import over_time, sigma


def net(M, k, x_t, y):
    return x_t @ M[f"W_{k}"].T + y @ M[f"R_{k}"].T + M[f"b_{k}"]


def lstm(x, y, c, M, g=np.tanh, h=np.tanh, gates="ifo", coupled=False):
    """The vanilla LSTM; a gate that is not named is 1, and a memory without its p is not seen."""

    def gate(k, x_t, y, c):
        return sigma(net(M, k, x_t, y) + M.get(f"p_{k}", 0) * c) if k in gates else 1.0

    def step(x_t, y, c):
        z = g(net(M, "z", x_t, y))
        i = gate("i", x_t, y, c)
        f = 1 - i if coupled else gate("f", x_t, y, c)
        c = z * i + c * f
        return h(c) * gate("o", x_t, y, c), c

    return over_time(step, x, y, c)


def identity(a):
    return a


def vanilla(x, y, c, **M):
    return lstm(x, y, c, M)


def nig(x, y, c, **M):
    return lstm(x, y, c, M, gates="fo")


def nfg(x, y, c, **M):
    return lstm(x, y, c, M, gates="io")


def nog(x, y, c, **M):
    return lstm(x, y, c, M, gates="if")


def niaf(x, y, c, **M):
    return lstm(x, y, c, M, g=identity)


def noaf(x, y, c, **M):
    return lstm(x, y, c, M, h=identity)


def cifg(x, y, c, **M):
    return lstm(x, y, c, M, coupled=True)


def fgr(x, y, c, i, f, o, **M):
    """R_fi leads from the forget gate of t-1 to the input gate, and so on."""

    def seen(to, i, f, o):
        return i @ M[f"R_i{to}"].T + f @ M[f"R_f{to}"].T + o @ M[f"R_o{to}"].T

    def step(x_t, y, c, *before):
        z = np.tanh(net(M, "z", x_t, y))
        i = sigma(net(M, "i", x_t, y) + M["p_i"] * c + seen("i", *before))
        f = sigma(net(M, "f", x_t, y) + M["p_f"] * c + seen("f", *before))
        c = z * i + c * f
        o = sigma(net(M, "o", x_t, y) + M["p_o"] * c + seen("o", *before))
        return np.tanh(c) * o, c, i, f, o

    return over_time(step, x, y, c, i, f, o)
