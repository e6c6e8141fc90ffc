"""`Recurrent`: any cell as a layer with the interface of `torch.nn.LSTM`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from conveyor.cell.cell import Cell, is_whole, size_of
from conveyor.cell.loop import Scan, Unrolled, equations_of, is_autocast, location
from conveyor.cell.regularise import (
    Regularised,
    check_probability,
    check_recurrent_dropout,
    dropout_mask,
    zoneout_rates,
)
from conveyor.errors import Mismatch, warn
from conveyor.layer import delegation, dispatch, foreign, making, stepper, symbolic
from conveyor.layer.forms import InputLayout, read, reverse
from conveyor.layer.placing import move
from conveyor.layer.stream import Stream

State = Tensor | tuple[Tensor, ...]


class Recurrent(nn.Module):
    """Layers of any cell, in one direction or both, as `torch.nn.LSTM` has them.

        rnn = conveyor.Recurrent(conveyor.zoo.PeepholeLSTM, 32, 128, num_layers=2, peepholes=["forget"])
        output, (h, C) = rnn(x)                              # x: [T, B, 32], output: [T, B, 128], h, C: [2, B, 128]
        output, state, values = rnn(x, record=True)          # values["f"]: [layers, directions, T, B, 128]
        output, state = rnn(x, lengths=[9, 4, 7])            # rows of these lengths, padded to [T, B, 32]
        y_t, state = rnn.step(x_t, state)                    # one step; x_t: [B, 32], y_t: [B, 128]

    Arguments:
        cell: the class of the cell, a subclass of `conveyor.Cell`.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as those of
            `torch.nn.LSTM`, but for bias=None, as the cell's paper has it. True: every affine map that the cell lets
            have a bias has one; False: none has.
        input_dropout: variational dropout on every layer's input, one mask for the whole sequence.
        recurrent_dropout: variational dropout on the first state where the cell's affine maps read it.
        zoneout: the probability that a unit keeps its old state, for all states or by name, {"C": 0.5, "h": 0.05}.
        learn_initial_state: the initial state, where none is given, is a parameter (from zero) and not zero.
        tied: all layers have the same weights, which `cells` holds once, a cell for each direction; the output must
            then be as wide as the input.
        options: handed on to the cell, such as `peepholes` of PeepholeLSTM.

    The state is one tensor [layers * directions, B, width] for a cell of one state, else a tuple of such, in the order
    of `cell.state`. What a cell reads of the layer below besides its output (`cell.below`) is for the lowest layer a
    learned map of the input, in `ground`; `dropout` between layers leaves it whole. All streams are [T, B, ...], or
    [B, T, ...] with `batch_first`, or [T, ...] without a batch.

    Raises ValueError and TypeError that name the shapes or values involved.
    """

    def __init__(
        self,
        cell: type[Cell],
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool | None = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        learn_initial_state: bool = False,
        tied: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ):
        super().__init__()
        making.check(cell, options, list(inspect.signature(Recurrent).parameters)[3:-1])
        self.input_size = input_size = size_of("input_size", input_size)
        self.hidden_size = hidden_size = size_of("hidden_size", hidden_size)
        self.num_layers = num_layers = size_of("num_layers", num_layers)
        self.bias = bias = making.check_bias(bias)
        self.batch_first, self.bidirectional = batch_first, bidirectional
        self.dropout = check_probability("dropout", dropout)
        self.options, self.tied = options, tied
        if dropout and num_layers == 1:
            warn("dropout acts between layers, and there is only one: num_layers=1")
        self.cells = nn.ModuleList()
        for layer in range(1 if tied else num_layers):
            width = input_size if layer == 0 else self.output_size
            self.cells.extend(making.cell(cell, width, hidden_size, bias, options) for _ in range(self.directions))
        self._check_tied_widths()
        if self.cell.below:
            self.ground = nn.ModuleList(making.ground(self.cell, bias) for _ in range(self.directions))
        self._regularise(input_dropout, recurrent_dropout, zoneout, learn_initial_state)
        move(self, device, dtype)
        self.flatten_parameters()

    def _check_tied_widths(self) -> None:
        if self.tied and self.num_layers > 1 and self.output_size != self.input_size:
            raise ValueError(
                f"tied layers read what they give, but the input's width is {self.input_size} and the output's "
                f"{self.output_size}: make them equal, or leave out tied"
            )

    def _regularise(
        self,
        input_dropout: float,
        recurrent_dropout: float,
        zoneout: float | Mapping[str, float],
        learn_initial_state: bool,
        like: Tensor | None = None,
    ) -> None:
        self.input_dropout = check_probability("input_dropout", input_dropout)
        self.recurrent_dropout = check_recurrent_dropout(self.cell, recurrent_dropout)
        self.zoneout = zoneout_rates(self.cell, zoneout)
        self.learn_initial_state = learn_initial_state
        if learn_initial_state:
            shapes = {name: (self.state_rows, self.cell.widths[name]) for name in self.state_names}
            zeros = torch.zeros if like is None else like.new_zeros
            self.initial_state = nn.ParameterDict({name: zeros(shape) for name, shape in shapes.items()})

    is_theirs = False  # whether it is one of torch.nn's by its weights
    of: ClassVar[Any] = classmethod(foreign.recurrent_of)  # a layer of a module such as torch.nn.LSTMCell

    @property
    def cell(self) -> Cell:
        """The first layer's cell."""
        return self._modules["cells"]._modules["0"]  # type: ignore  # as self.cells[0], which takes 9 microseconds

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional layer."""
        return 2 if self.bidirectional else 1

    @property
    def state_rows(self) -> int:
        """How many layers there are in all directions: a state has a row for each."""
        return self.num_layers * self.directions

    def cell_of(self, row: int) -> Cell:
        """The cell of a layer in one direction: row = layer * directions + direction."""
        return self.cells[row % len(self.cells)]  # type: ignore[return-value]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states, in the order of the tuple that the layer returns."""
        return self.cell.state

    @property
    def output_size(self) -> int:
        """The width of the output."""
        return self.directions * self.cell.widths[self.cell.output_name or self.state_names[0]]

    def reset_parameters(self) -> None:
        """New random parameters in every module of the cells that can draw them; a learnt initial state is zero.

        A module comes after those in it, so that a cell with a start of its own has the last word over its maps.
        """
        self.cells.apply(_reset)
        if self.cell.below:
            self.ground.apply(_reset)
        for initial in self.initial_state.values() if self.learn_initial_state else ():
            nn.init.zeros_(initial)

    def flatten_parameters(self) -> None:
        """As in `torch.nn`: one piece of memory for all weights, where PyTorch's own functions run the layer."""
        delegation.compact(self)

    def _apply(self, *arguments: Any, **keywords: Any) -> Self:
        delegation.compact(super()._apply(*arguments, **keywords))
        return self

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *others: Any,  # none: it is there for an error that says so
        lengths: Tensor | Sequence[int] | None = None,
        record: bool = False,
        start: int = 0,
        **extra_inputs: Tensor,
    ) -> Any:
        """The output and the last state; with `record=True` also every named value of the step.

        `lengths` [B]: steps of each row, the rest is padding. `start`: the number of the first step, for a cell that
        takes `t`; a continued sequence goes on counting. `extra_inputs`: the cell's other streams and constants.

        The values come third, by name: the cell's extra outputs, if it has any, and with `record=True` the tensors that
        `step` has in variables of its own when it returns, but for what it was given and parameters. They are
        [layers, directions, T, B, ...], or, where the layers' shapes differ, a list of one tensor
        [directions, T, B, ...] for each layer; past a row's length they are zero.
        """
        asked = {"lengths": lengths, "record": record, "start": start, **extra_inputs}
        tracer = symbolic.tracer_of(input, hx, *asked.values())
        if tracer is not None:
            return symbolic.as_leaf(tracer, self, (input,) if hx is None else (input, hx), asked)
        if torch.jit.is_tracing():
            raise RuntimeError(symbolic.TRACED)
        if others:
            raise TypeError(f"a layer is called with its input and state; name the others: {', '.join(asked)}")
        return self._forward(input, hx, lengths, record, start, extra_inputs)

    def _forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None,
        lengths: Tensor | Sequence[int] | None,
        record: bool,
        start: int,
        extra_inputs: dict[str, Tensor],
    ) -> Any:
        plain = lengths is None and not record and not extra_inputs and not self.batch_first
        if plain and hx is not None and isinstance(input, Tensor) and input.dim() == 3:
            found = stepper.attempt(self, input, hx, start, {})  # few steps of a stream that is carried on
            if found is not None:
                return self._handed_on(*found)
        if not is_whole(start) or start < 0:
            raise ValueError(f"start is the number of the first step, a whole number from 0, not {start!r}")
        delegate = delegation.of(self, input, record)
        x, counts, form = read(input, lengths, self.batch_first, self.input_size, delegate is None)
        states = self._initial(x, hx, form)
        streams, constants = self._extra_inputs(extra_inputs, x, form)
        self._check_types(x, dict(zip(self.state_names, states, strict=True)), extra_inputs)
        with self._parametrized_once():
            if delegate is not None:
                return delegate.run(x, states, form)
            scan = Scan(self.cell, {"x": x, **streams}, states, constants, counts, record, int(start))
            x, lasts, values = self._stack(scan, rounding(x, form))
        state = tuple(form.state(torch.stack(tensors)) for tensors in zip(*lasts, strict=True))
        result = form.output(x, counts), state[0] if len(state) == 1 else state
        if not record:
            values = [{name: named[name] for name in self.cell.returned} for named in values]
        return (*result, self._gather(values, form)) if record or self.cell.returned else result

    def step(self, x: Tensor, state: State | None = None, *, start: int = 0, **extra_inputs: Tensor) -> Any:
        """One step of all layers: `x` [B, input_size] or [input_size], and the state after it, to hand to the next.

        `start` is the step's number, for a cell that takes `t`. The extra outputs of a cell that has any come third,
        [layers, directions, B, ...]. Each call is a sequence of its own: in training, a variational dropout's mask is
        drawn anew.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional layer cannot go step by step: its second direction starts at the end")
        if x.dim() not in (1, 2):
            raise ValueError(f"a step's input is [B, {self.input_size}] or [{self.input_size}], not {list(x.shape)}")
        if x.dim() == 2 and not torch.jit.is_tracing():
            found = stepper.attempt(self, x, state, start, extra_inputs)
            if found is not None:
                return self._handed_on(*found)
        time = 1 if self.batch_first and x.dim() == 2 else 0
        extra_inputs = {n: v if n in self.cell.constant else v.unsqueeze(time) for n, v in extra_inputs.items()}
        if torch.jit.is_tracing():  # which a loop of one step is right for
            result = self._forward(x.unsqueeze(time), state, None, False, start, extra_inputs)
        else:
            result = self(x.unsqueeze(time), state, start=start, **extra_inputs)
        output, state, *values = result
        now = ({name: _squeeze(value, time) for name, value in named.items()} for named in values)
        return output.squeeze(time), state, *now

    def stream(self, rows: int = 1, *, weights: str = "float32", start: int = 0, **inputs: Tensor) -> Stream:
        """A stream: single steps without gradients, as fast as the processor goes. The arguments are those of Stream.

        stream = rnn.stream()
        y = stream.step(x)                              # x: [input_size], y: [output_size]
        """
        return Stream(self, rows, weights=weights, start=start, inputs=inputs)

    def _handed_on(self, output: Tensor, last: list[Tensor], values: dict[str, Any]) -> Any:
        result = output, last[0] if len(last) == 1 else tuple(last)
        return (*result, values) if self.cell.returned else result

    def _parametrized_once(self) -> AbstractContextManager[Any]:
        """Inside, a weight that torch.nn.utils.parametrize computes is computed once, not once a step.

        That is less work, and more: a weight drop has one mask over the sequence, and a spectral norm goes one
        iteration on, so that every step of the sequence has the same weights.
        """
        return parametrize.cached() if _is_parametrized(self) else nullcontext()

    def _stack(
        self, scan: Scan, rounded: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, ...]], list[dict[str, Tensor]]]:
        """The layers one above the other, each in its directions: the output, and the last states and the values.

        `scan` is that of the first layer, with the states of all.
        """
        lasts: list[tuple[Tensor, ...]] = []
        values: list[dict[str, Tensor]] = []
        streams, constants = _each(rounded, scan.streams), _each(rounded, scan.constants)
        x = streams["x"]
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            if self.input_dropout and self.training:
                x = x * dropout_mask(x.shape[1:], self.input_dropout, x)
            outputs = []
            for direction in range(self.directions):
                row = layer * self.directions + direction
                state = tuple(rounded(state[row]) for state in scan.state)
                below = _each(rounded, self._from_below(row, x, values, scan.lengths))
                given = {**streams, "x": x, **below}
                cell, sources = self.cell_of(row), self._sources(row)
                one = Scan(cell, given, state, constants, scan.lengths, scan.record, scan.start, sources)
                output, last, named = self._run(row, one)
                outputs.append(rounded(output))
                lasts.append(tuple(map(rounded, last)))
                values.append(_each(rounded, named))
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        return x, lasts, values

    def _run(self, row: int, scan: Scan) -> Unrolled:
        """One layer in one direction."""
        lengths = scan.lengths
        if self.zoneout or (self.recurrent_dropout and self.training):
            scan = Regularised(self.cell_of(row), self.recurrent_dropout, self.zoneout).scan(scan)
        if row % self.directions == 0:
            return self._named_output(dispatch.run(scan))
        scan = replace(scan, streams={name: reverse(stream, lengths) for name, stream in scan.streams.items()})
        output, last, values = self._named_output(dispatch.run(scan))
        values = {name: reverse(value, lengths) for name, value in values.items()}
        return Unrolled(reverse(output, lengths), last, values)

    def _sources(self, row: int) -> dict[str, Tensor] | None:
        """The tensors of which the weights of a packed cell are blocks."""
        return None

    def _named_output(self, result: Unrolled) -> Unrolled:
        """The result of a scan, with the output that the cell names."""
        cell, (_, last, values) = self.cell, result
        for name in set(cell.extra) & {*cell.below.values(), cell.output_name}:
            found, wanted = list(values[name].shape[1:]), [last[0].shape[0], cell.widths[name]]
            if found != wanted:
                raise ValueError(f"{location(cell)} must return {name} of shape {wanted}, not {found}")
        return result if cell.output_name is None else result._replace(output=values[cell.output_name])

    def _from_below(
        self, row: int, x: Tensor, values: list[dict[str, Tensor]], lengths: Tensor | None
    ) -> dict[str, Tensor]:
        """The streams that come from the layer below or, where there is none, from the input."""
        below = self.cell.below
        if row >= self.directions or not below:
            return {stream: values[row - self.directions][name] for stream, name in below.items()}
        if lengths is not None:  # padding may be anything, and a gradient of zero times NaN is NaN
            steps = torch.arange(len(x), device=x.device)[:, None]
            x = torch.where((steps < lengths)[..., None], x, x.new_zeros(()))
        return {name: ground(x) for name, ground in self.ground[row].items()}  # type: ignore[operator]

    def _initial(self, x: Tensor, hx: State | None, form: InputLayout) -> tuple[Tensor, ...]:
        """The initial states, [layers * directions, B, width] each."""
        rows, batch = self.state_rows, x.shape[1]
        if hx is None and self.learn_initial_state:
            return tuple(self.initial_state[name][:, None].expand(-1, batch, -1) for name in self.state_names)
        shapes = {name: (rows, batch, self.cell.widths[name]) for name in self.state_names}
        if hx is None:
            return tuple(x.new_zeros(shape) for shape in shapes.values())
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(given) != len(shapes) or not all(isinstance(value, Tensor) for value in given):
            kinds = ", ".join(type(value).__name__ for value in given)
            raise Mismatch(f"the state is a tensor for each of ({', '.join(shapes)}), but what was given is ({kinds})")
        for (name, shape), value in zip(shapes.items(), given, strict=True):
            wanted = shape if form.batched else (shape[0], shape[2])
            if tuple(value.shape) != wanted:
                raise Mismatch(f"the initial {name} must have shape {list(wanted)}, not {list(value.shape)}")
        return tuple(value if form.batched else value[:, None] for value in given)

    def _extra_inputs(
        self, extra_inputs: dict[str, Tensor], x: Tensor, form: InputLayout
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The cell's streams besides x, and its constants."""
        further = set(self.cell.arguments) - {"x", "t", *self.state_names, *self.cell.below}
        if set(extra_inputs) != further:
            names, given = (", ".join(sorted(names)) or "nothing" for names in (further, extra_inputs))
            cell = type(equations_of(self.cell)[0]).__name__
            raise TypeError(f"besides input and state, {cell} takes {names}, but was given {given}")
        for name, value in extra_inputs.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
        constants = {n: v if form.batched else v[None] for n, v in extra_inputs.items() if n in self.cell.constant}
        for name, constant in constants.items():
            if constant.dim() < 1 or constant.shape[0] != x.shape[1]:
                found = list(constant.shape) if form.batched else list(constant.shape[1:])
                raise ValueError(f"{name} must have the input's {x.shape[1]} rows first, but its shape is {found}")
        streams = {n: form.inward(v) for n, v in extra_inputs.items() if n not in self.cell.constant}
        for name, stream in streams.items():
            if stream.shape[:2] != x.shape[:2]:
                wanted, found = list(x.shape[:2]), list(stream.shape[:2])
                raise ValueError(f"{name} must have the input's steps and rows {wanted}, not {found}")
        return streams, constants

    def _check_types(self, x: Tensor, states: dict[str, Tensor], extra_inputs: dict[str, Tensor]) -> None:
        """All have the type of the weights, but for streams and constants that are no real numbers, and autocast."""
        if is_autocast(x.device):
            return
        weight = _first_parameter(self)
        weight = x if weight is None else weight
        if x.dtype != weight.dtype:
            raise Mismatch(
                f"the input is {x.dtype}, but the weights are {weight.dtype}: bring one to the other's type, "
                f"input.to({weight.dtype}) or layer.to({x.dtype})"
            )
        real = {name: v for name, v in extra_inputs.items() if v.is_floating_point() or v.is_complex()}
        for name, value in (states | real).items():
            if value.dtype != x.dtype:
                raise Mismatch(
                    f"{name} is {value.dtype}, but input and weights are {x.dtype}: bring it to their type, "
                    f"{name}.to({x.dtype})"
                )

    def _gather(self, values: list[dict[str, Tensor]], form: InputLayout) -> dict[str, Tensor | list[Tensor]]:
        gathered: dict[str, Tensor | list[Tensor]] = {}
        for name in values[0]:
            rows = [form.outward(named[name]) for named in values]
            layers = [torch.stack(rows[i : i + self.directions]) for i in range(0, len(rows), self.directions)]
            same = all(layer.shape == layers[0].shape for layer in layers)
            gathered[name] = torch.stack(layers) if same else layers
        return gathered

    def extra_repr(self) -> str:
        """The sizes, and the arguments that differ from their defaults."""
        shown: dict[str, tuple[Any, Any]] = {
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, None),
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0),
            "bidirectional": (self.bidirectional, False),
        }
        return ", ".join([str(self.input_size), str(self.hidden_size), *_changed(shown), *self._further()])

    def _further(self) -> list[str]:
        """The arguments that `torch.nn.LSTM` has not, as far as they differ from their defaults."""
        shown = {
            "input_dropout": (self.input_dropout, 0),
            "recurrent_dropout": (self.recurrent_dropout, 0),
            "zoneout": (self.zoneout, {}),
            "learn_initial_state": (self.learn_initial_state, False),
            "tied": (self.tied, False),
            **{name: (value, None) for name, value in self.options.items()},
        }
        return _changed(shown)


def _changed(shown: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{name}={value!r}" for name, (value, default) in shown.items() if value != default]


def _first_parameter(module: nn.Module) -> Tensor | None:
    """That which `module.parameters()` gives first, ten times sooner."""
    first = next((one for one in module._parameters.values() if one is not None), None)
    children = (_first_parameter(child) for child in module._modules.values() if child is not None)
    return first if first is not None else next((one for one in children if one is not None), None)


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()


def _is_parametrized(module: nn.Module) -> bool:
    """Whether it or a module in it is."""
    children = module._modules
    return "parametrizations" in children or any(c is not None and _is_parametrized(c) for c in children.values())


def rounding(x: Tensor, form: InputLayout) -> Callable[[Tensor], Tensor]:
    """What goes into a layer and comes out of it is rounded by this, as `torch.nn.LSTM` does under autocast.

    The weights are left to the autocast itself, under which the loop runs: it rounds what a product reads, where an
    operation that does not lower its precision still has the whole weight.
    """
    kind = x.device.type
    if not is_autocast(x.device):
        return lambda value: value
    if form.packed is not None and kind == "cpu":
        return lambda value: value  # here torch.nn.LSTM has a loop of its own, which rounds no state
    lower = torch.get_autocast_dtype(kind)

    def rounded(value: Tensor) -> Tensor:
        return value.to(lower) if value.is_floating_point() and value.dtype != torch.float64 else value

    return rounded


def _each(function: Callable[[Tensor], Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: function(value) for name, value in named.items()}


def _squeeze(value: Tensor | list[Tensor], time: int) -> Tensor | list[Tensor]:
    """Gathered values of one step, without their dimension of time."""
    return value.squeeze(2 + time) if isinstance(value, Tensor) else [layer.squeeze(1 + time) for layer in value]
