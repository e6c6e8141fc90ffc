"""The three best cells of a search over ten thousand, and the LSTM that starts by remembering."""

import math
from numbers import Real

from torch import Tensor, nn, sigmoid, tanh

from conveyor.cell import Cell
from conveyor.zoo.lstm import LSTM


class MUT1(Cell):
    """The first of three mutated cells found by search: z sees the input only (Jozefowicz et al. 2015).

    e_t = W_x · x_t
    z_t = σ(W_z · e_t + b_z)
    r_t = σ(W_r · [h_{t-1}, e_t] + b_r)
    h̃_t = tanh(W_h · (r_t * h_{t-1}) + tanh(e_t) + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t

    Shapes: x [B, input]; e, h [B, hidden]; W_x [hidden, input]; W_z, W_h [hidden, hidden]; W_r [hidden, 2 hidden].
    Paper: Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    Departures: the paper's x is e here. It adds its bare input to values of the width of h, so the input is brought to
    that width by a matrix of its own, W_x, which is learnt; with the identity as W_x, the cell is the paper's.
    Doubt: the equations are those of two secondary sources, which agree.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size, e=hidden_size)
        self.embed = self.affine("x", bias=False)
        self.update = self.affine("e")
        self.reset = self.affine("h", "e")
        self.recall = self.affine("h")

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        e = self.embed(x)
        z = sigmoid(self.update(e))
        r = sigmoid(self.reset(h, e))
        h_tilde = tanh(self.recall(r * h) + tanh(e))
        h = (1 - z) * h + z * h_tilde
        return h


class MUT2(Cell):
    """The second of three mutated cells found by search: r sees the bare input (Jozefowicz et al. 2015).

    e_t = W_x · x_t
    z_t = σ(W_z · [h_{t-1}, e_t] + b_z)
    r_t = σ(W_r · h_{t-1} + e_t + b_r)
    h̃_t = tanh(W_h · [r_t * h_{t-1}, e_t] + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t

    Shapes: x [B, input]; e, h [B, hidden]; W_x [hidden, input]; W_z, W_h [hidden, 2 hidden]; W_r [hidden, hidden].
    Paper: as MUT1.
    Departures: as in MUT1, the paper's x is e here. (A matrix for the bare x alone would make r a GRU's.)
    Doubt: as MUT1's.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size, e=hidden_size)
        self.embed = self.affine("x", bias=False)
        self.update = self.affine("h", "e")
        self.reset = self.affine("h")
        self.candidate = self.affine("h", "e")

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        e = self.embed(x)
        z = sigmoid(self.update(h, e))
        r = sigmoid(self.reset(h) + e)
        h_tilde = tanh(self.candidate(r * h, e))
        h = (1 - z) * h + z * h_tilde
        return h


class MUT3(Cell):
    """The third of three mutated cells found by search: z sees tanh(h) (Jozefowicz et al. 2015).

    z_t = σ(W_z · [tanh(h_{t-1}), x_t] + b_z)
    r_t = σ(W_r · [h_{t-1}, x_t] + b_r)
    h̃_t = tanh(W_h · [r_t * h_{t-1}, x_t] + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t

    Shapes: x [B, input]; h [B, hidden]; every W [hidden, hidden + input].
    Paper: as MUT1.
    Departures: none known.
    Doubt: as MUT1's.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.update = self.affine("h", "x")
        self.reset = self.affine("h", "x")
        self.candidate = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = sigmoid(self.update(tanh(h), x))
        r = sigmoid(self.reset(h, x))
        h_tilde = tanh(self.candidate(r * h, x))
        h = (1 - z) * h + z * h_tilde
        return h


class ForgetBiasLSTM(LSTM):
    """LSTM whose forget gate starts open: its bias is 1 at first (Gers et al. 2000; Jozefowicz et al. 2015).

    The equations and shapes of the LSTM; at the start every b_f is `forget_bias`, and what else is learnt is random.

    Paper: Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    Departures: a layer with `bias=False` has no forget bias either.
    Doubt: secondary sources write that paper's own LSTM with o_t = tanh(W_o · [h_{t-1}, x_t] + b_o) in place of the σ.
    That was not confirmed, and this is the essay's LSTM.
    """

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float = 1.0):
        super().__init__(input_size, hidden_size)
        if not isinstance(forget_bias, Real) or isinstance(forget_bias, bool):
            raise TypeError(f"forget_bias is a number, not {forget_bias!r}")
        if not math.isfinite(forget_bias):
            raise ValueError(f"forget_bias must be finite, not {forget_bias!r}")
        self.forget_bias: float = float(forget_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The forget bias; the maps draw the rest themselves, before this."""
        if self.forget.bias is not None:
            nn.init.constant_(self.forget.bias, self.forget_bias)
