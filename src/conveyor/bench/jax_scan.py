"""Cells in JAX, as `lax.scan` of a step, with our weights. The input product is computed once before the scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid

from conveyor import zoo
from conveyor.bench.contenders import Run, Work
from conveyor.cell import Cell

Array = Any
Weights = dict[str, Array]
States = tuple[Array, ...]

# In each step, w are the weights, a [B, maps * H] is W · x + b with all maps side by side, and U are the maps of h.


def rnn(w: Weights, a: Array, h: Array) -> States:
    """A step of `zoo.RNN`."""
    return (jnp.tanh(a + h @ w["U"]),)


def lstm(w: Weights, a: Array, h: Array, C: Array) -> States:
    """A step of `zoo.LSTM`."""
    f, i, C_tilde, o = jnp.split(a + h @ w["U"], 4, axis=-1)
    C = sigmoid(f) * C + sigmoid(i) * jnp.tanh(C_tilde)
    return sigmoid(o) * jnp.tanh(C), C


def lstm_peephole(w: Weights, a: Array, h: Array, C: Array) -> States:
    """A step of `zoo.PeepholeLSTM`."""
    f, i, C_tilde, o = jnp.split(a + h @ w["U"], 4, axis=-1)
    C = sigmoid(f + w["forget.weight_C"] * C) * C + sigmoid(i + w["input.weight_C"] * C) * jnp.tanh(C_tilde)
    return sigmoid(o + w["output.weight_C"] * C) * jnp.tanh(C), C


def gru(w: Weights, a: Array, h: Array) -> States:
    """A step of `zoo.GRU`."""
    a_z, a_r, a_h = jnp.split(a, 3, axis=-1)
    u_z, u_r, u_h = jnp.split(h @ w["U"], 3, axis=-1)
    z, r = sigmoid(a_z + u_z), sigmoid(a_r + u_r)
    return (z * h + (1 - z) * jnp.tanh(a_h + r * (u_h + w["recall.bias"])),)


GATES = ("forget", "input", "candidate", "output")
# For each cell its step, and our affine maps of x and of h in the step's order.
CELLS: dict[type[Cell], tuple[Callable[..., States], tuple[str, ...], tuple[str, ...]]] = {
    zoo.RNN: (rnn, ("hidden",), ("hidden",)),
    zoo.LSTM: (lstm, GATES, GATES),
    zoo.PeepholeLSTM: (lstm_peephole, GATES, GATES),
    zoo.GRU: (gru, ("update", "reset", "candidate"), ("update", "reset", "recall")),
}


def run(work: Work) -> Run | None:
    """None for cells without a step here. In training it computes the gradients of all weights, but not of x."""
    if work.cell not in CELLS:
        return None
    step, maps_x, maps_h = CELLS[work.cell]
    weights = _weights(work, maps_x, maps_h)
    widths = [work.layer.cell.widths[name] for name in work.cell.state]

    def outputs(w: Weights, x: Array) -> tuple[Array, States]:
        def body(states: States, a: Array) -> tuple[States, Array]:
            states = step(w, a, *states)
            return states, states[0]

        first = tuple(jnp.zeros((x.shape[1], width), x.dtype) for width in widths)
        states, hs = jax.lax.scan(body, first, x @ w["W"] + w["b"])
        return hs, states

    def training(w: Weights, x: Array, gradient: Array) -> tuple[Array, Any]:
        hs, pull = jax.vjp(lambda w: outputs(w, x)[0], w)
        return hs, pull(gradient)

    compiled = jax.jit(outputs if work.gradient is None else training)
    tensors = (work.x,) if work.gradient is None else (work.x, work.gradient)
    given = (weights, *(jnp.array(tensor.numpy()) for tensor in tensors))
    return lambda: jax.block_until_ready(compiled(*given))[0]


def _weights(work: Work, maps_x: tuple[str, ...], maps_h: tuple[str, ...]) -> Weights:
    ours = {name: value.detach().numpy() for name, value in work.layer.cell.named_parameters()}
    joined = {
        "W": np.concatenate([ours.pop(f"{name}.weight_x").T for name in maps_x], axis=1),  # [I, maps * H]
        "U": np.concatenate([ours.pop(f"{name}.weight_h").T for name in maps_h], axis=1),  # [H, maps * H]
        "b": np.concatenate([ours.pop(f"{name}.bias") for name in maps_x]),
    }
    return {name: jnp.array(value) for name, value in (joined | ours).items()}
