"""The loop over a cell's step. It defines what the cell computes: every faster implementation must match it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from conveyor.cell.packed import Packed, holding


class Unrolled(NamedTuple):
    """The results of a scan: the first state over time, the final states, and further values over time by name."""

    output: Tensor
    last: tuple[Tensor, ...]
    values: dict[str, Tensor]


class Step(Protocol):
    """The interface that the loop needs: the names of a cell as in `Cell`, and its step."""

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the states."""

    @property
    def extra(self) -> tuple[str, ...]:
        """The names of the extra outputs."""

    @property
    def over_time(self) -> tuple[str, ...]:
        """The names of the values that the loop returns over time besides the first state."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments of `step`, in order."""

    @property
    def packed(self) -> Packed | None:
        """Where its weights lie in a layer's tensors, if they do."""

    def step(self, *arguments: Any) -> Tensor | tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Scan:
    """A run of a cell's step over the sequences of a batch.

    `streams`: [T, B, ...] each, x among them; `state`: the initial states, [B, width] each; `constants`: [B, ...]
    each; `lengths`: [B] or none; `record`: whether every named value of the step is wanted; `start`: the number of
    the first step; `sources`: the tensors that a packed cell's weights are blocks of, by the names of its packing.
    """

    cell: Step
    streams: Mapping[str, Tensor]
    state: tuple[Tensor, ...]
    constants: Mapping[str, Tensor]
    lengths: Tensor | None = None
    record: bool = False
    start: int = 0
    sources: Mapping[str, Tensor] | None = None

    @property
    def x(self) -> Tensor:
        """The input, [T, B, width]."""
        return self.streams["x"]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that the step is given."""
        return (*self.streams.values(), *self.state, *self.constants.values())


def unroll(scan: Scan) -> Unrolled:
    """The loop over `step`. It is the specification: every faster implementation must match it.

    Returns the first state over time [T, B, width], the final states [B, width], and by name the values `over_time` of
    the cell or, with `record`, every named value of the step, [T, B, ...]. A row past its length takes no step: its
    states do not change, its outputs and values are zero, and its padding is never read.
    """
    with holding(scan.cell.packed, scan.sources):
        return _unroll(scan)


def _unroll(scan: Scan) -> Unrolled:
    cell, record = scan.cell, scan.record
    steps, batch = scan.x.shape[:2]
    present = scan.state
    if not steps:
        return Unrolled(scan.x.new_zeros(0, *present[0].shape), present, _no_values(scan))
    numbers = torch.arange(scan.start, scan.start + steps, device=scan.x.device)
    given: dict[str, Tensor] = {}  # the arguments of the step
    outputs: list[Tensor] = []
    history: list[dict[str, Tensor]] = []
    shared: set[str] = set()
    for t in range(steps):
        rows = _rows(t, scan.lengths)
        now = {name: stream[t] for name, stream in scan.streams.items()}
        now |= dict(zip(cell.state, present, strict=True)) | dict(scan.constants)
        given = {name: _take(value, rows, given.get(name)) for name, value in now.items()} | {"t": numbers[t]}
        shared = _shared(cell, given) if record and t == 0 else shared
        new, named = take_step(cell, given, record)
        named |= {name: named[name].expand(len(new[0]), *named[name].shape) for name in shared & set(named)}
        outputs.append(_put(new[0], rows, new[0].new_zeros(batch, *new[0].shape[1:])))
        history.append({name: _put(v, rows, v.new_zeros(batch, *v.shape[1:])) for name, v in named.items()})
        present = tuple(_put(value, rows, before) for value, before in zip(new, present, strict=True))
    return Unrolled(torch.stack(outputs), present, _over_time(cell, history))


def is_transformed(value: Tensor) -> bool:
    """Whether a torch.func transform wraps the tensor, so that its elements cannot be read: under vmap it is many."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(value)


def is_readable(value: Tensor) -> bool:
    """Whether the tensor has elements that can be read, as none on the device meta or under FakeTensorMode has."""
    return not (is_transformed(value) or value.is_meta or isinstance(value, FakeTensor))


def is_autocast(device: torch.device) -> bool:
    """Whether operations on the device run under autocast, which some kinds of device, such as meta, do not have."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def is_transforming() -> bool:
    """Whether any torch.func transform is active: vmap, grad, jacrev, ..."""
    return torch._C._functorch.maybe_current_level() is not None


def _rows(t: int, lengths: Tensor | None) -> Tensor | None:
    """The rows that take step `t`: None for all, else their indices, or a mask [B] where they cannot be read."""
    if lengths is None:
        return None
    active = t < lengths
    return active.nonzero().squeeze(1) if is_readable(lengths) else active


def _take(value: Tensor, rows: Tensor | None, before: Tensor | None) -> Tensor:
    """The elements of `value` for the rows that take the step.

    With a mask all rows have to take it. A row past its end repeats its last step and the result is discarded: the
    gradient of a step that was already taken is finite, while that of a step on padding or zeros may not be. A row that
    takes no step at all gets 0.5, which lies in the domain of most functions.
    """
    if rows is None:
        return value
    if rows.dtype != torch.bool:
        return value.index_select(0, rows)
    return _where(rows, value, torch.full_like(value, 0.5) if before is None else before)


def _put(value: Tensor, rows: Tensor | None, before: Tensor) -> Tensor:
    """`before` [B, ...] with the rows that took the step replaced by `value`."""
    if rows is None:
        return value
    before = before.to(value.dtype)
    return _where(rows, value, before) if rows.dtype == torch.bool else before.index_copy(0, rows, value)


def _where(rows: Tensor, value: Tensor, before: Tensor) -> Tensor:
    return torch.where(rows.reshape(-1, *[1] * (value.dim() - 1)), value, before)


def _over_time(cell: Step, history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    everywhere = set.intersection(*map(set, history))
    sometimes = sorted(set.union(*map(set, history)) - everywhere)
    if sometimes:
        raise ValueError(
            f"{location(cell)} assigns {', '.join(sometimes)} in some steps only, so it has no value over time: "
            "assign it in every step"
        )
    return {name: torch.stack([named[name] for named in history]) for name in history[0]}


def take_step(cell: Step, given: Mapping[str, Tensor], record: bool) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The new states, and by name the values `over_time` of the cell or, with `record`, all values."""
    arguments, old = (tuple(given[name] for name in names) for names in (cell.arguments, cell.state))
    named: dict[str, Tensor] = {}
    with _watched(cell, named) if record else nullcontext():
        new = check_new(cell, cell.step(*arguments), old)
    returned = dict(zip((*cell.state, *cell.extra), new, strict=True))
    # A new state that `step` returns without assigning it to a variable is recorded under the name of the state.
    named |= returned if record else {name: returned[name] for name in cell.over_time}
    return new[: len(old)], named


def _named_on_zeros(cell: Step, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """The named values of a step on zeros, for their shapes."""
    zeros = {name: v if name == "t" else v.new_zeros(rows, *v.shape[1:]) for name, v in given.items()}
    # With gradients: a parametrized weight that is computed here is cached and used for the sequence.
    return take_step(cell, zeros, record=True)[1]


def _shared(cell: Step, given: Mapping[str, Tensor]) -> set[str]:
    """The names of values without a batch dimension, such as those that depend on parameters only.

    One shape does not tell whether its first dimension is the batch, but running one row and two rows does.
    """
    one, two = (_named_on_zeros(cell, given, rows) for rows in (1, 2))
    return {name for name, value in one.items() if name in two and value.shape[:1] == two[name].shape[:1]}


def _no_values(scan: Scan) -> dict[str, Tensor]:
    """The values over zero steps, [0, B, ...], with the shapes that a step would give them."""
    cell = scan.cell
    if not scan.record and not cell.over_time:
        return {}
    given = {name: stream.new_zeros(stream.shape[1:]) for name, stream in scan.streams.items()}
    given |= dict(zip(cell.state, scan.state, strict=True)) | dict(scan.constants)
    given["t"] = torch.zeros((), dtype=torch.int64, device=scan.x.device)
    shared = _shared(cell, given)
    named = {n: v for n, v in _named_on_zeros(cell, given, 1).items() if scan.record or n in cell.over_time}
    batch = len(scan.state[0])
    return {n: v.new_zeros(0, batch, *(v.shape if n in shared else v.shape[1:])) for n, v in named.items()}


def check_new(cell: Step, result: Any, old: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The result of `step` as a tuple: the new states and the extra outputs.

    Raises ValueError unless each new state has the shape of the old one, and each extra output as many rows.
    """
    new = tuple(result) if isinstance(result, tuple | list) else (result,)
    wanted = [list(value.shape) for value in old]
    shapes = [list(value.shape) if isinstance(value, Tensor) else type(value).__name__ for value in new]
    states, extra = shapes[: len(wanted)], shapes[len(wanted) :]
    rows = wanted[0][:1]
    if states != wanted or len(extra) != len(cell.extra) or any(shape[:1] != rows for shape in extra):
        further = f" and the extra ({', '.join(cell.extra)}), with {rows[0]} rows each" if cell.extra else ""
        raise ValueError(
            f"{location(cell)} must return the new ({', '.join(cell.state)}), of shapes {wanted}{further}, "
            f"but it returned {shapes}"
        )
    return new


def location(cell: Any) -> str:
    """The name, file and line of a cell's step, for messages."""
    owner, method = equations_of(cell)
    name, code = f"{type(owner).__name__}.{method}", _code(owner, method)
    return f"{name} ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else name


def equations_of(cell: Any) -> tuple[Any, str]:
    """The object, and its method, in which the equations of a step stand: the cell's own, unless it wraps another's."""
    found: tuple[Any, str] = getattr(cell, "_wraps", (cell, "step"))
    return found


def _code(owner: Any, method: str) -> CodeType | None:
    return getattr(inspect.unwrap(getattr(type(owner), method)), "__code__", None)


@contextmanager
def _watched(cell: Any, named: dict[str, Tensor]) -> Iterator[None]:
    """Within this context, fills `named` with the tensors in the local variables of `step` when it returns.

    Arguments, under any name, and parameters are left out. The names of values of a nested cell, or of any other
    submodule with a `step`, are prefixed with its path: "inner.f".
    """
    paths: dict[Any, str] = {}
    codes: set[CodeType] = set()
    for path, module in cell.named_modules():
        owner, method = equations_of(module)
        if hasattr(type(owner), method):
            paths.setdefault(owner, path)
            codes.update(_codes(owner, method))
    calls: list[list[Tensor]] = []  # a stack: the arguments of each running step

    def look(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code not in codes or event not in ("call", "return"):
            return
        values = {name: value for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
        if event == "call":
            calls.append(list(values.values()))
            return
        given = calls.pop()
        path = paths.get(frame.f_locals[frame.f_code.co_varnames[0]], "")  # the first argument, usually self
        for name, value in values.items():
            if not isinstance(value, nn.Parameter) and not any(value is other for other in given):
                named[f"{path}.{name}" if path else name] = value

    previous: Any = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(previous if callable(previous) else None)
        if previous is not None and not callable(previous):
            previous.enable()  # a profiler written in C, which sys.setprofile cannot restore


def _codes(owner: Any, method: str) -> Iterator[CodeType]:
    """The code objects of its method and of its base classes' method of that name, which it may call.

    PyTorch's own are left out: what their variables are called says nothing.
    """
    for cls in type(owner).__mro__:
        if isinstance(vars(cls).get(method), FunctionType) and not cls.__module__.startswith("torch.nn."):
            yield inspect.unwrap(vars(cls)[method]).__code__
