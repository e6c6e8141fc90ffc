"""The plain recurrent network."""

from torch import Tensor, relu, tanh

from conveyor.cell import Cell


class RNN(Cell):
    """Plain RNN, one tanh layer (Elman 1990; the essay's "standard RNN").

    h_t = tanh(W · [h_{t-1}, x_t] + b)

    Shapes: x [B, input]; h [B, hidden]; W [hidden, hidden + input].
    Paper: Elman 1990, "Finding Structure in Time".
    Departures: tanh, as in the essay; Elman's units are logistic.
    """

    state = ("h",)

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.hidden = self.affine("h", "x")

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        h = tanh(self.hidden(h, x))
        return h


class ReluRNN(RNN):
    """Plain RNN with a rectifier instead of tanh.

    h_t = max(0, W · [h_{t-1}, x_t] + b)

    Shapes: as in the plain RNN.
    Paper: as in `torch.nn.RNN`; Le, Jaitly & Hinton 2015 ("A Simple Way to Initialize Recurrent Networks of Rectified
    Linear Units") initialise the recurrent block of W with the identity.
    Departures: W is initialised randomly here.
    """

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        h = relu(self.hidden(h, x))
        return h
