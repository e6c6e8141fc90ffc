"""`RNN`, `LSTM` and `GRU` with the constructors, names and weights of `torch.nn`."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conveyor import zoo
from conveyor.cell.cell import Cell, is_whole
from conveyor.layer import Recurrent

# For torch.nn's matrices weight_ih and weight_hh, the affine maps whose blocks each holds one above the other.
Rows = dict[str, tuple[str, ...]]


class _DropIn(Recurrent):
    """A layer that reads and gives the weights of `torch.nn`.

    The weights are held gate by gate, where torch.nn holds all gates in one matrix, and with one bias, where torch.nn
    adds two (but for the GRU's candidate). So outputs and gradients are the same, but code that goes through the
    parameters by name finds other names, and training moves a bias as one parameter and not as two.
    """

    torch_class: ClassVar[type[nn.RNNBase]]
    rows: ClassVar[Rows]

    def __init__(self, cell: type[Cell], *arguments: Any, **keywords: Any):
        super().__init__(cell, *arguments, **keywords)
        self.register_load_state_dict_pre_hook(_accept_torch_names)

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> Self:
        """The layer that computes what a module of torch.nn computes, with a copy of its weights.

            conveyor.LSTM.from_torch(torch.nn.LSTM(3, 5))

        Raises TypeError if it is a module of another class.
        """
        if not isinstance(module, cls.torch_class):
            raise TypeError(f"{cls.__name__}.from_torch takes a torch.nn.{cls.torch_class.__name__}, not {module!r}")
        weight = module.weight_ih_l0
        layer = cls(**_constructor(module), device=weight.device, dtype=weight.dtype)
        layer.load_state_dict(module.state_dict())
        layer.requires_grad_(any(parameter.requires_grad for parameter in module.parameters()))
        return layer.train(module.training)

    def to_torch(self) -> nn.RNNBase:
        """A `torch.nn.RNN`, `LSTM` or `GRU` that computes the same, with a copy of the weights.

        Raises ValueError if the layer has what torch.nn lacks: zoneout, variational dropout, a learnt initial state.
        """
        extra = [self.zoneout, self.input_dropout, self.recurrent_dropout, self.learn_initial_state]
        if any(extra):
            raise ValueError("torch.nn has no zoneout, variational dropout or learnt initial state, but this layer has")
        weight = next(self.parameters())
        module = self.torch_class(**_constructor(self), device=weight.device, dtype=weight.dtype)
        module.load_state_dict(self.torch_state_dict())
        return module.train(self.training)

    def torch_state_dict(self) -> dict[str, Tensor]:
        """The weights under torch.nn's names, as copies."""
        state: dict[str, Tensor] = {}
        for row, suffix in enumerate(_suffixes(self)):
            cell = self.cell_of(row)
            for side, operand, affines in self._sides():
                blocks = [_weight(cell, f"{name}.weight_{operand}") for name in affines]
                state[f"weight_{side}_{suffix}"] = torch.cat(blocks)
                if self.bias:
                    biases = [_weight(cell, f"{name}.bias") for name in affines]
                    # A map of both x and h has one bias, and it stands on the side of x.
                    shared = [side == "hh" and name in self.rows["ih"] for name in affines]
                    kept = [torch.zeros_like(b) if s else b for b, s in zip(biases, shared, strict=True)]
                    state[f"bias_{side}_{suffix}"] = torch.cat(kept)
            if hasattr(cell, "projection"):
                state[f"weight_hr_{suffix}"] = _weight(cell, "projection.weight_m").clone()
        return state

    def _sides(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """torch.nn's two matrices: the name's ending, the operand that it multiplies, the maps that it holds."""
        return [("ih", "x", self.rows["ih"]), ("hh", "h", self.rows["hh"])]

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")):
            raise AttributeError(
                f"{type(self).__name__} has no {name}: every gate has its own weights here, such as "
                f"cells[0].{self.rows['hh'][0]}.weight_h; torch_state_dict() gives them under torch.nn's names"
            )
        return super().__getattr__(name)


class RNN(_DropIn):
    """`torch.nn.RNN` from its equation.

        rnn = conveyor.RNN(32, 128, num_layers=2, nonlinearity="relu")
        output, h = rnn(x)                      # x: [T, B, 32], output: [T, B, 128], h: [2, B, 128]

    Arguments, inputs and outputs are those of `torch.nn.RNN`; `further` ones are those of `conveyor.Recurrent`.
    """

    torch_class = nn.RNN
    rows: ClassVar[Rows] = {"ih": ("hidden",), "hh": ("hidden",)}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **further: Any,
    ):
        cells: dict[str, type[Cell]] = {"tanh": zoo.RNN, "relu": zoo.ReluRNN}
        if nonlinearity not in cells:
            raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(cells[nonlinearity], *sizes, bias, batch_first, dropout, bidirectional, **further)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """The arguments as those of `torch.nn`."""
        return super().extra_repr() + (", nonlinearity='relu'" if self.nonlinearity == "relu" else "")


class LSTM(_DropIn):
    """`torch.nn.LSTM` from its equations.

        rnn = conveyor.LSTM(32, 128, num_layers=2)
        output, (h, C) = rnn(x)                 # x: [T, B, 32], output: [T, B, 128], h and C: [2, B, 128]

    Arguments, inputs and outputs are those of `torch.nn.LSTM`; `further` ones are those of `conveyor.Recurrent`.
    """

    torch_class = nn.LSTM
    rows: ClassVar[Rows] = dict.fromkeys(("ih", "hh"), ("input", "forget", "candidate", "output"))

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **further: Any,
    ):
        if not is_whole(proj_size):
            raise TypeError(f"proj_size is a whole number, not {proj_size!r}")
        if not 0 <= proj_size < max(hidden_size, 1):
            raise ValueError(f"proj_size must lie between 0 and hidden_size - 1 = {hidden_size - 1}, not {proj_size}")
        cell, options = (zoo.ProjectedLSTM, {"proj_size": proj_size}) if proj_size else (zoo.LSTM, {})
        arguments = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(cell, *arguments, device=device, dtype=dtype, **options, **further)
        self.proj_size = int(proj_size)


class GRU(_DropIn):
    """`torch.nn.GRU` from its equations (`conveyor.zoo.ResetBeforeGRU` is the essay's).

        rnn = conveyor.GRU(32, 128, num_layers=2)
        output, h = rnn(x)                      # x: [T, B, 32], output: [T, B, 128], h: [2, B, 128]

    Arguments, inputs and outputs are those of `torch.nn.GRU`; `further` ones are those of `conveyor.Recurrent`.
    """

    torch_class = nn.GRU
    rows: ClassVar[Rows] = {"ih": ("reset", "update", "candidate"), "hh": ("reset", "update", "recall")}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **further: Any,
    ):
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(zoo.GRU, *sizes, bias, batch_first, dropout, bidirectional, **further)


def _constructor(module: nn.RNNBase | _DropIn) -> dict[str, Any]:
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"]
    names += [name for name in ("nonlinearity", "proj_size") if getattr(module, name, None)]
    return {name: getattr(module, name) for name in names}


def _weight(cell: nn.Module, path: str) -> Tensor:
    """By its path, not from the named parameters, among which one that is parametrized is not."""
    weight: Tensor = attrgetter(path)(cell)
    return weight.detach()


def _suffixes(module: Recurrent) -> list[str]:
    directions = ("", "_reverse")[: module.directions]
    return [f"l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]


def _accept_torch_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state_dict is loaded: if it has torch.nn's weights, rewrites them as this layer's.

    If one is missing or of another size, none is rewritten, and `load_state_dict` reports them in its own way. Tied
    layers take the weights of layers that have the same; raises ValueError if those differ.
    """
    assert isinstance(module, _DropIn)
    if f"{prefix}weight_ih_l0" not in state:
        return
    wanted = {f"{prefix}{name}": value.shape for name, value in module.torch_state_dict().items()}
    if any(name not in state or state[name].shape != shape for name, shape in wanted.items()):
        return
    suffixes, held = list(_suffixes(module)), len(module.cells)
    for row, suffix in enumerate(suffixes[held:]):
        for name in [name for name in wanted if name.endswith(f"_{suffix}")]:
            if not torch.equal(state.pop(name), state[name.removesuffix(suffix) + suffixes[row % held]]):
                raise ValueError(
                    f"tied layers have one set of weights, but {name} differs from that of the first layer"
                )
    for row, suffix in enumerate(suffixes[:held]):
        cell = f"{prefix}cells.{row}."
        for side, operand, affines in module._sides():
            weight = state.pop(f"{prefix}weight_{side}_{suffix}").chunk(len(affines))
            state |= {f"{cell}{n}.weight_{operand}": block for n, block in zip(affines, weight, strict=True)}
            if module.bias:
                bias = state.pop(f"{prefix}bias_{side}_{suffix}").chunk(len(affines))
                for name, block in zip(affines, bias, strict=True):
                    state[f"{cell}{name}.bias"] = state.get(f"{cell}{name}.bias", 0) + block
        if f"{prefix}weight_hr_{suffix}" in wanted:
            state[f"{cell}projection.weight_m"] = state.pop(f"{prefix}weight_hr_{suffix}")
