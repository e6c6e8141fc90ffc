"""The cells of the literature, a few lines of equations each.

layer = conveyor.Recurrent(conveyor.zoo.CoupledLSTM, 32, 128)
"""

from conveyor.cell import Cell
from conveyor.zoo.gru import GRU, ResetBeforeGRU
from conveyor.zoo.lstm import LSTM, CoupledLSTM, FullPeepholeLSTM, PeepholeLSTM, ProjectedLSTM
from conveyor.zoo.rnn import RNN, ReluRNN

# The names that the command line, configurations and reports use. A new cell joins here, and so joins every test.
CELLS: dict[str, type[Cell]] = {
    "rnn": RNN,
    "rnn-relu": ReluRNN,
    "lstm": LSTM,
    "lstm-peephole": PeepholeLSTM,
    "lstm-peephole-full": FullPeepholeLSTM,
    "lstm-coupled": CoupledLSTM,
    "gru": GRU,
    "gru-reset-before": ResetBeforeGRU,
}

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "RNN",
    "CoupledLSTM",
    "FullPeepholeLSTM",
    "PeepholeLSTM",
    "ProjectedLSTM",
    "ReluRNN",
    "ResetBeforeGRU",
]
