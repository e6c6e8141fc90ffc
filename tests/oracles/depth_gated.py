"""Yao et al. 2015: a stack of LSTMs whose memories are joined by depth gates."""

import numpy as np

from oracles.cells import join, sigma


def step(x, h, C, below, W):
    """One layer at one step; a layer without matrices of a forget gate has f = 1 - i, as the authors' code."""
    d = sigma(x @ W["W_xd"].T + C * W["w_cd"] + below * W["w_ld"] + W["b_d"])
    Chx = join(C, h, x)
    i = sigma(Chx @ W["W_i"].T + W["b_i"])
    f = sigma(Chx @ W["W_f"].T + W["b_f"]) if "W_f" in W else 1 - i
    C = d * below + f * C + i * np.tanh(join(h, x) @ W["W_C"].T + W["b_C"])
    return sigma(join(C, h, x) @ W["W_o"].T + W["b_o"]) * np.tanh(C), C


def stack(x, states, layers, G, g):
    """All layers at each step, from below: the output and the last states, (h, C) of each layer.

    `states`: (h, C) of each layer; `layers`: the matrices of each. The lowest layer takes a projection of the input for
    the memory below it.
    """
    output = []
    for x_t in x:
        value, below, new = x_t, x_t @ G.T + g, []
        for (h, C), W in zip(states, layers, strict=True):
            value, below = step(value, h, C, below, W)
            new.append((value, below))
        states = new
        output.append(value)
    return np.stack(output), states


def one(x, h, C, G, g, **W):
    """The lowest layer alone."""
    output, (last,) = stack(x, [(h, C)], [W], G, g)
    return output, last
