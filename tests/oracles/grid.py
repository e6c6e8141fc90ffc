"""Kalchbrenner et al. 2015: grids of LSTM blocks, with a loop over every point of the grid.

The matrices of a block are W_u, W_f, W_o, W_m and biases b_ alike, for each of its dimensions under a name of its own:
W["time"]["W_u"]. Each reads H, the hidden vectors of all dimensions of the block side by side.
"""

import numpy as np

from oracles.cells import join, sigma


def squashed(o, m):
    """The paper's: the tanh is around the product."""
    return np.tanh(o * m)


def gated(o, m):
    """That of a published port."""
    return o * np.tanh(m)


def lstm(H, m, W, hidden=squashed):
    """(h', m') = LSTM(H, m, W)."""
    u, f, o = (sigma(H @ W[f"W_{gate}"].T + W[f"b_{gate}"]) for gate in "ufo")
    m = f * m + u * np.tanh(H @ W["W_m"].T + W["b_m"])
    return hidden(o, m), m


def named(W, dimensions):
    """From W_u_time, ... to the matrices of each dimension."""
    return {
        name: {key.removesuffix(f"_{name}"): v for key, v in W.items() if key.endswith(name)} for name in dimensions
    }


def time_and_depth(x, states, layers, G, g, priority=False, hidden=squashed):
    """The 2-LSTM: the output and the last states, (h, m) of each layer along time.

    The hidden vector that enters depth is the input, the memory a projection of it.
    """
    states, output = list(states), []
    for x_t in x:
        up, memory = x_t, x_t @ G.T + g
        for layer, W in enumerate(layers):
            h, m = states[layer]
            states[layer] = lstm(join(h, up), m, W["time"], hidden)
            H = join(states[layer][0] if priority else h, up)
            up, memory = lstm(H, memory, W["depth"], hidden)
        output.append(up)
    return np.stack(output), states


def one(x, h, m, G, g, priority=False, hidden=squashed, **W):
    """The lowest layer of a 2-LSTM alone."""
    output, (last,) = time_and_depth(x, [(h, m)], [named(W, ("time", "depth"))], G, g, priority, hidden)
    return output, last


def priority(*values, **W):
    return one(*values, priority=True, **W)


def ported(*values, **W):
    return one(*values, hidden=gated, **W)


def image(pixels, layers, P, p, M, m, priority=False):
    """The 3-LSTM over pixels [B, rows, columns, channels]; projections of a pixel enter depth. Zeros at the edges."""
    batch, rows, columns, _ = pixels.shape
    up, memory = pixels @ P.T + p, pixels @ M.T + m
    none = np.zeros((batch, len(p)))
    for W in layers:
        along, down, above = {}, {}, {}
        for r in range(rows):
            for c in range(columns):
                h_left, m_left = along.get((r, c - 1), (none, none))
                h_above, m_above = down.get((r - 1, c), (none, none))
                H = join(h_left, h_above, up[:, r, c])
                along[r, c], down[r, c] = lstm(H, m_left, W["along"]), lstm(H, m_above, W["down"])
                if priority:
                    H = join(along[r, c][0], down[r, c][0], up[:, r, c])
                above[r, c] = lstm(H, memory[:, r, c], W["depth"])
        up, memory = (
            np.stack([np.stack([above[r, c][k] for c in range(columns)], 1) for r in range(rows)], 1) for k in (0, 1)
        )
    return up


def depth(x, layers, P, p, M, m):
    """The 1-LSTM: projections of the whole input enter, and go up."""
    h, memory = x @ P.T + p, x @ M.T + m
    for W in layers:
        h, memory = lstm(h, memory, W["depth"])
    return h
