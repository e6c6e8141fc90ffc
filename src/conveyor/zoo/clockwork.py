"""The clockwork RNN: a plain RNN in modules, each updated with its own period."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn, tanh, where

from conveyor.cell import Affine
from conveyor.cell.cell import Cell, is_whole


class ClockworkRNN(Cell):
    """Clockwork RNN: modules with periods T_k, each updated only at every T_k-th step (Koutník et al. 2014).

        rnn = conveyor.Recurrent(conveyor.zoo.ClockworkRNN, 32, 128, periods=[1, 2, 4, 8])
        output, h = rnn(x)                                  # x: [T, B, 32], output: [T, B, 128]

    h is split into g equal parts, one for each module. For module k:

    h_t^k = tanh(W_H^k · [h_{t-1}^k, ..., h_{t-1}^g] + W_I^k · x_t + b^k)   where t mod T_k = 0
    h_t^k = h_{t-1}^k   elsewhere

    The periods ascend, so the recurrent matrix is block upper-triangular: slow modules feed fast ones, never the
    reverse. The kernel skips the products with h of modules that are not updated; the products with x and the weight
    gradients are computed for all steps at once. t counts from the layer's `start`: pass the number of the first step
    when a sequence is continued.

    Shapes: x [B, input]; h [B, hidden]; W_H^k [hidden / g, (g - k + 1) · hidden / g], W_I^k [hidden / g, input].
    Paper: Koutník, Greff, Gomez & Schmidhuber 2014, "A Clockwork RNN".
    Departures: a bias; uniform initial weights as for all cells here, where the paper's are normal with standard
    deviation 0.1; periods may be equal. The paper's readout y_t = f(W_O · h_t) is left to the user of the layer.
    Doubt: whether the paper's t counts from 0, so that all modules are updated in the first step, as here.

    Raises ValueError unless the periods are ascending positive integers and their number divides the hidden size.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int, periods: Sequence[int] = (1, 2, 4, 8)):
        super().__init__(input_size, hidden_size)
        hidden_size = self.hidden_size
        self.periods = check_periods(periods)
        if hidden_size % len(self.periods):
            raise ValueError(
                f"hidden_size {hidden_size} does not divide into {len(self.periods)} equal modules, one for each of "
                f"the periods {list(self.periods)}: use a multiple of {len(self.periods)}, or other periods"
            )
        self.size = hidden_size // len(self.periods)
        bound = 1 / math.sqrt(hidden_size)
        slower = (hidden_size - k * self.size for k in range(len(self.periods)))  # units from the k-th module on
        self.hidden = nn.ModuleList(Affine(self.size, {"h": n, "x": input_size}, {}, True, bound) for n in slower)

    def step(self, x: Tensor, h: Tensor, t: Tensor) -> Tensor:
        modules = []
        for k, (period, hidden) in enumerate(zip(self.periods, self.hidden, strict=True)):
            slower = h[:, k * self.size :]  # the units of this module and of all slower ones
            h_tilde = tanh(hidden(slower, x))
            modules.append(where(t % period == 0, h_tilde, slower[:, : self.size]))
        h = torch.cat(modules, -1)
        return h


def check_periods(periods: Sequence[int]) -> tuple[int, ...]:
    """The periods as a tuple. Raises ValueError unless they are ascending positive integers."""
    if not isinstance(periods, Sequence) or isinstance(periods, str) or not periods:
        raise ValueError(f"periods must be a list of integers such as [1, 2, 4, 8], not {periods!r}")
    if any(not is_whole(period) or period < 1 for period in periods):
        raise ValueError(f"periods must be positive integers, not {list(periods)}")
    if list(periods) != sorted(periods):
        raise ValueError(
            f"periods must ascend, since slow modules feed only fast ones: {sorted(periods)}, not {periods}"
        )
    return tuple(map(int, periods))
