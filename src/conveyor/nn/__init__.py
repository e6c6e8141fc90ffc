"""The layers and cells of `torch.nn`, run from their equations, and models of it changed in place.

layers.py        RNN, LSTM, GRU
cells.py         RNNCell, LSTMCell, GRUCell
replace.py       a model's layers made ours, and torch.nn's again
checkpoints.py   weights that conveyor 0.1 saved gate by gate
incoming/        layers with the weights of ONNX, Keras and Flax
"""

from conveyor.nn.cells import GRUCell, LSTMCell, RNNCell
from conveyor.nn.incoming import Activation, Reversed, from_flax, from_keras, from_onnx
from conveyor.nn.layers import GRU, LSTM, RNN
from conveyor.nn.replace import Replaced, replace, restore

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Replaced",
    "Reversed",
    "from_flax",
    "from_keras",
    "from_onnx",
    "replace",
    "restore",
]
