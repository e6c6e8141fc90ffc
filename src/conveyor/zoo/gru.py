"""The gated recurrent unit, with the reset gate after the matrix product (torch.nn) and before it (the essay)."""

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell


class GRU(Cell):
    """Gated recurrent unit as in `torch.nn.GRU`: reset after the matrix product, biases, and z keeps the state.

    z_t = σ(W_z · [h_{t-1}, x_t] + b_z)
    r_t = σ(W_r · [h_{t-1}, x_t] + b_r)
    h̃_t = tanh(W_x · x_t + b_x + r_t * (W_h · h_{t-1} + b_h))
    h_t = z_t * h_{t-1} + (1 - z_t) * h̃_t

    Shapes: x [B, input]; h [B, hidden]; W_z, W_r [hidden, hidden + input]; W_x [hidden, input]; W_h [hidden, hidden].
    Paper: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", in the form of `torch.nn.GRU` and cuDNN.
    Departures: the paper resets before the matrix product and has no biases (`ResetBeforeGRU`).
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.update = self.affine("h", "x")
        self.reset = self.affine("h", "x")
        self.candidate = self.affine("x")
        self.recall = self.affine("h")

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = sigmoid(self.update(h, x))
        r = sigmoid(self.reset(h, x))
        h_tilde = tanh(self.candidate(x) + r * self.recall(h))
        h = z * h + (1 - z) * h_tilde
        return h


class ResetBeforeGRU(Cell):
    """Gated recurrent unit as in the essay: reset before the matrix product, no biases (Cho et al. 2014).

    z_t = σ(W_z · [h_{t-1}, x_t])
    r_t = σ(W_r · [h_{t-1}, x_t])
    h̃_t = tanh(W · [r_t * h_{t-1}, x_t])
    h_t = (1 - z_t) * h_{t-1} + z_t * h̃_t

    Option: with `bias=True` each of the three maps has a bias, as ONNX's GRU (linear_before_reset=0) and Keras'
    (reset_after=False); theirs is the paper's z, of which all weights have the other sign.

    Shapes: x [B, input]; h [B, hidden]; every W [hidden, hidden + input].
    Paper: Cho et al. 2014, as in GRU.
    Departures: the paper's z is 1 - z here (it keeps the state); the essay and Chung et al. 2014 have it as here.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = False):
        super().__init__(input_size, hidden_size)
        self.update = self.affine("h", "x", bias=bias)
        self.reset = self.affine("h", "x", bias=bias)
        self.candidate = self.affine("h", "x", bias=bias)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = sigmoid(self.update(h, x))
        r = sigmoid(self.reset(h, x))
        h_tilde = tanh(self.candidate(r * h, x))
        h = (1 - z) * h + z * h_tilde
        return h
