"""Recurrent networks from the equations of one step.

rnn = conveyor.LSTM(32, 128, num_layers=2)          # as torch.nn.LSTM(32, 128, num_layers=2)
output, (h, C) = rnn(x)                             # x: [T, B, 32]
output, state, values = rnn(x, record=True)         # values["f"]: the forget gate, [layers, directions, T, B, 128]
"""

from conveyor import notebook, zoo
from conveyor.cell import Cell
from conveyor.exporting import export, onnx_translations
from conveyor.layer import Recurrent
from conveyor.layer.backends import NotCompiled, backend
from conveyor.layer.compilation import compile
from conveyor.nn import (
    GRU,
    LSTM,
    RNN,
    GRUCell,
    LSTMCell,
    RNNCell,
    from_flax,
    from_keras,
    from_onnx,
    replace,
    restore,
)

notebook.attach()

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "NotCompiled",
    "RNNCell",
    "Recurrent",
    "backend",
    "compile",
    "export",
    "from_flax",
    "from_keras",
    "from_onnx",
    "onnx_translations",
    "replace",
    "restore",
    "zoo",
]
