"""Bayer & Osendorfer 2014, "Learning stochastic recurrent networks", in NumPy; complex numbers pass through."""

import numpy as np

from oracles.vrnn import kl, log_normal, normal


def recogniser(x, r, p):
    """μ and σ of q(z_t | x_1..t) for every t, and the last state of the recognising network."""
    found = []
    for x_t in x:
        r = np.tanh(x_t @ p["W_r"].T + r @ p["R_r"].T + p["b_r"])
        found.append(normal(r @ p["W_q"].T + p["b_q"]))
    mu, s = map(np.stack, zip(*found, strict=True))
    return mu, s, r


def generator(x, z, h, p):
    """h_t and the likelihood's parameters for every t, out of z_1..t and x_1..t-1."""
    states, past = [], np.zeros_like(x[0])
    for x_t, z_t in zip(x, z, strict=True):
        h = np.tanh(past @ p["W"].T + h @ p["R"].T + z_t @ p["V"].T + p["b"])
        states.append(h)
        past = x_t
    states = np.stack(states)
    return states, states @ p["W_y"].T + p["b_y"]


def run(x, epsilon, h, r, p):
    """Over time: the outputs h [T, B, H], θ, KL and ln q - ln p of z of every step; and the last states."""
    mu, s, r = recogniser(x, r, p)
    z = mu + s * epsilon
    states, theta = generator(x, z, h, p)
    zero, one = np.zeros_like(mu), np.ones_like(s)
    ratio = log_normal(z, mu, s) - log_normal(z, zero, one)
    return (states, theta, kl(mu, s, zero, one), ratio), (states[-1], r)


def joint(x, u, h, p, log_likelihood):
    """ln p(x, z) - ln p(z), summed over time, at z = u."""
    return sum(map(log_likelihood, x, generator(x, u, h, p)[1]))
