"""Jozefowicz, Zaremba & Sutskever 2015. W_x brings the bare x to the width of h, where it has another."""

import numpy as np

from oracles.cells import over_time, sigma


def bare(x_t, W_x):
    return x_t if W_x is None else x_t @ W_x.T


def mut1(x, h, W_xz, b_z, W_xr, W_hr, b_r, W_hh, b_h, W_x=None):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + b_z)
        r = sigma(x_t @ W_xr.T + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + np.tanh(bare(x_t, W_x)) + b_h) * z + h * (1 - z),)

    return over_time(step, x, h)


def mut2(x, h, W_xz, W_hz, b_z, W_hr, b_r, W_hh, W_xh, b_h, W_x=None):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + h @ W_hz.T + b_z)
        r = sigma(bare(x_t, W_x) + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + x_t @ W_xh.T + b_h) * z + h * (1 - z),)

    return over_time(step, x, h)


def mut3(x, h, W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_hh, W_xh, b_h):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + np.tanh(h) @ W_hz.T + b_z)
        r = sigma(x_t @ W_xr.T + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + x_t @ W_xh.T + b_h) * z + h * (1 - z),)

    return over_time(step, x, h)
