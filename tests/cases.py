"""Every cell that the laws must hold for. A new cell joins here with its oracle, and so joins every test."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import sigmoid, tanh

import conveyor
from conveyor import zoo
from oracles import cells as oracle


class Leaky(conveyor.Cell):
    """A user's own: one state, a parameter that no affine map holds."""

    state = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.rate = torch.nn.Parameter(torch.linspace(-1, 1, hidden_size))

    def step(self, x, h):
        h_tilde = tanh(self.candidate(h, x))
        a = sigmoid(self.rate)
        h = (1 - a) * h + a * h_tilde
        return h


class Fed(conveyor.Cell):
    """A user's own: a layer norm, states of different widths, a further stream and a constant."""

    state = ("h", "memory")
    constant = ("key",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, memory=hidden_size + 2, drive=2, key=hidden_size)
        self.norm = torch.nn.LayerNorm(hidden_size)
        self.write = self.affine("memory", "h", "x", out=hidden_size + 2)
        self.read = self.affine("memory", "drive")

    def step(self, x, h, drive, memory, key):
        memory = 0.5 * memory + tanh(self.write(memory, h, x))
        return self.norm(tanh(self.read(memory, drive)) + key), memory


def matrices(**rows):
    """From a cell's named parameters to a paper's matrices: symbol="module: operand operand" or a parameter's name."""

    def gather(named):
        found = {}
        for symbol, source in rows.items():
            module, colon, operands = source.partition(": ")
            found[symbol] = (
                np.concatenate([block(named[f"{module}.weight_{name}"]) for name in operands.split()], axis=1)
                if colon
                else named[source]
            )
        return found

    return gather


def block(weight):
    return np.diag(weight) if weight.ndim == 1 else weight


GATES = {
    "W_f": "forget: h x",
    "b_f": "forget.bias",
    "W_i": "input: h x",
    "b_i": "input.bias",
    "W_C": "candidate: h x",
    "b_C": "candidate.bias",
    "W_o": "output: h x",
    "b_o": "output.bias",
}
PEEPHOLES = {"W_f": "forget: C h x", "W_i": "input: C h x", "W_o": "output: C h x"}
COUPLED = {symbol: source for symbol, source in GATES.items() if not source.startswith("input")}


@dataclass(frozen=True)
class Case:
    """A cell, how it is made, and what it must compute."""

    cell: type[conveyor.Cell]
    oracle: Callable | None = None
    matrices: Callable | None = None
    options: dict = field(default_factory=dict)

    def layer(self, input_size, hidden_size, *args, **keywords):
        return conveyor.Recurrent(self.cell, input_size, hidden_size, *args, **self.options, **keywords)


CASES = {
    "rnn": Case(zoo.RNN, oracle.rnn, matrices(W="hidden: h x", b="hidden.bias")),
    "rnn-relu": Case(zoo.ReluRNN, oracle.rnn_relu, matrices(W="hidden: h x", b="hidden.bias")),
    "lstm": Case(zoo.LSTM, oracle.lstm, matrices(**GATES)),
    "lstm-projected": Case(
        zoo.ProjectedLSTM, oracle.lstm_projected, matrices(**GATES, W_r="projection: m"), {"proj_size": 2}
    ),
    "lstm-peephole": Case(zoo.PeepholeLSTM, oracle.lstm_peephole, matrices(**{**GATES, **PEEPHOLES})),
    "lstm-peephole-full": Case(zoo.FullPeepholeLSTM, oracle.lstm_peephole, matrices(**{**GATES, **PEEPHOLES})),
    "lstm-coupled": Case(zoo.CoupledLSTM, oracle.lstm_coupled, matrices(**COUPLED)),
    "gru": Case(
        zoo.GRU,
        oracle.gru,
        matrices(
            W_z="update: h x",
            b_z="update.bias",
            W_r="reset: h x",
            b_r="reset.bias",
            W_in="candidate: x",
            b_in="candidate.bias",
            W_hn="recall: h",
            b_hn="recall.bias",
        ),
    ),
    "gru-reset-before": Case(
        zoo.ResetBeforeGRU, oracle.gru_reset_before, matrices(W_z="update: h x", W_r="reset: h x", W="candidate: h x")
    ),
    "own": Case(Leaky),
    "own, with streams": Case(Fed),
}
PAPERS = {name: case for name, case in CASES.items() if case.oracle}


def others(layer, steps, batch, dtype=torch.float64):
    """Random values for what the layer's cell takes besides x and its states, by name."""
    cell = layer.cell
    names = [name for name in cell.arguments if name not in ("x", *cell.state)]
    shapes = {name: (batch,) if name in cell.constant else (steps, batch) for name in names}
    return {name: torch.randn(*shape, cell.widths[name], dtype=dtype) for name, shape in shapes.items()}


def random_state(layer, batch, dtype=torch.float64):
    widths = [layer.cell.widths[name] for name in layer.state_names]
    states = tuple(torch.randn(len(layer.cells), batch, width, dtype=dtype) * 0.5 for width in widths)
    return states if len(states) > 1 else states[0]


def tensors(state):
    """The tensors of a state, however many it has."""
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)
