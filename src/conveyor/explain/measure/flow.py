"""How much gradient flows back from an output to earlier states."""

from __future__ import annotations

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.record import eval_mode
from conveyor.layer import Recurrent

ROWS = 64  # rows of the Jacobian that are computed at once


def gradient_flow(
    layer: Recurrent, x: Tensor, state: tuple[Tensor, ...] | Tensor | None = None, of: str = "", **others: Tensor
) -> dict[str, Tensor]:
    """The norm of d output_T / d state_t for every t and each state.

        left = gradient_flow(conveyor.LSTM(8, 32), torch.randn(100, 8))
        left["C"][0]                            # first layer: [100], for lags of 1, 2, ..., 100 steps

    `x`: [T, input_size]; `others`: further inputs of the cell by name, streams [T, ...] and constants [...]; `state`:
    the initial state, without a batch. `of`: the name of the final state to differentiate; "": the layer's output.

    Returns [layers, T] for each state: entry k - 1 is the Frobenius norm of the exact Jacobian of the last layer's
    output after T steps with respect to the state after T - k steps, with the other states held fixed. The last entry
    is for the initial state. Vanishing gradients: Hochreiter 1991; Bengio, Simard & Frasconi 1994.

    Raises BadInput for a layer of two directions, for an input of another shape, and for a state of an unknown name.
    """
    _check(layer, x, of)
    squares: dict[str, Tensor] = {}
    with eval_mode(layer):
        width = _end(layer, x, state, of, others, 1)[0].shape[-1]
        for first in range(0, width, ROWS):
            units = torch.arange(first, min(first + ROWS, width), device=x.device)
            end, kept = _end(layer, x, state, of, others, len(units))
            total = end[torch.arange(len(units)), units].sum()  # row k differentiates unit k
            for name, found in _squares(total, kept, layer.state_names).items():
                squares[name] = squares.get(name, 0) + found
    return {name: value.sqrt() for name, value in squares.items()}


def _end(
    layer: Recurrent,
    x: Tensor,
    state: tuple[Tensor, ...] | Tensor | None,
    of: str,
    others: dict[str, Tensor],
    rows: int,
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """The output after the last step, [rows, width], for copies of the sequence, and the states before each step."""
    now = _first(layer, x, state, rows)
    kept, output = [], x
    for t, x_t in enumerate(x):
        now = tuple(value.clone() if value.requires_grad else value.requires_grad_() for value in now)
        kept.append(now)
        given = {
            n: (v if n in layer.cell.constant else v[t]).expand(rows, *_row(layer, n, v)) for n, v in others.items()
        }
        output, new, *_ = layer.step(x_t.expand(rows, -1), now if len(now) > 1 else now[0], start=t, **given)
        now = new if isinstance(new, tuple) else (new,)
    return now[layer.state_names.index(of)][-1] if of else output, kept


def _row(layer: Recurrent, name: str, value: Tensor) -> torch.Size:
    return value.shape if name in layer.cell.constant else value.shape[1:]


def _first(layer: Recurrent, x: Tensor, state: tuple[Tensor, ...] | Tensor | None, rows: int) -> tuple[Tensor, ...]:
    """The initial states, [layers, rows, width] each."""
    if state is None and layer.learn_initial_state:
        state = tuple(layer.initial_state[name] for name in layer.state_names)
    if state is None:
        shapes = [(layer.num_layers, layer.cell.widths[name]) for name in layer.state_names]
        state = tuple(x.new_zeros(shape) for shape in shapes)
    given = (state,) if isinstance(state, Tensor) else state
    return tuple(value.detach()[:, None].repeat(1, rows, 1) for value in given)


def _squares(total: Tensor, kept: list[tuple[Tensor, ...]], names: tuple[str, ...]) -> dict[str, Tensor]:
    """By state the squares of the gradients, summed over units and rows, [layers, T], the last step first."""
    flat = [value for states in kept for value in states]
    gradients = torch.autograd.grad(total, flat, allow_unused=True)
    sums = [
        value.new_zeros(len(value)) if found is None else found.square().sum((1, 2))
        for value, found in zip(flat, gradients, strict=True)
    ]
    return {name: torch.stack(sums[i :: len(names)][::-1], 1).detach() for i, name in enumerate(names)}


def _check(layer: Recurrent, x: Tensor, of: str) -> None:
    if layer.bidirectional:
        raise BadInput("a bidirectional layer has no last step that all others come before")
    if x.dim() != 2 or x.shape[1] != layer.input_size or not len(x):
        raise BadInput(f"the input is one sequence [T, {layer.input_size}], not {list(x.shape)}")
    if of and of not in layer.state_names:
        raise BadInput(f"the cell has no state called {of}; it has {', '.join(layer.state_names)}")
