"""The cells of the essay and of the papers behind it."""

import numpy as np


def sigma(a):
    return 1 / (1 + np.exp(-a))


def over_time(step, x, *states):
    """Runs a step from left to right and collects its first state."""
    outputs = []
    for x_t in x:
        states = step(x_t, *states)
        outputs.append(states[0])
    return np.stack(outputs), states


def join(*values):
    return np.concatenate(values, axis=1)


def rnn(x, h, W, b):
    """Elman 1990, as the essay draws it: one tanh layer over [h, x]."""
    return over_time(lambda x_t, h: (np.tanh(join(h, x_t) @ W.T + b),), x, h)


def rnn_relu(x, h, W, b):
    """The same with a rectifier; the real part decides, so that a complex step keeps to one side of the corner."""

    def step(x_t, h):
        a = join(h, x_t) @ W.T + b
        return (np.where(a.real > 0, a, 0),)

    return over_time(step, x, h)


def lstm(x, h, C, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """The essay's step-by-step walk."""

    def step(x_t, h, C):
        hx = join(h, x_t)
        forget, take = sigma(hx @ W_f.T + b_f), sigma(hx @ W_i.T + b_i)
        C = forget * C + take * np.tanh(hx @ W_C.T + b_C)
        return sigma(hx @ W_o.T + b_o) * np.tanh(C), C

    return over_time(step, x, h, C)


def lstm_projected(x, h, C, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o, W_r):
    """Sak, Senior & Beaufays 2014: the recurrent output is r = W_r m, of fewer units than the memory."""

    def step(x_t, r, C):
        rx = join(r, x_t)
        C = sigma(rx @ W_f.T + b_f) * C + sigma(rx @ W_i.T + b_i) * np.tanh(rx @ W_C.T + b_C)
        m = sigma(rx @ W_o.T + b_o) * np.tanh(C)
        return m @ W_r.T, C

    return over_time(step, x, h, C)


def lstm_peephole(x, h, C, W_f, b_f, W_i, b_i, W_C, b_C, W_o, b_o):
    """The essay's peepholes: W_f · [C_{t-1}, h, x], and W_o · [C_t, h, x] with the new memory.

    Gers & Schmidhuber 2000 have the same with a diagonal block for C; a gate without a peephole has a zero block.
    """

    def step(x_t, h, C):
        Chx, hx = join(C, h, x_t), join(h, x_t)
        C = sigma(Chx @ W_f.T + b_f) * C + sigma(Chx @ W_i.T + b_i) * np.tanh(hx @ W_C.T + b_C)
        o = sigma(join(C, h, x_t) @ W_o.T + b_o)
        return o * np.tanh(C), C

    return over_time(step, x, h, C)


def lstm_coupled(x, h, C, W_f, b_f, W_C, b_C, W_o, b_o):
    """The essay's coupled gates: C = f * C + (1 - f) * C~."""

    def step(x_t, h, C):
        hx = join(h, x_t)
        f = sigma(hx @ W_f.T + b_f)
        C = f * C + (1 - f) * np.tanh(hx @ W_C.T + b_C)
        return sigma(hx @ W_o.T + b_o) * np.tanh(C), C

    return over_time(step, x, h, C)


def gru_reset_before(x, h, W_z, W_r, W):
    """The essay's GRU: no biases, the reset before the matrix."""

    def step(x_t, h):
        hx = join(h, x_t)
        z, r = sigma(hx @ W_z.T), sigma(hx @ W_r.T)
        h_tilde = np.tanh(join(r * h, x_t) @ W.T)
        return ((1 - z) * h + z * h_tilde,)

    return over_time(step, x, h)


def gru_onnx(x, h, W, R, Wb, Rb):
    """ONNX's operator GRU with linear_before_reset=0: a matrix and a bias of X and of H for each of z, r and h."""

    def step(x_t, h):
        z = sigma(x_t @ W["z"].T + h @ R["z"].T + Wb["z"] + Rb["z"])
        r = sigma(x_t @ W["r"].T + h @ R["r"].T + Wb["r"] + Rb["r"])
        h_tilde = np.tanh(x_t @ W["h"].T + (r * h) @ R["h"].T + Rb["h"] + Wb["h"])
        return ((1 - z) * h_tilde + z * h,)

    return over_time(step, x, h)


def gru(x, h, W_z, b_z, W_r, b_r, W_in, b_in, W_hn, b_hn):
    """PyTorch's documentation of nn.GRU, its pairs of biases of r and z added up."""

    def step(x_t, h):
        hx = join(h, x_t)
        z, r = sigma(hx @ W_z.T + b_z), sigma(hx @ W_r.T + b_r)
        n = np.tanh(x_t @ W_in.T + b_in + r * (h @ W_hn.T + b_hn))
        return ((1 - z) * n + z * h,)

    return over_time(step, x, h)
