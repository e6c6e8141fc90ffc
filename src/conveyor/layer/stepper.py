"""The step of a whole layer, compiled, with weights that are packed once: for single steps and for streams."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from threading import local
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

from conveyor.cell import Affine
from conveyor.cell.loop import is_transforming
from conveyor.compiler.graph import Key
from conveyor.errors import BadInput
from conveyor.layer.backends import chosen
from conveyor.layer.network import OUTPUT, Network, initial_states
from conveyor.layer.tracing import HOOKS, OWN, Given, Identity, mark_of
from conveyor.targets import CannotBuild
from conveyor.targets.step import StepKernel, step_kernel

PLAIN = (int, float, str, type(None))
# What cannot change.
FIXED: tuple[type, ...] = (FunctionType, BuiltinFunctionType, ModuleType, type, Enum, bytes, complex, frozenset, range)
FIXED += (torch.dtype, torch.device, torch.layout, torch.memory_format)
Addresses = ctypes.Array[ctypes.c_void_p]


@dataclass(frozen=True, eq=False)
class Stepper:
    """A layer's step for certain weights.

    Its inputs and outputs are [steps, rows, width]; a state is [layers, rows, width], as the layer has it.
    """

    network: Network
    kernel: StepKernel
    weights: Tensor
    state_names: tuple[str, ...]
    layers: int

    @classmethod
    def of(
        cls, rnn: Any, given: Iterable[Given] = (), weights: str = "float32", head: nn.Linear | None = None
    ) -> Stepper:
        """That of a layer as it is now. Raises BadInput and CannotBuild."""
        network = Network.of(rnn, given, head)
        dtype = next((p.dtype for p in rnn.parameters()), torch.get_default_dtype())
        kernel = step_kernel(network.graph, dtype, weights)
        return cls(network, kernel, _packed(network, kernel), rnn.state_names, rnn.num_layers)

    @cached_property
    def address(self) -> int:
        """Where its weights are."""
        return self.weights.data_ptr()

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """The names of what is given at each step, in order."""
        return tuple(key.name for key in self.kernel.plan.streams)

    @cached_property
    def constants(self) -> tuple[str, ...]:
        """The names of what is given once a sequence, in order."""
        return tuple(key.name for key in self.kernel.plan.constants)

    @cached_property
    def result(self) -> int:
        """Which of the outputs is the layer's."""
        return self.kernel.plan.outputs.index(Key("stream", OUTPUT))

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each output, without steps and rows."""
        return [self.kernel.plan.program.shapes[key][1] for key in self.kernel.plan.outputs]

    @cached_property
    def returned(self) -> dict[str, list[int]]:
        """Of each further output: which outputs of the kernel those of the layers are."""
        names = [key.name for key in self.kernel.plan.outputs]
        found: dict[str, list[int]] = {}
        for k, name in enumerate(names):
            if k != self.result:
                found.setdefault(name.rpartition(".")[0], []).append(k)
        return found

    @cached_property
    def places(self) -> list[tuple[int, int, int]]:
        """Of each state of the kernel: which state of the layer it is, of which layer, and how wide."""
        plan = self.kernel.plan
        split = (name.rpartition(".") for name in plan.states)
        widths = (plan.program.buffers[plan.program.states[name]].width for name in plan.states)
        return [(self.state_names.index(n), int(row), w) for (n, _, row), w in zip(split, widths, strict=True)]

    @cached_property
    def arguments(self) -> frozenset[str]:
        """The names of all that is given, but for states."""
        return frozenset((*self.streams, *self.constants))

    def state_shapes(self, rows: int) -> list[tuple[int, int, int]]:
        """Of the layer's states."""
        return [(self.layers, rows, width) for width in self.state_widths]

    @cached_property
    def state_widths(self) -> list[int]:
        """Of the layer's states, in order."""
        return list({k: width for k, _, width in sorted(self.places)}.values())

    def empty(self, shape: Sequence[int]) -> list[Tensor]:
        """Room for the outputs, [*shape, ...] each."""
        return [torch.empty((*shape, *dims), dtype=self.kernel.plan.dtype) for dims in self.shapes]

    def values(self, outputs: Sequence[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """The further outputs by name, [layers, 1, ...] as the layer gives them."""
        found: dict[str, Tensor | list[Tensor]] = {}
        for name, which in self.returned.items():
            layers = [outputs[k][None] for k in which]
            same = all(layer.shape == layers[0].shape for layer in layers)
            found[name] = torch.stack(layers) if same else layers
        return found


def _packed(network: Network, kernel: StepKernel) -> Tensor:
    with torch.no_grad():
        weights = {name: tensor for name, get in network.weights.items() if (tensor := get()) is not None}
        return kernel.pack(weights)


# --- kept with a layer, until it changes ---


class _Seen:
    """A layer as it was: its tensors with their versions and places, and what else its modules hold."""

    def __init__(self, rnn: Any):
        cells = (module for cell in rnn.cells for module in cell.modules())
        modules = list(dict.fromkeys([*rnn.modules(), *cells]))
        tensors = [each for module in modules for each in (module._parameters, module._buffers)]
        held = [*tensors, *(module.__dict__ for module in modules)]
        found = [(each, *item) for each in held for item in each.items() if isinstance(item[1], Tensor)]
        self.tells = not any(tensor.is_inference() for *_, tensor in found)  # for they count no versions
        self.tensors = [(*one, one[2]._version, one[2].data_ptr()) for one in found] if self.tells else []
        self.sizes = [(each, len(each)) for each in held]
        self.plain = [(m.__dict__, {n: v for n, v in m.__dict__.items() if isinstance(v, PLAIN)}) for m in modules]
        self.others = [
            (module.__dict__, name, value)
            for module in modules
            for name, value in (() if isinstance(module, Affine) else module.__dict__.items())
            if name not in OWN and not isinstance(value, (*PLAIN, Tensor))
            if not (isinstance(module, nn.RNNBase) and name.startswith("_"))  # where torch.nn keeps its parameters
        ]
        values = [value for *_, value in self.others]
        self.flat = [(value, value.copy()) for value in values if _is_flat(value)]
        self.own = frozenset(map(id, modules))
        marks = [(value, self._mark(value)) for value in values if not _is_flat(value)]
        self.tells = self.tells and not any(mark is _Untold for _, mark in marks)
        # What is known by its identity alone is among the others already.
        self.deep = [(value, mark) for value, mark in marks if isinstance(mark, tuple)]
        self.children = [(module._modules, tuple(module._modules.values())) for module in modules if module._modules]
        self.hooks = [module.__dict__[name] for module in modules for name in HOOKS]
        self.hooks += [
            module._modules["parametrizations"] for module in modules if "parametrizations" in module._modules
        ]

    def is_same(self) -> bool:
        """Whether nothing has changed. Writes that count no version, as through `tensor.data`, are not seen."""
        for held, name, tensor, version, place in self.tensors:  # loops, which take half the time of all(...)
            if held.get(name) is not tensor or tensor._version != version or tensor.data_ptr() != place:
                return False
        for held, size in self.sizes:
            if len(held) != size:
                return False
        for held, plain in self.plain:
            if not held.items() >= plain.items():
                return False
        for held, name, value in self.others:
            if held.get(name) is not value:
                return False
        return (
            all(value == copy for value, copy in self.flat)
            and all(self._mark(value) == mark for value, mark in self.deep)
            and all(tuple(held.values()) == modules for held, modules in self.children)
        )

    def _mark(self, value: Any) -> Any:
        """What is equal as long as it has not changed, or _Untold."""
        try:
            return mark_of(value, self._mark_within)
        except _Untold:
            return _Untold

    def _mark_within(self, value: Any) -> Any:
        if isinstance(value, Tensor) and not value.is_inference():
            return Identity(value), value._version, value.data_ptr()
        if isinstance(value, partial):
            return mark_of((value.func, value.args, value.keywords), self._mark_within)
        if isinstance(value, FIXED) or id(value) in self.own:
            return Identity(value)
        raise _Untold

    def is_hooked(self) -> bool:
        """Whether some module has a hook, or computes a weight, which a step in one piece would not do."""
        return any(self.hooks) or _has_any_global_hook()


class _Untold(Exception):
    """It cannot be told whether an object changes."""


def _is_flat(value: Any) -> bool:
    """Whether it is a container of numbers and names alone, which a copy tells the quickest."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | set) else (value,)
    return isinstance(value, dict | list | set) and all(isinstance(each, PLAIN) for each in inside)


_kept: WeakKeyDictionary[nn.Module, dict[tuple[Given, ...], tuple[Stepper | Exception, _Seen]]] = WeakKeyDictionary()


def stepper_of(rnn: Any, given: tuple[Given, ...] = ()) -> Stepper | Exception | None:
    """The stepper of a layer, made anew when it has changed, or why there is none.

    None if a module has a hook, or if it cannot be told whether the weights, or what else a cell holds, have changed.
    """
    known = _kept.setdefault(rnn, {})
    stepper, seen = known.get(given, (None, None))
    if seen is None or not seen.is_same():
        seen = _Seen(rnn)
        if not seen.tells:
            return None
        try:
            stepper = Stepper.of(rnn, given)
        except (BadInput, CannotBuild) as error:
            stepper = error
        if len(known) > 8:  # somebody changes the shapes at every call
            known.clear()
        known[given] = stepper, _Seen(rnn)  # as it is now that it has been traced
    return None if seen.is_hooked() else stepper


class _Desk:
    """Memory for steps of so many rows, and arrays of addresses, to be filled in at each call."""

    def __init__(self, stepper: Stepper, rows: int):
        kernel = stepper.kernel
        self.memory = kernel.memory(rows)
        self.address = self.memory.data_ptr()
        self.inputs, self.outputs = kernel.Inputs(), kernel.Outputs()
        self.before, self.after = kernel.States(), kernel.States()
        item = kernel.plan.item
        self.offsets = [(i, k, row * rows * width * item) for i, (k, row, width) in enumerate(stepper.places)]

    def put(self, array: Addresses, states: Sequence[Tensor]) -> None:
        """Where the states of each layer are in tensors [layers, rows, width]."""
        starts = [state.data_ptr() for state in states]
        for i, k, offset in self.offsets:
            array[i] = starts[k] + offset


class _Desks(local):
    """The desks of each thread, by stepper and rows."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Stepper, dict[int, _Desk]] = WeakKeyDictionary()

    def desk(self, stepper: Stepper, rows: int) -> _Desk:
        known = self.of.get(stepper)
        if known is None:
            known = self.of[stepper] = {}
        if rows not in known:
            known[rows] = _Desk(stepper, rows)
        return known[rows]


_desks = _Desks()


def run(
    stepper: Stepper, inputs: Sequence[Tensor], states: Sequence[Tensor], constants: Sequence[Tensor], start: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Some steps from given states: the outputs, [steps, rows, width] or [rows, width], and the states after them."""
    kernel, shape = stepper.kernel, inputs[0].shape[:-1]
    rows = shape[-1]
    desk, outputs = _desks.desk(stepper, rows), stepper.empty(shape)
    last = [torch.empty_like(state) for state in states]
    if constants:
        kernel.begin(stepper.weights, desk.memory, constants, rows)
    for i, tensor in enumerate(inputs):
        desk.inputs[i] = tensor.data_ptr()
    for i, tensor in enumerate(outputs):
        desk.outputs[i] = tensor.data_ptr()
    desk.put(desk.before, states)
    desk.put(desk.after, last)
    steps = 1 if len(shape) == 1 else shape[0]
    arrays = desk.inputs, desk.outputs, steps, start, rows, desk.before, desk.after
    kernel.apply(stepper.address, desk.address, *arrays)
    return outputs, last


def first_states(rnn: Any, rows: int) -> list[Tensor]:
    """The states before the first step, [layers, rows, width] each."""
    by_layer = [initial_states(rnn, row) for row in range(rnn.num_layers)]
    return [torch.stack([states[name].detach().expand(rows, -1) for states in by_layer]) for name in rnn.state_names]


MOST_ROWS, MOST_STEPS = 16, 4  # above, a kernel for whole sequences is the better way


def attempt(
    rnn: Any, x: Any, hx: Any, start: int, extra: Mapping[str, Tensor]
) -> tuple[Tensor, list[Tensor], dict[str, Any]] | None:
    """Few steps of few rows in inference, x [T, B, input_size], or one, x [B, input_size]: the output, the last states,
    and the further outputs. Streams have T where x has it.

    None where another way is to be taken, which also tells what is wrong with the arguments.
    """
    if not _is_plain(rnn, x, start) or not all(_is_given(rnn, n, v, x) for n, v in extra.items()):
        return None
    given: tuple[Given, ...] = ()
    if extra:
        constant, over = rnn.cell.constant, x.dim() - 1
        given = tuple((n, tuple(v.shape[1 if n in constant else over :]), None) for n, v in extra.items())
    stepper = stepper_of(rnn, given)
    if not isinstance(stepper, Stepper) or x.dtype != stepper.kernel.plan.dtype:
        return None
    rows, steps = x.shape[-2], x.shape[0] if x.dim() == 3 else 1
    if start + steps > stepper.network.steps:
        return None
    states = first_states(rnn, rows) if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
    shapes = stepper.state_shapes(rows)
    if len(states) != len(shapes) or not all(_fits(s, shape, x.dtype) for s, shape in zip(states, shapes, strict=True)):
        return None
    known = {"x": x, **extra}
    if known.keys() != stepper.arguments:
        return None
    inputs, constants = ([known[n].contiguous() for n in names] for names in (stepper.streams, stepper.constants))
    outputs, last = run(stepper, inputs, [state.contiguous() for state in states], constants, start)
    return outputs[stepper.result], last, stepper.values(outputs)


def _is_plain(rnn: Any, x: Any, start: Any) -> bool:
    """Whether a call is one for single steps: numbers in, numbers out, and nobody looks on."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or type(x) is not Tensor or x.is_neg():
        return False
    if x.dim() not in (2, 3):
        return False
    *steps, rows, width = x.shape
    if not (all(0 < count <= MOST_STEPS for count in steps) and 0 < rows <= MOST_ROWS and width == rnn.input_size):
        return False
    if rnn.bidirectional or not x.is_cpu or type(start) is not int or not 0 <= start < 2**24 - MOST_STEPS:
        return False
    if rnn.training and (rnn.dropout or rnn.input_dropout or rnn.recurrent_dropout or rnn.zoneout):
        return False
    watched = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    special = watched or torch.jit.is_tracing() or is_transforming() or torch.is_autocast_enabled("cpu")
    return not special and forward_ad._current_level < 0 and chosen() != "eager"


def _fits(state: Any, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    plain = type(state) in (Tensor, nn.Parameter) and not state.is_neg()
    return plain and state.shape == shape and state.dtype == dtype


def _is_given(rnn: Any, name: str, value: Any, x: Tensor) -> bool:
    """Whether a stream or a constant is as the step takes it."""
    if type(value) not in (Tensor, nn.Parameter) or value.dtype != x.dtype or value.device.type != "cpu":
        return False
    if value.is_neg():
        return False
    if name in rnn.cell.constant:
        return value.shape[:1] == x.shape[-2:-1]
    return value.shape[: x.dim() - 1] == x.shape[:-1]
