"""A cell as a layer, and which target runs it.

recurrent.py     Recurrent: layers, directions, lengths, state
foreign.py       Recurrent.of: a module of PyTorch as a cell
placing.py       brings a new layer to a device and a type
forms.py         converts every form of input to [T, B, ...] and back
backends.py      conveyor.backend: kernels or the loop; the warning for a fallback
symbolic.py      a layer as one node of torch.fx.symbolic_trace
delegation.py    layers of torch.nn's cells by PyTorch's own functions
dispatch.py      runs a cell over sequences: by the first target that may, or by the loop
kernels.py       the kernels of a cell: compiled on first use, then found again
torch_compile.py the same under torch.compile; operator.py: kernels as operators of PyTorch
compilation.py   conveyor.compile: every stage of the compiler as text
"""

# Whose operators a saved program wants as soon as the package is imported.
from conveyor.layer import operator
from conveyor.layer.recurrent import Recurrent, State

__all__ = ["Recurrent", "State", "operator"]
