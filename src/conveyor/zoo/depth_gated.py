"""The depth-gated LSTM, in which gates connect the memories of adjacent layers."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell


class DepthGatedLSTM(Cell):
    """LSTM with a depth gate that adds the memory of the layer below to its own (Yao et al. 2015).

    d_t = σ(W_d · [C_t^below, C_{t-1}, x_t] + b_d)
    f_t = σ(W_f · [C_{t-1}, h_{t-1}, x_t] + b_f)
    i_t = σ(W_i · [C_{t-1}, h_{t-1}, x_t] + b_i)
    C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C)
    C_t = d_t * C_t^below + f_t * C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [C_t, h_{t-1}, x_t] + b_o)
    h_t = o_t * tanh(C_t)

    C_t^below is the memory of the layer below at the same step; in the lowest layer it is a projection of x_t. The
    blocks of W for memories are diagonal. With d = 0 this is a stack of LSTMs with peepholes.

    Shapes: x [B, input]; h, C, C^below [B, hidden].
    Paper: Yao, Cohn, Vylomova, Duh & Dyer 2015, "Depth-Gated LSTM".
    Departures: the authors' code has f = 1 - i and full matrices for C in i and o (`CoupledDepthGatedLSTM`).
    Doubt: d_t and the projection follow the authors' code; the other gates, independent and with diagonal peepholes,
    are from memory of the paper, and the paper may treat the lowest layer differently.
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
    """Depth-gated LSTM as in its authors' code: f = 1 - i, and peepholes through full matrices.

    C_t = d_t * C_t^below + (1 - i_t) * C_{t-1} + i_t * C̃_t

    The rest as in `DepthGatedLSTM`, except that the block for C is a full matrix in W_i and W_o.

    Shapes: as there.
    Paper: the code of Yao et al. 2015 (kaishengyao/cnn, cnn/dglstm.cc).
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
