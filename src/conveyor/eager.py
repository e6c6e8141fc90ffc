"""The loop over a cell's step. It defines what the cell computes; every faster way must give its numbers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
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
    the first state], the last states, and with `record` every named value of the step, [T, B, ...] (a value that has no
    row for each sequence is repeated for each). A row that is past its length keeps its states, and its outputs and
    values are zero.
    """
    steps, batch = streams["x"].shape[:2]
    present = tuple(state)
    outputs: list[Tensor] = []
    history: list[dict[str, Tensor]] = []
    for t in range(steps):
        given = {name: stream[t] for name, stream in streams.items()}
        given |= dict(zip(cell.state, present, strict=True)) | dict(constants)
        new, named = _step(cell, tuple(given[name] for name in cell.arguments), present, record)
        output, named = new[0], {name: _rows(value, batch) for name, value in named.items()}
        if lengths is not None:
            active = t < lengths
            output = _where(active, output, torch.zeros_like(output))
            named = {name: _where(active, value, torch.zeros_like(value)) for name, value in named.items()}
            new = tuple(_where(active, value, old) for value, old in zip(new, present, strict=True))
        outputs.append(output)
        history.append(named)
        present = new
    if not outputs:
        return streams["x"].new_zeros(0, batch, present[0].shape[1]), present, {}
    values = {name: torch.stack([named[name] for named in history]) for name in history[0]}
    return torch.stack(outputs), present, values


def _rows(value: Tensor, batch: int) -> Tensor:
    return value if value.dim() > 1 and value.shape[0] == batch else value.expand(batch, *value.shape)


def _where(active: Tensor, value: Tensor, other: Tensor) -> Tensor:
    return torch.where(active.reshape(-1, *[1] * (value.dim() - 1)), value, other)


def _step(
    cell: Step, arguments: tuple[Tensor, ...], old: tuple[Tensor, ...], record: bool
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    named: dict[str, Tensor] = {}
    if record:
        with _watched(cell, arguments, named):
            result = cell.step(*arguments)
    else:
        result = cell.step(*arguments)
    new = tuple(result) if isinstance(result, tuple | list) else (result,)
    wanted = [list(value.shape) for value in old]
    shapes = [list(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in new]
    if shapes != wanted:
        raise ValueError(
            f"{cell!r}: step must return its new states ({', '.join(cell.state)}), of shapes {wanted}, but it returned "
            f"{shapes}"
        )
    # A new state that `step` returns without having named it still has the state's name.
    return new, named | dict(zip(cell.state, new, strict=True)) if record else named


@contextmanager
def _watched(cell: Step, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> Iterator[None]:
    """Inside, fills `named` with the tensors that `step` has in its local variables when it returns."""
    codes, known = set(_step_codes(cell)), {id(value) for value in arguments}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code in codes:
            tensors = {name: value for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
            new = {n: v for n, v in tensors.items() if id(v) not in known and not isinstance(v, nn.Parameter)}
            named.update(new)

    previous = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(previous)


def _step_codes(cell: Any) -> Iterator[CodeType]:
    """The code of `step`, and of the steps that it may call: those of its base classes and of cells within it."""
    cells = [module for module in cell.modules() if isinstance(module, Cell)]
    for cls in {cls for module in cells for cls in type(module).__mro__}:
        function = inspect.unwrap(vars(cls).get("step", None) or (lambda: None))
        if hasattr(function, "__code__"):
            yield function.__code__
