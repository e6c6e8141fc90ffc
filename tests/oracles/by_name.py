"""The oracles that take more than x, states and matrices, each as a function of all these by name.

Every one gives the output over time, the last states, and the values of each step.
"""

import numpy as np

from oracles import attention, cells, storn, vrnn


def conditioned(x, h, C, z, **W):
    """Xu et al. 2015, equations 1 to 3: an LSTM whose affine map is of [E y, h, z]; here with x and z as one input."""
    return *cells.lstm(np.concatenate([x, z], axis=2), h, C, **W), ()


def soft(x, h, C, **given):
    output, h, C, *values = attention.soft(x, h, C, **given)
    return output, (h, C), values


def hard(x, h, C, **given):
    output, h, C, *values = attention.hard(x, h, C, **given)
    return output, (h, C), values


def variational(x, h, C, epsilon, **p):
    """A network φ has two matrices, W_enc_0 of its hidden layer and W_enc_1; the LSTM has four, W_0 to W_3."""
    layers = {"prior": 2, "enc": 2, "dec": 2}
    p |= {f"{k}_{name}": [p[f"{k}_{name}_{i}"] for i in range(n)] for name, n in layers.items() for k in "Wb"}
    p |= {k: [p[f"{k}_{i}"] for i in range(4)] for k in "Wb"}
    (output, *values), lasts = vrnn.run(x, epsilon, h, C, p)
    return output, lasts, values


def stochastic(x, h, r, past, epsilon, **p):
    """Where `past` is x of the step before, and nothing at first, as the network has it; here it is any stream."""
    mu, s, r = storn.recogniser(x, r, p)
    z = mu + s * epsilon
    states = []
    for past_t, z_t in zip(past, z, strict=True):
        h = np.tanh(past_t @ p["W"].T + h @ p["R"].T + z_t @ p["V"].T + p["b"])
        states.append(h)
    zero, one = np.zeros_like(mu), np.ones_like(s)
    ratio = vrnn.log_normal(z, mu, s) - vrnn.log_normal(z, zero, one)
    states = np.stack(states)
    return states, (h, r), (states @ p["W_y"].T + p["b_y"], vrnn.kl(mu, s, zero, one), ratio)
