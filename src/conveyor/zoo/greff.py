"""The LSTM with peepholes and its eight variants, as compared by Greff et al. 2015.

Symbols: the paper's z is C̃ here, its y is h, its c is C. Its W, R and diagonal p are the blocks of W for x, h and C.
Its g and h, the activation functions of the block's input and output, are both tanh.
"""

from torch import Tensor, sigmoid, tanh

from conveyor.cell import Cell


class VanillaLSTM(Cell):
    """LSTM with peepholes on all gates, the vanilla LSTM of Greff et al. 2015 (Graves & Schmidhuber 2005).

    C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C)
    i_t = σ(W_i · [C_{t-1}, h_{t-1}, x_t] + b_i)
    f_t = σ(W_f · [C_{t-1}, h_{t-1}, x_t] + b_f)
    C_t = f_t * C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [C_t, h_{t-1}, x_t] + b_o)
    h_t = o_t * tanh(C_t)

    The blocks of W for C are diagonal. The paper's z, y, c and p are C̃, h, C and these diagonals.

    Shapes: x [B, input]; h, C [B, hidden]; every W [hidden, hidden + input]; W_i, W_f, W_o also a diagonal [hidden].
    Paper: Greff, Srivastava, Koutník, Steunebrink & Schmidhuber 2015, "LSTM: A Search Space Odyssey".
    Departures: none known. (`PeepholeLSTM` has the same equations, and its peepholes are optional.)
    Doubt: these equations and those of the eight variants are from memory; the list of variants is confirmed.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("C", "h", "x", C="diagonal")
        self.forget = self.affine("C", "h", "x", C="diagonal")
        self.output = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, h, x))
        f = sigmoid(self.forget(C, h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class NoInputGateLSTM(Cell):
    """Vanilla LSTM with no input gate, NIG (Greff et al. 2015).

    C_t = f_t * C_{t-1} + C̃_t

    The rest, shapes and paper as in the vanilla LSTM: i_t = 1.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.forget = self.affine("C", "h", "x", C="diagonal")
        self.output = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        f = sigmoid(self.forget(C, h, x))
        C = f * C + C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class NoForgetGateLSTM(Cell):
    """Vanilla LSTM with no forget gate, NFG (Greff et al. 2015).

    C_t = C_{t-1} + i_t * C̃_t

    The rest, shapes and paper as in the vanilla LSTM: f_t = 1.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("C", "h", "x", C="diagonal")
        self.output = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, h, x))
        C = C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class NoOutputGateLSTM(Cell):
    """Vanilla LSTM with no output gate, NOG (Greff et al. 2015).

    h_t = tanh(C_t)

    The rest, shapes and paper as in the vanilla LSTM: o_t = 1.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("C", "h", "x", C="diagonal")
        self.forget = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, h, x))
        f = sigmoid(self.forget(C, h, x))
        C = f * C + i * C_tilde
        h = tanh(C)
        return h, C


class NoInputActivationLSTM(VanillaLSTM):
    """Vanilla LSTM with no activation function at its input, NIAF (Greff et al. 2015).

    C̃_t = W_C · [h_{t-1}, x_t] + b_C

    The rest, shapes and paper as in the vanilla LSTM.
    """

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = self.candidate(h, x)
        i = sigmoid(self.input(C, h, x))
        f = sigmoid(self.forget(C, h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class NoOutputActivationLSTM(VanillaLSTM):
    """Vanilla LSTM with no activation function at its output, NOAF (Greff et al. 2015).

    h_t = o_t * C_t

    The rest, shapes and paper as in the vanilla LSTM.
    """

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, h, x))
        f = sigmoid(self.forget(C, h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * C
        return h, C


class NoPeepholesLSTM(Cell):
    """Vanilla LSTM with no peepholes, NP (Greff et al. 2015): the essay's LSTM, with the gates in the paper's order.

    i_t = σ(W_i · [h_{t-1}, x_t] + b_i),  f_t and o_t the same with their own weights

    The rest, shapes and paper as in the vanilla LSTM, without the diagonals.
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("h", "x")
        self.forget = self.affine("h", "x")
        self.output = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(h, x))
        f = sigmoid(self.forget(h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(h, x))
        h = o * tanh(C)
        return h, C


class CoupledPeepholeLSTM(Cell):
    """Vanilla LSTM with coupled input and forget gates, CIFG (Greff et al. 2015): peepholes, and f = 1 - i.

    C_t = (1 - i_t) * C_{t-1} + i_t * C̃_t

    The rest, shapes and paper as in the vanilla LSTM: f_t = 1 - i_t. (The essay's `CoupledLSTM` has i_t = 1 - f_t and
    no peepholes.)
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("C", "h", "x", C="diagonal")
        self.output = self.affine("C", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, h, x))
        f = 1 - i
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, h, x))
        h = o * tanh(C)
        return h, C


class FullGateRecurrenceLSTM(Cell):
    """Vanilla LSTM with full gate recurrence, FGR (Greff et al. 2015): every gate reads all gates of t-1.

    i_t = σ(W_i · [C_{t-1}, i_{t-1}, f_{t-1}, o_{t-1}, h_{t-1}, x_t] + b_i)
    f_t = σ(W_f · [C_{t-1}, i_{t-1}, f_{t-1}, o_{t-1}, h_{t-1}, x_t] + b_f)
    o_t = σ(W_o · [C_t, i_{t-1}, f_{t-1}, o_{t-1}, h_{t-1}, x_t] + b_o)

    The rest and the paper as in the vanilla LSTM. The paper's nine matrices R_ii, R_fi, ... are the blocks of W_i, W_f
    and W_o for i, f and o. The gates are states, which are initially zero if no initial state is given.

    Shapes: x [B, input]; h, C, i, f, o [B, hidden]; W_C [hidden, hidden + input]; W_i, W_f, W_o [hidden,
    4 hidden + input] and a diagonal [hidden].
    Doubt: as for the vanilla LSTM; that the gates before the first step are zero is our interpretation.
    """

    state = ("h", "C", "i", "f", "o")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.input = self.affine("C", "i", "f", "o", "h", "x", C="diagonal")
        self.forget = self.affine("C", "i", "f", "o", "h", "x", C="diagonal")
        self.output = self.affine("C", "i", "f", "o", "h", "x", C="diagonal")

    def step(self, x: Tensor, h: Tensor, C: Tensor, i: Tensor, f: Tensor, o: Tensor) -> tuple[Tensor, ...]:
        gates = i, f, o  # of t-1
        C_tilde = tanh(self.candidate(h, x))
        i = sigmoid(self.input(C, *gates, h, x))
        f = sigmoid(self.forget(C, *gates, h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(C, *gates, h, x))
        h = o * tanh(C)
        return h, C, i, f, o
