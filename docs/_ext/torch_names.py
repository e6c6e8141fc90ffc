"""The names of PyTorch that our pages link to.

An inventory of all its names would have to be fetched at every build. This one has the names that we use, each checked
against the PyTorch that is installed, with the address that PyTorch gives the page of a name.
"""

import zlib
from operator import attrgetter
from pathlib import Path

import torch

ADDRESS = "https://docs.pytorch.org/docs/stable/"
CLASSES = """
torch.nn.GRU torch.nn.GRUCell torch.nn.LSTM torch.nn.LSTMCell torch.nn.RNN torch.nn.RNNCell torch.nn.Module
torch.nn.Linear torch.nn.LayerNorm torch.nn.ModuleList torch.nn.Sequential torch.nn.utils.rnn.PackedSequence
"""
FUNCTIONS = """
torch.compile torch.no_grad torch.randn torch.where torch.nn.utils.rnn.pack_padded_sequence
torch.nn.utils.clip_grad_norm_ torch.func.vmap
"""
HEAD = b"""# Sphinx inventory version 2
# Project: PyTorch
# Version:
# The remainder of this file is compressed using zlib.
"""


def write(path: Path) -> Path:
    """Writes the inventory, in the format of Sphinx. Raises AttributeError for a name that PyTorch does not have."""
    kinds = [(name, "class") for name in CLASSES.split()] + [(name, "function") for name in FUNCTIONS.split()]
    for name, _ in kinds:
        attrgetter(name.removeprefix("torch."))(torch)
    lines = "".join(f"{name} py:{kind} 1 generated/{name}.html#$ -\n" for name, kind in kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEAD + zlib.compress(lines.encode()))
    return path
