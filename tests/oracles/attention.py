"""Xu et al. 2015, as the authors' code computes it, row by row and place by place."""

import numpy as np

from oracles.cells import sigma


def softmax_of_present(e, present):
    """Over the places that are there; the others have nothing. The real part decides on the largest."""
    w = np.zeros(e.shape, e.dtype)
    if present.any():
        w[present] = np.exp(e[present] - e[present].real.max())
        w = w / w.sum()
    return w


def attention(x, h, C, a, mask, draw, W_ctx, b, W_d, U, c, W_sel, b_sel, **gates):
    """Runs over [T, B, ...]; `draw(t, row, e, alpha)` weighs the places. Gives h over time, h, C, alpha and z."""
    hs, alphas, zs, drawn = [], [], [], []
    for t in range(len(x)):
        rows = [
            row_step(t, k, x, h, C, a, mask, draw, W_ctx, b, W_d, U, c, W_sel, b_sel, **gates) for k in range(len(h))
        ]
        h, C, alpha, z, s = (np.stack(values) for values in zip(*rows, strict=True))
        hs.append(h)
        alphas.append(alpha)
        zs.append(z)
        drawn.append(s)
    return np.stack(hs), h, C, np.stack(alphas), np.stack(zs), np.stack(drawn)


def row_step(t, k, x, h, C, a, mask, draw, W_ctx, b, W_d, U, c, W_sel, b_sel, **gates):
    e = np.array([U[0] @ np.tanh(W_ctx @ place + W_d @ h[k] + b) + c[0] for place in a[k]])
    alpha = softmax_of_present(e, mask[k] > 0)
    weights, s = draw(t, k, e, alpha=alpha)
    beta = sigma(W_sel[0] @ h[k] + b_sel[0])
    z = beta * sum(w * place for w, place in zip(weights, a[k], strict=True))
    zhx = np.concatenate([z, h[k], x[t, k]])
    f, i, o = (sigma(gates[f"W_{g}"] @ zhx + gates[f"b_{g}"]) for g in "fio")
    memory = f * C[k] + i * np.tanh(gates["W_C"] @ zhx + gates["b_C"])
    return o * np.tanh(memory), memory, alpha, z, s


def soft(x, h, C, a, mask, **matrices):
    return attention(x, h, C, a, mask, lambda *_, alpha: (alpha, alpha), **matrices)[:-1]


def hard(x, h, C, a, mask, g, coin, **matrices):
    """The place is the one with the largest e_i + g_i, which has the distribution alpha if g is of Gumbel(0, 1)."""

    def draw(t, k, e, alpha):
        s = np.zeros(len(e))
        if coin[t, k, 0] and mask[k].any():
            s[max(np.flatnonzero(mask[k]), key=lambda i: (e + g[t, k])[i].real)] = 1
            return s, s
        return alpha, s

    return attention(x, h, C, a, mask, draw, **matrices)
