"""Long short-term memory, and what the essay varies in it: peepholes, and forget and input gate coupled."""

from collections.abc import Collection

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell

GATES = ("forget", "input", "output")


class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    f_t = σ(W_f · [h_{t-1}, x_t] + b_f),  i_t and o_t alike,  C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C),
    C_t = f_t * C_{t-1} + i_t * C̃_t,  h_t = o_t * tanh(C_t)
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.forget = self.affine("h", "x")
        self.input = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        i = sigmoid(self.input(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C


class ProjectedLSTM(Cell):
    """LSTM whose output is a projection of `proj_size` units, as torch.nn has it (after Sak et al. 2014).

    Without that paper's peepholes and its optional second projection.

    f_t, i_t, o_t, C̃_t and C_t as in the LSTM; m_t = o_t * tanh(C_t), h_t = W · m_t
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int, proj_size: int):
        super().__init__(input_size, hidden_size, h=proj_size, m=hidden_size)
        self.forget = self.affine("h", "x")
        self.input = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")
        self.projection = self.affine("m", out=proj_size, bias=False)

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        i = sigmoid(self.input(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(h, x))
        m = o * tanh(C)
        h = self.projection(m)
        return h, C


class PeepholeLSTM(Cell):
    """LSTM with peepholes: the gates see the memory, each unit its own (Gers & Schmidhuber 2000).

    f_t = σ(W_f · [C_{t-1}, h_{t-1}, x_t] + b_f),  i_t alike,  o_t = σ(W_o · [C_t, h_{t-1}, x_t] + b_o) sees the new C;
    the rest as in the LSTM. The block of W for C is diagonal.

    `peepholes` names the gates that look: any of "forget", "input", "output".
    """

    state = ("h", "C")
    peephole = "diagonal"

    def __init__(self, input_size: int, hidden_size: int, peepholes: Collection[str] = GATES):
        super().__init__(input_size, hidden_size)
        if not isinstance(peepholes, list | tuple | set) or not set(peepholes) <= set(GATES):
            raise ValueError(f"peepholes is a list of gates out of {GATES}, not {peepholes!r}")
        looks = {gate: self.peephole if gate in peepholes else "zero" for gate in GATES}
        self.forget = self.affine("C", "h", "x", C=looks["forget"])
        self.input = self.affine("C", "h", "x", C=looks["input"])
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x", C=looks["output"])

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(C, h, x))
        i = sigmoid(self.input(C, h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class FullPeepholeLSTM(PeepholeLSTM):
    """LSTM with peepholes through full matrices, as the essay writes W · [C, h, x]: a gate sees every unit's memory.

    The equations of the peephole LSTM; the block of W for C is a full matrix.
    """

    peephole = "full"


class CoupledLSTM(Cell):
    """LSTM with coupled forget and input gates, also known as CIFG: it takes in only what it forgets room for.

    C_t = f_t * C_{t-1} + (1 - f_t) * C̃_t; the rest as in the LSTM.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.forget = self.affine("h", "x")
        self.candidate = self.affine("h", "x")
        self.output = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(h, x))
        C_tilde = tanh(self.candidate(h, x))
        C = f * C + (1 - f) * C_tilde
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C
