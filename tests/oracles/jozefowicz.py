"""Jozefowicz, Zaremba & Sutskever 2015. The paper's x has the width of h: before it, W_x brings an input to it."""

import numpy as np

from oracles.cells import over_time, sigma


def mut1(x, h, W_x, W_xz, b_z, W_xr, W_hr, b_r, W_hh, b_h):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + b_z)
        r = sigma(x_t @ W_xr.T + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + np.tanh(x_t) + b_h) * z + h * (1 - z),)

    return over_time(step, x @ W_x.T, h)


def mut2(x, h, W_x, W_xz, W_hz, b_z, W_hr, b_r, W_hh, W_xh, b_h):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + h @ W_hz.T + b_z)
        r = sigma(x_t + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + x_t @ W_xh.T + b_h) * z + h * (1 - z),)

    return over_time(step, x @ W_x.T, h)


def mut3(x, h, W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_hh, W_xh, b_h):
    def step(x_t, h):
        z = sigma(x_t @ W_xz.T + np.tanh(h) @ W_hz.T + b_z)
        r = sigma(x_t @ W_xr.T + h @ W_hr.T + b_r)
        return (np.tanh((r * h) @ W_hh.T + x_t @ W_xh.T + b_h) * z + h * (1 - z),)

    return over_time(step, x, h)
