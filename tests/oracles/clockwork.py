"""Koutník, Greff, Gomez & Schmidhuber 2014."""

import numpy as np


def clockwork(x, h, periods, **W):
    """One matrix for all modules, zero below the blocks of its diagonal; in step t the rows of those with t mod T = 0.

    W_k is module k's matrix over [h of the modules k and slower, x], b_k its bias.
    """
    count, units, kind = len(periods), h.shape[1], np.result_type(x, h, *W.values())
    size = units // count
    W_H, W_I = np.zeros((units, units), kind), np.zeros((units, x.shape[2]), kind)
    b = np.concatenate([W[f"b_{k}"] for k in range(count)])
    for k in range(count):
        rows, slower = slice(k * size, (k + 1) * size), units - k * size
        W_H[rows, k * size :], W_I[rows] = W[f"W_{k}"][:, :slower], W[f"W_{k}"][:, slower:]
    outputs = []
    for t, x_t in enumerate(x):
        ticks = np.repeat([t % period == 0 for period in periods], size)
        h = np.where(ticks, np.tanh(h @ W_H.T + x_t @ W_I.T + b), h)
        outputs.append(h)
    return np.stack(outputs), (h,)
