"""Hochreiter & Schmidhuber 1997, in the paper's letters: net inputs, y_in, y_out, s_c, y_c."""

import numpy as np

from oracles.cells import join, over_time, sigma


def g(net):
    return 4 / (1 + np.exp(-net)) - 2


def h(s):
    return 2 / (1 + np.exp(-s)) - 1


def lstm(x, y_c, s_c, W_in, b_in, W_c, b_c, W_out, b_out):
    """The memory cell's own activation adds up: s_c(t) = s_c(t-1) + y_in(t) g(net_c(t)); no forget gate."""

    def step(x_t, y_c, s_c):
        u = join(y_c, x_t)
        y_in, y_out = sigma(u @ W_in.T + b_in), sigma(u @ W_out.T + b_out)
        s_c = s_c + y_in * g(u @ W_c.T + b_c)
        return y_out * h(s_c), s_c

    return over_time(step, x, y_c, s_c)
