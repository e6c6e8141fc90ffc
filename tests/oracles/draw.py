"""DRAW (Gregor et al. 2015), in NumPy, from the paper's equations; pixels, filters and glimpses count from 1."""

import numpy as np

from oracles.cells import join, sigma


def lstm(x, h, C, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    hx = join(h, x)
    C = sigma(hx @ W_f.T + b_f) * C + sigma(hx @ W_i.T + b_i) * np.tanh(hx @ W_C.T + b_C)
    return sigma(hx @ W_o.T + b_o) * np.tanh(C), C


def part(W, name):
    """The matrices of one of the two LSTMs, without its name."""
    return {symbol.removesuffix(name): value for symbol, value in W.items() if symbol.endswith(name)}


def bank(g, delta, variance, N, A):
    """F[i, a], one number after the other."""
    F = np.empty((N, A), dtype=np.result_type(g, delta, variance))
    for i in range(1, N + 1):
        mu = g + (i - N / 2 - 0.5) * delta
        for a in range(1, A + 1):
            F[i - 1, a - 1] = np.exp(-((a - mu) ** 2) / (2 * variance))
        F[i - 1] /= F[i - 1].sum()
    return F


def window(place, N, A, B):
    """The banks F_x and F_y, the intensity, and centre, stride and width, of one image A wide and B high."""
    g_x, g_y = (A + 1) / 2 * (place[0] + 1), (B + 1) / 2 * (place[1] + 1)
    delta = (max(A, B) - 1) / (N - 1) * np.exp(place[3]) if N > 1 else (max(A, B) - 1) * np.exp(place[3])
    variance, gamma = np.exp(place[2]), np.exp(place[4])
    F_x, F_y = bank(g_x, delta, variance, N, A), bank(g_y, delta, variance, N, B)
    return F_x, F_y, gamma, np.stack([g_x, g_y, delta, variance**0.5, gamma])


def read(image, place, N):
    F_x, F_y, gamma, seen = window(place, N, image.shape[1], image.shape[0])
    return gamma * F_y @ image @ F_x.T, seen


def write(patch, place, A, B):
    F_x, F_y, gamma, seen = window(place, len(patch), A, B)
    return F_y.T @ patch @ F_x / gamma, seen


def draw(noise, c, h_enc, C_enc, h_dec, C_dec, image, height, width, N_read=None, N_write=None, **W):
    """The canvases [T, B, pixels], the last states, and the values of each step; with N_read and N_write, attention."""
    rows, canvases, values = range(len(image)), [], []
    for eps in noise:
        error = image - sigma(c)
        if N_read is None:
            r, extra = join(image, error), ()
        else:
            place = h_dec @ W["W_read"].T + W["b_read"]
            seen = [[read(v[k].reshape(height, width), place[k], N_read) for v in (image, error)] for k in rows]
            r = np.stack([np.concatenate([glimpse.ravel() for glimpse, _ in one]) for one in seen])
            extra = (np.stack([one[0][1] for one in seen]),)
        h_enc, C_enc = lstm(join(r, h_dec), h_enc, C_enc, **part(W, "_enc"))
        mu, log_sigma = h_enc @ W["W_mu"].T + W["b_mu"], h_enc @ W["W_sigma"].T + W["b_sigma"]
        h_dec, C_dec = lstm(mu + np.exp(log_sigma) * eps, h_dec, C_dec, **part(W, "_dec"))
        w = h_dec @ W["W_w"].T + W["b_w"]
        if N_write is not None:
            place = h_dec @ W["W_write"].T + W["b_write"]
            written = [write(w[k].reshape(N_write, N_write), place[k], width, height) for k in rows]
            w = np.stack([patch.ravel() for patch, _ in written])
            extra = (*extra, np.stack([seen for _, seen in written]))
        c = c + w
        canvases.append(c)
        values.append((mu, log_sigma, *extra))
    return np.stack(canvases), (c, h_enc, C_enc, h_dec, C_dec), [np.stack(v) for v in zip(*values, strict=True)]


def bound(canvas, image, mu, log_sigma):
    """-log p(x | z) and the KL of every step in nats, [B] and [T, B]."""
    p, s2 = sigma(canvas[-1]), np.exp(2 * log_sigma)
    nll = -(image * np.log(p) + (1 - image) * np.log(1 - p)).sum(-1)
    return nll, 0.5 * (mu**2 + s2 - np.log(s2) - 1).sum(-1)
