"""The cells of ONNX, Keras and Flax with activations of one's choice; with the usual ones they are those of the zoo."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from conveyor import zoo
from conveyor.cell import Cell
from conveyor.nn.incoming.activations import SIGMOID, TANH, Activation


class ActivatedRNN(zoo.RNN):
    """Plain RNN: h_t = f(W · [h_{t-1}, x_t] + b), where f is its one activation."""

    def __init__(self, input_size: int, hidden_size: int, activations: tuple[Activation, ...] = (TANH,)):
        super().__init__(input_size, hidden_size)
        (self.activation,) = activations

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        h = self.activation(self.hidden(h, x))
        return h


class ActivatedLSTM(zoo.PeepholeLSTM):
    """LSTM with peepholes on the gates that are named. Its activations are those of gates, candidate and memory."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activations: tuple[Activation, ...] = (SIGMOID, TANH, TANH),
        peepholes: Collection[str] = (),
    ):
        super().__init__(input_size, hidden_size, peepholes)
        self.of_gates, self.of_candidate, self.of_memory = activations

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        f = self.of_gates(self.forget(C, h, x))
        i = self.of_gates(self.input(C, h, x))
        C_tilde = self.of_candidate(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = self.of_gates(self.output(C, h, x))
        h = o * self.of_memory(C)
        return h, C


class ActivatedCoupledLSTM(Cell):
    """LSTM with f = 1 - i, and peepholes if asked. Its activations are those of gates, candidate and memory."""

    state = ("h", "C")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activations: tuple[Activation, ...] = (SIGMOID, TANH, TANH),
        peepholes: Collection[str] = (),
    ):
        super().__init__(input_size, hidden_size)
        self.of_gates, self.of_candidate, self.of_memory = activations
        blocks = {gate: "diagonal" if gate in peepholes else "zero" for gate in ("input", "output")}
        self.input = self.affine("C", "h", "x", C=blocks["input"])
        self.candidate = self.affine("h", "x")
        self.output = self.affine("C", "h", "x", C=blocks["output"])

    def step(self, x: Tensor, h: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        i = self.of_gates(self.input(C, h, x))
        f = 1 - i
        C_tilde = self.of_candidate(self.candidate(h, x))
        C = f * C + i * C_tilde
        o = self.of_gates(self.output(C, h, x))
        h = o * self.of_memory(C)
        return h, C


class ActivatedGRU(zoo.GRU):
    """GRU that resets after the matrix product. Its activations are those of gates and candidate."""

    def __init__(self, input_size: int, hidden_size: int, activations: tuple[Activation, ...] = (SIGMOID, TANH)):
        super().__init__(input_size, hidden_size)
        self.of_gates, self.of_candidate = activations

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.of_gates(self.update(h, x))
        r = self.of_gates(self.reset(h, x))
        h_tilde = self.of_candidate(self.candidate(x) + r * self.recall(h))
        h = z * h + (1 - z) * h_tilde
        return h


class ActivatedResetBeforeGRU(zoo.ResetBeforeGRU):
    """GRU that resets before the product, and whose z keeps the state. Activations: those of gates and candidate."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activations: tuple[Activation, ...] = (SIGMOID, TANH),
        bias: bool = False,
    ):
        super().__init__(input_size, hidden_size, bias)
        self.of_gates, self.of_candidate = activations

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.of_gates(self.update(h, x))
        r = self.of_gates(self.reset(h, x))
        h_tilde = self.of_candidate(self.candidate(r * h, x))
        h = z * h + (1 - z) * h_tilde
        return h
