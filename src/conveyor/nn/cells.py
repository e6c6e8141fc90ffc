"""`RNNCell`, `LSTMCell` and `GRUCell`: those of `torch.nn`, with their equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conveyor import zoo
from conveyor.cell import Cell
from conveyor.cell.loop import Scan
from conveyor.cell.packed import Packed
from conveyor.errors import Mismatch
from conveyor.layer import dispatch
from conveyor.layer.backends import chosen
from conveyor.nn.layers import GRU, LSTM, RNN, StandsFor, packing


class TorchCell(nn.Module, metaclass=StandsFor):
    """What the cells have in common: `torch.nn`'s parameters, whose blocks the equations read as their gates.

    One step is quickest as `torch.nn` computes it, so that is how a cell runs; by a kernel or the loop over the
    equations if `conveyor.backend` says so, and by the loop to record the named values.
    """

    torch_class: ClassVar[type[nn.RNNCellBase]]
    rows: ClassVar[Mapping[str, tuple[str, ...]]]
    input_size: int
    hidden_size: int
    bias: bool

    @property
    def cell(self) -> Cell:
        """The equations, whose gates are blocks of the parameters: `cell.forget.weight_h`."""
        found: Cell | None = self.__dict__.get("_cell")
        if found is None:
            kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
            with torch.device("meta"):  # its own parameters are not wanted, nor random numbers for them
                found = self._cell_class()(self.input_size, self.hidden_size)
            layout = packing(self.rows["ih"], self.rows["hh"], self.bias, False)
            found.pack(Packed(self, {kind: kind for kind in kinds}, layout))
            self.__dict__["_cell"] = found.train(self.training)
        return found

    def _cell_class(self) -> type[Cell]:
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Any = None, record: bool = False) -> Any:
        """As `torch.nn`'s; with `record=True` a pair of that and the named values of the step, [B, ...] each."""
        if not record and (chosen() == "auto" or torch.jit.is_tracing() or torch.compiler.is_compiling()):
            return self.torch_class.forward(self, input, hx)
        x, states = self._checked(input, hx)
        packed = self.cell.packed
        assert packed is not None
        scan = Scan(self.cell, {"x": x[None]}, states, {}, record=record, sources=packed.sources())
        result = dispatch.run(scan)
        rows = [state if input.dim() == 2 else state[0] for state in result.last]
        new = tuple(rows) if len(rows) > 1 else rows[0]
        if not record:
            return new
        return new, {name: v[0] if input.dim() == 2 else v[0, 0] for name, v in result.values.items()}

    def _checked(self, input: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The input and the states, [B, width] each. Raises Mismatch for other shapes."""
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise Mismatch(f"the input is [B, {self.input_size}] or [{self.input_size}], not {list(input.shape)}")
        x = input if input.dim() == 2 else input[None]
        names = self.cell.state
        if hx is None:
            return x, tuple(x.new_zeros(len(x), self.hidden_size) for _ in names)
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        wanted = [*input.shape[:-1], self.hidden_size]
        if len(given) != len(names) or any(list(state.shape) != wanted for state in given):
            raise Mismatch(
                f"the state is ({', '.join(names)}) of shape {wanted}, not {[list(state.shape) for state in given]}"
            )
        return x, tuple(state if input.dim() == 2 else state[None] for state in given)

    def train(self, mode: bool = True) -> Self:
        """Training, or evaluation, for the module and its equations."""
        super().train(mode)
        if "_cell" in self.__dict__:
            self.cell.train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cell"}

    def __prepare_scriptable__(self) -> nn.Module:
        """For torch.jit.script: the module of `torch.nn` with the same parameters."""
        module = self.torch_class.__new__(self.torch_class)
        module.__dict__.update(self.__getstate__())
        return module


class RNNCell(TorchCell, nn.RNNCell):
    """`torch.nn.RNNCell`, with its equation.

        cell = conveyor.RNNCell(32, 128)
        h = cell(x, h)                          # x: [B, 32], h: [B, 128]

    Arguments, inputs, outputs, parameters and errors are `torch.nn.RNNCell`'s; `record=True` also gives the values.
    """

    torch_class = nn.RNNCell
    rows = RNN.rows

    def _cell_class(self) -> type[Cell]:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"nonlinearity is 'tanh' or 'relu', not {self.nonlinearity!r}")
        return zoo.ReluRNN if self.nonlinearity == "relu" else zoo.RNN


class LSTMCell(TorchCell, nn.LSTMCell):
    """`torch.nn.LSTMCell`, with its equations.

        cell = conveyor.LSTMCell(32, 128)
        h, C = cell(x, (h, C))                              # x: [B, 32], h and C: [B, 128]
        (h, C), values = cell(x, (h, C), record=True)       # values["f"]: [B, 128]

    Arguments, inputs, outputs, parameters and errors are `torch.nn.LSTMCell`'s.
    """

    torch_class = nn.LSTMCell
    rows = LSTM.rows

    def _cell_class(self) -> type[Cell]:
        return zoo.LSTM


class GRUCell(TorchCell, nn.GRUCell):
    """`torch.nn.GRUCell`, with its equations.

        cell = conveyor.GRUCell(32, 128)
        h = cell(x, h)                          # x: [B, 32], h: [B, 128]

    Arguments, inputs, outputs, parameters and errors are `torch.nn.GRUCell`'s; `record=True` also gives the values.
    """

    torch_class = nn.GRUCell
    rows = GRU.rows

    def _cell_class(self) -> type[Cell]:
        return zoo.GRU
