"""The layers of `torch.nn` by their names: constructors, numbers and weights."""

from conveyor.nn.layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
