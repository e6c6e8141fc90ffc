"""The three best cells of a search over ten thousand, and the LSTM that starts by remembering."""

from torch import Tensor, nn, sigmoid, tanh

from conveyor.cell import Cell
from conveyor.zoo.lstm import LSTM


class MUT1(Cell):
    """The first of three mutated cells found by search: z sees the input only (Jozefowicz et al. 2015).

    z_t = σ(W_z · x_t + b_z)
    r_t = σ(W_r · [h_{t-1}, x_t] + b_r)
    h̃_t = tanh(W_h · (r_t * h_{t-1}) + tanh(x̂_t) + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t
    x̂_t = x_t, or W_x · x_t where the input has another width than h

    Shapes: x [B, input]; h [B, hidden]; W_z [hidden, input]; W_r [hidden, hidden + input]; W_h [hidden, hidden];
    W_x [hidden, input].
    Paper: Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    Departures: W_x, which the paper has no need of, as its input has the width of h.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.update = self.affine("x")
        self.reset = self.affine("h", "x")
        self.recall = self.affine("h")
        self.embed = _embedding(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = sigmoid(self.update(x))
        r = sigmoid(self.reset(h, x))
        h_tilde = tanh(self.recall(r * h) + tanh(self.embed(x)))
        h = (1 - z) * h + z * h_tilde
        return h


class MUT2(Cell):
    """The second of three mutated cells found by search: r sees the bare input (Jozefowicz et al. 2015).

    z_t = σ(W_z · [h_{t-1}, x_t] + b_z)
    r_t = σ(W_r · h_{t-1} + x̂_t + b_r)
    h̃_t = tanh(W_h · [r_t * h_{t-1}, x_t] + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t
    x̂_t = x_t, or W_x · x_t where the input has another width than h

    Shapes: x [B, input]; h [B, hidden]; W_z, W_h [hidden, hidden + input]; W_r [hidden, hidden]; W_x [hidden, input].
    Paper: Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    Departures: W_x, which the paper has no need of, as its input has the width of h.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.update = self.affine("h", "x")
        self.reset = self.affine("h")
        self.candidate = self.affine("h", "x")
        self.embed = _embedding(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = sigmoid(self.update(h, x))
        r = sigmoid(self.reset(h) + self.embed(x))
        h_tilde = tanh(self.candidate(r * h, x))
        h = (1 - z) * h + z * h_tilde
        return h


class MUT3(Cell):
    """The third of three mutated cells found by search: z sees tanh(h) (Jozefowicz et al. 2015).

    z_t = σ(W_z · [tanh(h_{t-1}), x_t] + b_z)
    r_t = σ(W_r · [h_{t-1}, x_t] + b_r)
    h̃_t = tanh(W_h · [r_t * h_{t-1}, x_t] + b_h)
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t

    Shapes: x [B, input]; h [B, hidden]; every W [hidden, hidden + input].
    Paper: Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    Departures: none known.
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
        if not isinstance(forget_bias, int | float) or isinstance(forget_bias, bool):
            raise TypeError(f"forget_bias is a number, not {forget_bias!r}")
        self.forget_bias = forget_bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The forget bias; the maps draw the rest themselves, before this."""
        if self.forget.bias is not None:
            nn.init.constant_(self.forget.bias, self.forget_bias)


def _embedding(cell: Cell) -> nn.Module:
    """The input at the width of the state."""
    return nn.Identity() if cell.input_size == cell.hidden_size else cell.affine("x", bias=False)
