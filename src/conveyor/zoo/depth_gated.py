"""The depth-gated LSTM, whose layers' memories are joined by gates."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell


class DepthGatedLSTM(Cell):
    """LSTM whose memory also takes in that of the layer below, through a depth gate (Yao et al. 2015).

    d_t = σ(w_d * [C_t^below, C_{t-1}] + W_d · x_t + b_d),
    f_t = σ(w_f * C_{t-1} + W_f · [h_{t-1}, x_t] + b_f),  i_t alike,  C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C),
    C_t = d_t * C_t^below + f_t * C_{t-1} + i_t * C̃_t,
    o_t = σ(w_o * C_t + W_o · [h_{t-1}, x_t] + b_o),  h_t = o_t * tanh(C_t)

    C_t^below is the memory of the layer below at the same step, and in the lowest layer a projection of x_t, as in the
    authors' code. With d shut this is a stack of LSTMs with peepholes. Shapes: x [B, input_size], h and C
    [B, hidden_size]. The gate d is that of the authors' code; that the other gates are those of an LSTM with diagonal
    peepholes, each free, was written from memory of the paper. The code does otherwise: CoupledDepthGatedLSTM.
    """

    state = ("h", "C")
    below: ClassVar[Mapping[str, str]] = {"C_below": "C"}

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.depth = self.affine("C_below", "C", "x", C_below="diagonal", C="diagonal")
        self.forget = self.affine("C", "h", "x", C="diagonal")
        self.input = self.affine("C", "h", "x", C="diagonal")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor, C_below: Tensor) -> tuple[Tensor, Tensor]:
        d = sigmoid(self.depth(C_below, C, x))
        f = sigmoid(self.forget(C, h, x))
        i = sigmoid(self.input(C, h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = d * C_below + f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class CoupledDepthGatedLSTM(Cell):
    """Depth-gated LSTM as its authors' code has it: f = 1 - i, and peepholes through full matrices.

    f_t = 1 - i_t; in i_t and o_t the block of W for C is a full matrix; the rest as in DepthGatedLSTM.
    """

    state = ("h", "C")
    below: ClassVar[Mapping[str, str]] = {"C_below": "C"}

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.depth = self.affine("C_below", "C", "x", C_below="diagonal", C="diagonal")
        self.input = self.affine("C", "h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor, C_below: Tensor) -> tuple[Tensor, Tensor]:
        d = sigmoid(self.depth(C_below, C, x))
        i = sigmoid(self.input(C, h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = d * C_below + (1 - i) * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C
