"""The layers and cells of `torch.nn`, run from their equations, and models of it changed in place.

layers.py        RNN, LSTM, GRU
cells.py         RNNCell, LSTMCell, GRUCell
replace.py       a model's layers made ours, and torch.nn's again
checkpoints.py   weights that conveyor 0.1 saved gate by gate
"""

from conveyor.nn.cells import GRUCell, LSTMCell, RNNCell
from conveyor.nn.layers import GRU, LSTM, RNN
from conveyor.nn.replace import Replaced, replace, restore

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Replaced", "replace", "restore"]
