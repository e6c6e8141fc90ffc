"""Chung et al. 2015, "A recurrent latent variable model for sequential data", in NumPy; complex numbers pass through.

W, b of a network φ are lists: a hidden layer of rectifiers, and the layer that gives its values.
"""

import numpy as np

from oracles.cells import join, sigma


def rectified(a):
    """The real part decides, so that a complex step keeps to one side of the corner."""
    return np.where(a.real > 0, a, 0)


def network(values, W, b):
    return rectified(values @ W[0].T + b[0]) @ W[1].T + b[1]


def normal(values, floor=1e-4):
    """Mean and standard deviation: the latter by a softplus, above a floor."""
    half = values.shape[-1] // 2
    return values[..., :half], np.log(1 + np.exp(values[..., half:])) + floor


def kl(mu, s, mu_0, s_0):
    """Between diagonal normal distributions, feature by feature, in the form of the paper's appendix."""
    return np.sum(np.log(s_0) - np.log(s) + (s**2 + (mu - mu_0) ** 2) / (2 * s_0**2) - 0.5, axis=-1)


def log_normal(x, mu, s):
    return np.sum(-0.5 * np.log(2 * np.pi) - np.log(s) - (x - mu) ** 2 / (2 * s**2), axis=-1)


def log_bernoulli(x, logits):
    p = sigma(logits)
    return np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=-1)


def lstm(x, h, C, W, b):
    """The essay's, its matrices in the order forget, input, candidate, output."""
    hx = join(h, x)
    f, i, g, o = (hx @ W[k].T + b[k] for k in range(4))
    C = sigma(f) * C + sigma(i) * np.tanh(g)
    return sigma(o) * np.tanh(C), C


def step(x, epsilon, h, C, p):
    """From x_t, the noise and the state of t-1: h_t, C_t, the likelihood's parameters, KL, ln q - ln p of z_t."""
    phi_x = rectified(x @ p["W_x"].T + p["b_x"])
    mu_0, s_0 = normal(network(h, p["W_prior"], p["b_prior"]))
    mu, s = normal(network(join(phi_x, h), p["W_enc"], p["b_enc"]))
    z = mu + s * epsilon
    phi_z = rectified(z @ p["W_z"].T + p["b_z"])
    theta = network(join(phi_z, h), p["W_dec"], p["b_dec"])
    ratio = log_normal(z, mu, s) - log_normal(z, mu_0, s_0)
    return (*lstm(join(phi_x, phi_z), h, C, p["W"], p["b"]), theta, kl(mu, s, mu_0, s_0), ratio)


def run(x, epsilon, h, C, p):
    """Over time: the outputs h [T, B, H], the last states, and θ, KL and ratio of every step."""
    found = []
    for x_t, epsilon_t in zip(x, epsilon, strict=True):
        h, C, *values = step(x_t, epsilon_t, h, C, p)
        found.append((h, *values))
    return tuple(map(np.stack, zip(*found, strict=True))), (h, C)


def joint(x, u, h, C, p, log_likelihood):
    """ln p(x, z) - ln p(z), summed over time, where z_t = μ_0 + σ_0 u_t is drawn from the prior; and no posterior."""
    total = 0
    for x_t, u_t in zip(x, u, strict=True):
        mu_0, s_0 = normal(network(h, p["W_prior"], p["b_prior"]))
        phi_x, phi_z = (rectified(v @ p[f"W_{n}"].T + p[f"b_{n}"]) for v, n in ((x_t, "x"), (mu_0 + s_0 * u_t, "z")))
        total = total + log_likelihood(x_t, network(join(phi_z, h), p["W_dec"], p["b_dec"]))
        h, C = lstm(join(phi_x, phi_z), h, C, p["W"], p["b"])
    return total
