"""`RNN`, `LSTM` and `GRU`: those of `torch.nn`, run from their equations."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conveyor import zoo
from conveyor.cell import Cell
from conveyor.cell.cell import check_sizes, is_whole
from conveyor.cell.loop import is_transforming
from conveyor.cell.packed import Packed
from conveyor.cell.regularise import check_probability
from conveyor.errors import Mismatch, warn
from conveyor.layer import Recurrent
from conveyor.layer.backends import NotCompiled, chosen, only_kernels
from conveyor.nn.checkpoints import to_torch_names
from conveyor.packing import Block, Packing


class StandsFor(type):
    """The class of classes that are `torch.nn`'s to whoever goes by the exact class.

    PyTorch's quantization, and much other code, asks `type(module) in {nn.LSTM}` where it means `isinstance`, and then
    skips any subclass silently. So `conveyor.LSTM == torch.nn.LSTM`; a subclass of `conveyor.LSTM` is equal to itself
    only.
    """

    def __eq__(cls, other: object) -> bool:
        return cls is other or (isinstance(other, type) and vars(cls).get("torch_class") is other)

    def __hash__(cls) -> int:
        return type.__hash__(vars(cls).get("torch_class") or cls)


class TorchLayer(Recurrent, metaclass=StandsFor):
    """What `RNN`, `LSTM` and `GRU` have in common: `torch.nn`'s parameters, whose blocks the cells read as their gates.

    A layer runs by a kernel where there is one and else as `torch.nn` runs it; in the loop over the equations, if
    `conveyor.backend` says so, and where `torch.nn` has no such layer (zoneout, recorded values, lengths).
    """

    torch_class: ClassVar[type[nn.RNNBase]]
    # The affine maps whose blocks weight_ih and weight_hh hold one above the other.
    rows: ClassVar[Mapping[str, tuple[str, ...]]]
    bias: bool
    proj_size: int
    _all_weights: list[list[str]]
    _flat_weights_names: list[str]
    # Those of a torch.nn layer that has become one of these (`replace`, or an old pickle).
    options: dict[str, Any] = {}  # noqa: RUF012
    zoneout: dict[str, float] = {}  # noqa: RUF012
    input_dropout = recurrent_dropout = 0.0
    learn_initial_state = tied = False
    is_theirs = True

    def _complete(
        self,
        dropout: float,
        *,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        learn_initial_state: bool = False,
        tied: bool = False,
        proj_size: None = None,
        **unknown: Any,
    ) -> None:
        """What `torch.nn` lacks, when it has made the layer; and the dropout, of which we warn at the caller's line."""
        if unknown:
            known = ", ".join((*LACKING, "tied"))
            raise TypeError(
                f"a {type(self).__name__} takes no {', '.join(unknown)}; besides torch.nn's arguments: {known}"
            )
        if proj_size is not None:
            raise ValueError(f"proj_size is for the LSTM alone, as in torch.nn, not for a {type(self).__name__}")
        self.dropout = check_probability("dropout", dropout)
        if dropout and self.num_layers == 1:
            warn("dropout acts between layers, and there is only one: num_layers=1")
        self.tied = tied
        like = next(self.parameters()).detach()
        self._regularise(input_dropout, recurrent_dropout, zoneout, learn_initial_state, like)
        if tied:
            self._check_tied_widths()
            for name in [name for names in self._all_weights[self.directions :] for name in names]:
                del self._parameters[name]
                self._flat_weights_names.remove(name)
            self._all_weights = self._all_weights[: self.directions]
            nn.RNNBase._init_flat_weights(self)  # type: ignore[arg-type]

    @property
    def cells(self) -> tuple[Cell, ...]:  # type: ignore[override]
        """The cells, whose gates are blocks of this layer's parameters: `cells[0].forget.weight_h`.

        Made when they are first wanted, and no submodules: they have no parameters of their own.
        """
        found: tuple[Cell, ...] | None = self.__dict__.get("_cells")
        if found is None:
            rows = range(self.directions if self.tied else self.state_rows)
            found = self.__dict__["_cells"] = tuple(map(self._make_cell, rows))
        return found

    @property
    def cell(self) -> Cell:
        """The first layer's cell."""
        return self.cells[0]

    def _cell_class(self) -> tuple[type[Cell], dict[str, Any]]:
        """The cell, and its options."""
        raise NotImplementedError

    @property
    def _packing(self) -> Packing:
        return packing(self.rows["ih"], self.rows["hh"], self.bias, self.proj_size > 0)

    def _make_cell(self, row: int) -> Cell:
        made, options = self._cell_class()
        with torch.device("meta"):  # its own parameters are not wanted, nor random numbers for them
            cell = made(self._width(row // self.directions), self.hidden_size, **options)
        cell.pack(Packed(self, self._names(row), self._packing))
        return cell.train(self.training)

    def _width(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.directions * (self.proj_size or self.hidden_size)

    def _tensors(self, row: int) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """The names and shapes of a row's parameters, by what they are."""
        row = row % self.directions if self.tied else row
        gates, width = len(self.rows["ih"]), self._width(row // self.directions)
        found = tensors_of.__wrapped__ if torch.compiler.is_compiling() else tensors_of  # which traces no cache
        return found(width, self.hidden_size, self.proj_size, gates, self.bias, self.directions, row)

    def _names(self, row: int) -> dict[str, str]:
        """The names of a row's parameters, by what they are."""
        return {kind: name for kind, (name, _) in self._tensors(row).items()}

    def _sources(self, row: int) -> dict[str, Tensor]:
        """The parameters of a row. Raises Mismatch for one that has been replaced by one that does not fit."""
        found = {}
        for kind, (name, shape) in self._tensors(row).items():
            tensor = found[kind] = getattr(self, name)
            if tensor.shape != shape:
                raise Mismatch(f"{name} must have shape {list(shape)}, not {list(tensor.shape)}")
        return found

    def reset_parameters(self) -> None:
        """Draws all weights anew as `torch.nn` does; a learnt initial state is zero."""
        initial = set(self.initial_state.values()) if self.learn_initial_state else set()
        bound = 1.0 / math.sqrt(self.hidden_size)  # to the last bit torch.nn's
        for parameter in self.parameters():
            if parameter in initial:
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """As in `torch.nn`: one piece of memory for all weights where cuDNN wants it."""
        nn.RNNBase.flatten_parameters(self)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Self:
        """Training, or evaluation, for the layer and its cells."""
        super().train(mode)
        for cell in self.__dict__.get("_cells", ()):
            cell.train(mode)
        return self

    def forward(self, input: Any, hx: Any = None, *others: Any, **further: Any) -> Any:
        """As `torch.nn`'s, with the further arguments of `conveyor.Recurrent`: `lengths`, `record`."""
        if torch.jit.is_tracing() and not others and not further and self._is_plain() and not self._is_hooked():
            return self._by_torch(input, hx)
        run = super().forward
        loaded = not torch.compiler.is_compiling() and "torch._dynamo" in sys.modules
        if loaded and torch._C._dynamo.eval_frame.get_eval_frame_callback() is not None:
            # torch.compile leaves out what is a torch.nn.LSTM, but would go on with the functions that are called here.
            run = torch._dynamo.disable(run)
        return run(input, hx, *others, **further)

    def _forward(self, input: Any, hx: Any, lengths: Any, record: bool, start: int, extra_inputs: Any) -> Any:
        steps = None if lengths is not None or not isinstance(input, Tensor) or input.dim() not in (2, 3) else input
        if steps is not None and not input.shape[1 if self.batch_first and input.dim() == 3 else 0]:
            raise Mismatch(
                "the sequence has no steps; torch.nn refuses this, conveyor.Recurrent(conveyor.zoo.LSTM) not"
            )
        arguments = (input, hx, lengths, record, start, extra_inputs)
        if lengths is not None or record or extra_inputs or torch.compiler.is_compiling() or not self._is_plain():
            return super()._forward(*arguments)
        if chosen() != "auto" or is_transforming():
            return super()._forward(*arguments)
        try:
            with only_kernels():
                return super()._forward(*arguments)
        except NotCompiled:
            return super()._forward(*arguments) if self._is_hooked() else self._by_torch(input, hx)

    def _is_plain(self) -> bool:
        """Whether `torch.nn` has such a layer, as it runs now."""
        dropped = self.training and (self.input_dropout or self.recurrent_dropout)
        return not (self.zoneout or dropped or self.tied)

    def _is_hooked(self) -> bool:
        """Whether a module of a cell has a hook, which torch.nn would not call."""
        modules = (module for cell in self.__dict__.get("_cells", ()) for module in cell.modules())
        return any(module._forward_hooks or module._forward_pre_hooks for module in modules)

    def _by_torch(self, input: Any, hx: Any) -> Any:
        if hx is None and self.learn_initial_state:
            batch = int(input.batch_sizes[0]) if not isinstance(input, Tensor) else input.shape[not self.batch_first]
            rows = (self.initial_state[name] for name in self.state_names)
            wide = isinstance(input, Tensor) and input.dim() == 2
            states = tuple(state if wide else state[:, None].repeat(1, batch, 1) for state in rows)
            hx = states if len(states) > 1 else states[0]
        return self.torch_class.forward(self, input, hx)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("_cells", None)
        return state

    def __prepare_scriptable__(self) -> nn.RNNBase:
        """For torch.jit.script: the layer of `torch.nn` with the same parameters."""
        return self._bare()

    def _bare(self) -> nn.RNNBase:
        """The same layer, with the same tensors, as one of `torch.nn`."""
        self._check_torch_has("tied", *LACKING)
        module = self.torch_class.__new__(self.torch_class)
        module.__dict__.update({name: value for name, value in self.__dict__.items() if name not in OURS})
        return module

    def _check_torch_has(self, *names: str) -> None:
        if found := [name for name in names if getattr(self, name)]:
            raise ValueError(f"torch.nn has no {', '.join(found)}, but this layer has: {self}")

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> Self:
        """The layer that computes what a layer of torch.nn computes, with a copy of its weights.

            conveyor.LSTM.from_torch(torch.nn.LSTM(3, 5))

        `conveyor.replace` changes a whole model, without copies. Raises TypeError if it is a module of another class.
        """
        if not isinstance(module, cls.torch_class):
            raise TypeError(f"{cls.__name__}.from_torch takes a torch.nn.{cls.torch_class.__name__}, not {module!r}")
        if not isinstance(module, TorchLayer) and type(module).forward is not cls.torch_class.forward:
            raise TypeError(f"{type(module).__name__} has a forward of its own, which {cls.__name__} would not run")
        return _with_weights_of(module, cls)

    def to_torch(self) -> nn.RNNBase:
        """A `torch.nn.RNN`, `LSTM` or `GRU` that computes the same, with a copy of the weights.

        Raises ValueError if the layer has what torch.nn lacks: zoneout, variational dropout, a learnt initial state.
        """
        self._check_torch_has(*LACKING)
        return _with_weights_of(self, self.torch_class)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        *_, errors = arguments
        errors += to_torch_names(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """The arguments, as `torch.nn` shows them."""
        return ", ".join([nn.RNNBase.extra_repr(self), *self._further()])  # type: ignore[arg-type]


LACKING = ("zoneout", "input_dropout", "recurrent_dropout", "learn_initial_state")  # in torch.nn
# What these layers hold besides what torch.nn's do.
OURS = ("_cells", "_cell", "tied", "options", *LACKING)


class RNN(TorchLayer, nn.RNN):
    """`torch.nn.RNN` from its equation.

        rnn = conveyor.RNN(32, 128, num_layers=2, nonlinearity="relu")
        output, h = rnn(x)                      # x: [T, B, 32], output: [T, B, 128], h: [2, B, 128]

    It is a `torch.nn.RNN`: arguments, inputs, outputs, parameters and errors are the same; `further` arguments are
    those of `conveyor.Recurrent`, by keyword.
    """

    torch_class = nn.RNN
    rows: ClassVar[Mapping[str, tuple[str, ...]]] = {"ih": ("hidden",), "hh": ("hidden",)}

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
        device: Any = None,
        dtype: torch.dtype | None = None,
        **further: Any,
    ):
        sizes = check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        options = (nonlinearity, bias, batch_first, 0.0, bidirectional)
        nn.RNN.__init__(self, *sizes, *options, device=device, dtype=dtype)
        self._complete(dropout, **further)

    def _cell_class(self) -> tuple[type[Cell], dict[str, Any]]:
        return zoo.ReluRNN if self.mode == "RNN_RELU" else zoo.RNN, {}


class LSTM(TorchLayer, nn.LSTM):
    """`torch.nn.LSTM` from its equations.

        rnn = conveyor.LSTM(32, 128, num_layers=2)
        output, (h, C) = rnn(x)                 # x: [T, B, 32], output: [T, B, 128], h and C: [2, B, 128]
        rnn.weight_hh_l0                        # torch.nn's parameters
        rnn.cells[0].forget.weight_h            # rows 128 to 255 of it

    It is a `torch.nn.LSTM`: arguments, inputs, outputs, parameters and errors are the same; `further` arguments are
    those of `conveyor.Recurrent`, by keyword. Whoever wants each gate as a parameter of its own, and one bias for each,
    takes `conveyor.Recurrent(conveyor.zoo.LSTM, ...)`.
    """

    torch_class = nn.LSTM
    rows: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("ih", "hh"), ("input", "forget", "candidate", "output")
    )

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
        sizes = check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        options = (bias, batch_first, 0.0, bidirectional, _projection(proj_size, sizes[1]), device, dtype)
        nn.LSTM.__init__(self, *sizes, *options)
        self._complete(dropout, **further)

    def _cell_class(self) -> tuple[type[Cell], dict[str, Any]]:
        return (zoo.ProjectedLSTM, {"proj_size": self.proj_size}) if self.proj_size else (zoo.LSTM, {})


class GRU(TorchLayer, nn.GRU):
    """`torch.nn.GRU` from its equations (`conveyor.zoo.ResetBeforeGRU` is the essay's).

        rnn = conveyor.GRU(32, 128, num_layers=2)
        output, h = rnn(x)                      # x: [T, B, 32], output: [T, B, 128], h: [2, B, 128]

    It is a `torch.nn.GRU`: arguments, inputs, outputs, parameters and errors are the same; `further` arguments are
    those of `conveyor.Recurrent`, by keyword.
    """

    torch_class = nn.GRU
    rows: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ih": ("reset", "update", "candidate"),
        "hh": ("reset", "update", "recall"),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **further: Any,
    ):
        sizes = check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        nn.GRU.__init__(self, *sizes, bias, batch_first, 0.0, bidirectional, device=device, dtype=dtype)
        self._complete(dropout, **further)

    def _cell_class(self) -> tuple[type[Cell], dict[str, Any]]:
        return zoo.GRU, {}


@lru_cache
def packing(of_x: tuple[str, ...], of_h: tuple[str, ...], bias: bool, projected: bool) -> Packing:
    """How the gates lie in `torch.nn`'s tensors: the maps in weight_ih and in weight_hh, one block of rows each."""
    counts = dict.fromkeys(("weight_ih", "weight_hh"), len(of_x))
    blocks = {f"{name}.weight_x": Block(("weight_ih",), i) for i, name in enumerate(of_x)}
    blocks |= {f"{name}.weight_h": Block(("weight_hh",), i) for i, name in enumerate(of_h)}
    if bias:
        counts |= dict.fromkeys(("bias_ih", "bias_hh"), len(of_x))
        for i, (x, h) in enumerate(zip(of_x, of_h, strict=True)):
            if x == h:
                blocks[f"{x}.bias"] = Block(("bias_ih", "bias_hh"), i)
            else:
                blocks |= {f"{x}.bias": Block(("bias_ih",), i), f"{h}.bias": Block(("bias_hh",), i)}
    if projected:
        counts["weight_hr"] = 1
        blocks["projection.weight_m"] = Block(("weight_hr",), 0)
    return Packing(counts, blocks)


@lru_cache(maxsize=1024)
def tensors_of(
    width: int, hidden: int, projected: int, gates: int, bias: bool, directions: int, row: int
) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """The names and shapes of `torch.nn`'s tensors for one layer in one direction, by what they are."""
    layer, direction = divmod(row, directions)
    out, rows = projected or hidden, gates * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, out)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
    shapes |= {"weight_hr": (out, hidden)} if projected else {}
    return {kind: (f"{kind}_l{layer}{'_reverse' * direction}", shape) for kind, shape in shapes.items()}


def _projection(size: Any, hidden_size: int) -> int:
    if not is_whole(size):
        raise TypeError(f"proj_size is a whole number, not {size!r}")
    if not 0 <= size < hidden_size:
        raise ValueError(f"proj_size must lie between 0 and hidden_size - 1 = {hidden_size - 1}, not {size}")
    return int(size)


def _with_weights_of(module: Any, made: Any) -> Any:
    """A layer of the class `made` as `module`, with copies of its tensors, which need gradients as those do."""
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"]
    names += ["proj_size"] if module.proj_size else []
    options = {name: getattr(module, name) for name in names}
    if module.mode.startswith("RNN"):
        options["nonlinearity"] = module.mode.removeprefix("RNN_").lower()
    if computed := [name for names in module._all_weights for name in names if name not in module._parameters]:
        raise ValueError(
            f"{computed[0]} is computed (a norm, pruning) and cannot be copied: remove that first, or use "
            "conveyor.replace and conveyor.restore, which keep it"
        )
    if isinstance(module, TorchLayer) and issubclass(made, TorchLayer):
        options |= {name: getattr(module, name) for name in (*LACKING, "tied")}
    weight = module.weight_ih_l0
    layer = made(**options, device=weight.device, dtype=weight.dtype)
    state = module.state_dict()
    tied = len(module._all_weights)  # layers that have no weights of their own have those of these
    for k, names in enumerate(layer._all_weights):
        for name, source in zip(names, module._all_weights[k % tied], strict=True):
            state[name] = state[source]
            getattr(layer, name).requires_grad_(getattr(module, source).requires_grad)
    layer.load_state_dict(state)
    return layer.train(module.training)
