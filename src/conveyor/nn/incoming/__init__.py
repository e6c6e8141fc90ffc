"""Layers with the weights of ONNX, Keras and Flax.

activations.py   the functions of one value that these have
cells.py         the cells with activations of one's choice
building.py      a layer from its gates' weights
reversed.py      a layer that reads its sequences from the end
onnx.py          what a node of an ONNX model computes
onnx_file.py     the model: the node, and what it stores
keras.py         what Keras' arrays mean
keras_file.py    Keras' files: a layer's arrays and settings
flax.py          the tree of parameters of a cell of Flax
"""

from conveyor.nn.incoming.activations import Activation
from conveyor.nn.incoming.flax import from_flax
from conveyor.nn.incoming.keras import from_keras
from conveyor.nn.incoming.onnx import from_onnx
from conveyor.nn.incoming.reversed import Reversed

__all__ = ["Activation", "Reversed", "from_flax", "from_keras", "from_onnx"]
