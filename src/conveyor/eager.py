"""The loop over a cell's step. It defines what the cell computes; every faster way must give its numbers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from conveyor.cell import Cell


class Step(Protocol):
    """What the loop needs of a cell: its names, and the step itself."""

    @property
    def state(self) -> tuple[str, ...]: ...
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
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:
    """The loop over `step`. It is the specification: every faster way to run a cell must give its numbers.

    `streams`: [T, B, ...] each; `state`: [B, width] each; `lengths`: [B] or none. Returns the output [T, B, width of
    the first state], the last states, and with `record` every named value of the step, [T, B, ...]. A row that is past
    its length takes no step: it keeps its states, its outputs and values are zero, and its padding is never read.
    """
    steps, batch = streams["x"].shape[:2]
    present = tuple(state)
    outputs: list[Tensor] = []
    history: list[dict[str, Tensor]] = []
    shared: set[str] = set()
    for t in range(steps):
        rows = None if lengths is None else (t < lengths).nonzero().squeeze(1)
        given = {name: stream[t] for name, stream in streams.items()}
        given |= dict(zip(cell.state, present, strict=True)) | dict(constants)
        values, old = (tuple(_take(given[name], rows) for name in names) for names in (cell.arguments, cell.state))
        shared = _shared(cell, values) if record and t == 0 else shared
        new, named = _step(cell, values, old, record)
        named |= {name: named[name].expand(len(old[0]), *named[name].shape) for name in shared & set(named)}
        outputs.append(_put(new[0], rows, torch.zeros_like(present[0])))
        history.append({name: _put(v, rows, v.new_zeros(batch, *v.shape[1:])) for name, v in named.items()})
        present = tuple(_put(value, rows, before) for value, before in zip(new, present, strict=True))
    if not outputs:
        return streams["x"].new_zeros(0, batch, present[0].shape[1]), present, {}
    return torch.stack(outputs), present, _over_time(cell, history)


def _take(value: Tensor, rows: Tensor | None) -> Tensor:
    return value if rows is None else value.index_select(0, rows)


def _put(value: Tensor, rows: Tensor | None, others: Tensor) -> Tensor:
    """The value's rows in their places, and those of `others` elsewhere."""
    return value if rows is None else others.index_copy(0, rows, value.to(others.dtype))


def _over_time(cell: Step, history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    everywhere = set.intersection(*map(set, history))
    sometimes = sorted(set.union(*map(set, history)) - everywhere)
    if sometimes:
        raise ValueError(f"{place(cell)} names {', '.join(sometimes)} in some steps only, so it has no value over time")
    return {name: torch.stack([named[name] for named in history]) for name in history[0]}


def _step(
    cell: Step, arguments: tuple[Tensor, ...], old: tuple[Tensor, ...], record: bool
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    if not record:
        return new_state(cell, cell.step(*arguments), old), {}
    named: dict[str, Tensor] = {}
    with _watched(cell, named):
        new = new_state(cell, cell.step(*arguments), old)
    # A new state that `step` returns without having named it still has the state's name.
    return new, named | dict(zip(cell.state, new, strict=True))


def _shared(cell: Step, arguments: Sequence[Tensor]) -> set[str]:
    """The names of values that have no row for each sequence, such as those of parameters only.

    A shape does not tell whether its first dimension is the batch, but with two rows for one only the batch grows.
    """
    sizes = []
    for rows in (1, 2):
        named: dict[str, Tensor] = {}
        values = tuple(value.new_zeros(rows, *value.shape[1:]) for value in arguments)
        with torch.no_grad(), _watched(cell, named):
            cell.step(*values)
        sizes.append({name: value.shape[:1] for name, value in named.items()})
    return {name for name, size in sizes[0].items() if size == sizes[1].get(name)}


def new_state(cell: Step, result: Any, old: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What `step` returned, as a tuple. Raises ValueError unless it is a tensor of each state's shape."""
    new = tuple(result) if isinstance(result, tuple | list) else (result,)
    wanted = [list(value.shape) for value in old]
    shapes = [list(value.shape) if isinstance(value, Tensor) else type(value).__name__ for value in new]
    if shapes != wanted:
        states = ", ".join(cell.state)
        raise ValueError(f"{place(cell)} must return the new ({states}), of shapes {wanted}, but it returned {shapes}")
    return new


def place(cell: Any) -> str:
    """Where a cell's step is written, for messages."""
    code = inspect.unwrap(type(cell).step).__code__
    return f"{type(cell).__name__}.step ({Path(code.co_filename).name}, line {code.co_firstlineno})"


@contextmanager
def _watched(cell: Any, named: dict[str, Tensor]) -> Iterator[None]:
    """Inside, fills `named` with the tensors that `step` has in its local variables when it returns.

    What it was given, under whatever name, and parameters are left out. The values of a cell within the cell have its
    path before their names: "inner.f".
    """
    paths = {module: path for path, module in cell.named_modules() if isinstance(module, Cell)}
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
        path = paths.get(frame.f_locals["self"], "")
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


def _step_codes(cell: Cell) -> Iterator[CodeType]:
    """The code of its `step`, and of those of its base classes, which it may call."""
    for cls in type(cell).__mro__:
        if isinstance(vars(cls).get("step"), FunctionType):
            yield inspect.unwrap(vars(cls)["step"]).__code__
