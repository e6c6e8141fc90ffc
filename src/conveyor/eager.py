"""The loop over a cell's step. It defines what the cell computes; every faster way must give its numbers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from conveyor.sequences import is_transformed

Unrolled = tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]  # the output, the last states, the values by name


class Step(Protocol):
    """What the loop needs of a cell: its names, and the step itself."""

    @property
    def state(self) -> tuple[str, ...]: ...
    @property
    def extra(self) -> tuple[str, ...]: ...
    @property
    def over_time(self) -> tuple[str, ...]: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...
    def step(self, *arguments: Any) -> Tensor | tuple[Tensor, ...]: ...


def unroll(
    cell: Step,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None = None,
    record: bool = False,
    start: int = 0,
) -> Unrolled:
    """The loop over `step`. It is the specification: every faster way to run a cell must give its numbers.

    `streams`: [T, B, ...] each; `state`: [B, width] each; `lengths`: [B] or none; `start`: the number of the first
    step. Returns the first state over time [T, B, width], the last states, and by name what the cell has `over_time`,
    with `record` every named value of the step, [T, B, ...]. A row that is past its length takes no step: it keeps its
    states, its outputs and values are zero, and its padding is never read.
    """
    steps, batch = streams["x"].shape[:2]
    present = tuple(state)
    if not steps:
        no_values = _no_values(cell, streams, present, constants, record)
        return streams["x"].new_zeros(0, *present[0].shape), present, no_values
    numbers = torch.arange(start, start + steps, device=streams["x"].device)
    given: dict[str, Tensor] = {}  # what the step takes
    outputs: list[Tensor] = []
    history: list[dict[str, Tensor]] = []
    shared: set[str] = set()
    for t in range(steps):
        rows = _rows(t, lengths)
        now = {name: stream[t] for name, stream in streams.items()}
        now |= dict(zip(cell.state, present, strict=True)) | dict(constants)
        given = {name: _take(value, rows, given.get(name)) for name, value in now.items()} | {"t": numbers[t]}
        shared = _shared(cell, given) if record and t == 0 else shared
        new, named = take_step(cell, given, record)
        named |= {name: named[name].expand(len(new[0]), *named[name].shape) for name in shared & set(named)}
        outputs.append(_put(new[0], rows, new[0].new_zeros(batch, *new[0].shape[1:])))
        history.append({name: _put(v, rows, v.new_zeros(batch, *v.shape[1:])) for name, v in named.items()})
        present = tuple(_put(value, rows, before) for value, before in zip(new, present, strict=True))
    return torch.stack(outputs), present, _over_time(cell, history)


def _rows(t: int, lengths: Tensor | None) -> Tensor | None:
    """Which rows take step `t`: none if all do, else their places, or a mask [B] where torch.func maps the lengths."""
    if lengths is None:
        return None
    active = t < lengths
    return active if is_transformed(lengths) else active.nonzero().squeeze(1)


def _take(value: Tensor, rows: Tensor | None, before: Tensor | None) -> Tensor:
    """The rows that take the step.

    Behind a mask no row can be left out. There a row past its end takes its last step again, and its result is put
    aside: a step that it has once taken is sure to have a gradient, where one on padding, or on zeros, may have none.
    A row that takes no step at all is given what lies within the bounds of most functions.
    """
    if rows is None:
        return value
    if rows.dtype != torch.bool:
        return value.index_select(0, rows)
    return _where(rows, value, torch.full_like(value, 0.5) if before is None else before)


def _put(value: Tensor, rows: Tensor | None, others: Tensor) -> Tensor:
    """The value's rows in their places, and those of `others` elsewhere."""
    if rows is None:
        return value
    others = others.to(value.dtype)
    return _where(rows, value, others) if rows.dtype == torch.bool else others.index_copy(0, rows, value)


def _where(rows: Tensor, value: Tensor, others: Tensor) -> Tensor:
    return torch.where(rows.reshape(-1, *[1] * (value.dim() - 1)), value, others)


def _over_time(cell: Step, history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    everywhere = set.intersection(*map(set, history))
    sometimes = sorted(set.union(*map(set, history)) - everywhere)
    if sometimes:
        raise ValueError(f"{place(cell)} names {', '.join(sometimes)} in some steps only, so it has no value over time")
    return {name: torch.stack([named[name] for named in history]) for name in history[0]}


def take_step(cell: Step, given: Mapping[str, Tensor], record: bool) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The new states, and by name what the cell has `over_time` or, with `record`, all values."""
    arguments, old = (tuple(given[name] for name in names) for names in (cell.arguments, cell.state))
    named: dict[str, Tensor] = {}
    with _watched(cell, named) if record else nullcontext():
        new = check_new(cell, cell.step(*arguments), old)
    returned = dict(zip((*cell.state, *cell.extra), new, strict=True))
    # A new state that `step` returns without having named it still has the state's name.
    named |= returned if record else {name: returned[name] for name in cell.over_time}
    return new[: len(old)], named


def _named_on_zeros(cell: Step, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """What a step names, to learn the shapes."""
    zeros = {name: v if name == "t" else v.new_zeros(rows, *v.shape[1:]) for name, v in given.items()}
    # With gradients: a parametrized weight that is computed here is the one that the sequence is run with.
    return take_step(cell, zeros, record=True)[1]


def _shared(cell: Step, given: Mapping[str, Tensor]) -> set[str]:
    """The names of values that have no row for each sequence, such as those of parameters only.

    A shape does not tell whether its first dimension is the batch, but with two rows for one only the batch grows.
    """
    one, two = (_named_on_zeros(cell, given, rows) for rows in (1, 2))
    return {name for name, value in one.items() if name in two and value.shape[:1] == two[name].shape[:1]}


def _no_values(
    cell: Step,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    record: bool,
) -> dict[str, Tensor]:
    """The values of no steps at all, [0, B, ...], in the shapes that a step would give them."""
    if not record and not cell.over_time:
        return {}
    given = {name: stream.new_zeros(stream.shape[1:]) for name, stream in streams.items()}
    given |= dict(zip(cell.state, state, strict=True)) | dict(constants)
    given["t"] = torch.zeros((), dtype=torch.int64, device=streams["x"].device)
    shared = _shared(cell, given)
    named = {n: v for n, v in _named_on_zeros(cell, given, 1).items() if record or n in cell.over_time}
    batch = len(state[0])
    return {n: v.new_zeros(0, batch, *(v.shape if n in shared else v.shape[1:])) for n, v in named.items()}


def check_new(cell: Step, result: Any, old: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What `step` returned, as a tuple: the new states and the extra outputs.

    Raises ValueError unless it is a tensor of each state's shape, and for each extra output one with the same rows.
    """
    new = tuple(result) if isinstance(result, tuple | list) else (result,)
    wanted = [list(value.shape) for value in old]
    shapes = [list(value.shape) if isinstance(value, Tensor) else type(value).__name__ for value in new]
    states, extra = shapes[: len(wanted)], shapes[len(wanted) :]
    rows = wanted[0][:1]
    if states != wanted or len(extra) != len(cell.extra) or any(shape[:1] != rows for shape in extra):
        further = f" and the extra ({', '.join(cell.extra)}), with {rows[0]} rows each" if cell.extra else ""
        raise ValueError(
            f"{place(cell)} must return the new ({', '.join(cell.state)}), of shapes {wanted}{further}, "
            f"but it returned {shapes}"
        )
    return new


def place(cell: Any) -> str:
    """Where a cell's step is written, for messages."""
    code = inspect.unwrap(type(cell).step).__code__
    return f"{type(cell).__name__}.step ({Path(code.co_filename).name}, line {code.co_firstlineno})"


@contextmanager
def _watched(cell: Any, named: dict[str, Tensor]) -> Iterator[None]:
    """Inside, fills `named` with the tensors that `step` has in its local variables when it returns.

    What it was given, under whatever name, and parameters are left out. The values of a cell within the cell, and of
    any other module in it with a `step`, have its path before their names: "inner.f".
    """
    paths = {module: path for path, module in cell.named_modules() if hasattr(type(module), "step")}
    codes = {code for module in paths for code in _step_codes(module)}
    calls: list[list[Tensor]] = []  # what each step that is under way was given

    def look(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code not in codes or event not in ("call", "return"):
            return
        values = {name: value for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
        if event == "call":
            calls.append(list(values.values()))
            return
        given = calls.pop()
        path = paths.get(frame.f_locals[frame.f_code.co_varnames[0]], "")  # the first argument, self as a rule
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
            previous.enable()  # the profiler in C, which cannot be set again from Python


def _step_codes(module: nn.Module) -> Iterator[CodeType]:
    """The code of its `step`, and of those of its base classes, which it may call."""
    for cls in type(module).__mro__:
        if isinstance(vars(cls).get("step"), FunctionType):
            yield inspect.unwrap(vars(cls)["step"]).__code__
