"""The kernel of a cell: made when it is first wanted, found again, and the tensors that it reads."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from conveyor.affine import Affine
from conveyor.compiler import BUILDING, Argument, CannotCompile, Graph, Kernel, trace
from conveyor.eager import Step, place, take_step


@dataclass
class CellKernel:
    """A cell's kernel, and where its weights are now."""

    kernel: Kernel
    weights: dict[str, Callable[[], Tensor | None]]
    shapes: dict[str, tuple[int, ...]]


_compiled: WeakKeyDictionary[nn.Module, dict[Any, CellKernel | CannotCompile]] = WeakKeyDictionary()


def check_weights(cell: Step, weights: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    for name, weight in weights.items():
        if weight.dtype == dtype and weight.is_cpu:
            continue
        if weight.is_floating_point() and weight.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise ValueError(
                f"{place(cell)}: {name} is {weight.dtype}, but the input is {dtype}: "
                f"bring all to one, layer.to({dtype})"
            )
        if not weight.is_cpu:
            raise ValueError(f"{place(cell)}: {name} is on {weight.device}, but the input is on cpu: layer.to('cpu')")


def forget(cell: Any) -> None:
    """Something in the cell has been put in another's place: its kernels are made anew."""
    _compiled.pop(module_of(cell), None)


def module_of(cell: Any) -> nn.Module:
    return cell if isinstance(cell, nn.Module) else cell.cell


def kernel_of(
    cell: Any,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    constants: tuple[str, ...],
    dtype: torch.dtype,
    record: bool,
) -> CellKernel:
    """The kernel of a cell's step for values of these shapes; made anew when the cell has been changed."""
    module = module_of(cell)
    key = (shapes, dtype, record, cell.arguments, _marks(module))
    known = _compiled.setdefault(module, {})
    found = known.get(key)
    if found is None:
        with BUILDING:  # threads that come at once make it once
            found = known.get(key)
            if found is None:
                if len(known) > 32:  # somebody changes the cell at every call
                    known.clear()
                found = known[key] = _attempt(cell, module, dict(shapes), constants, dtype, record)
    if isinstance(found, CannotCompile):
        raise found.with_traceback(None)
    return found


def _attempt(*given: Any) -> CellKernel | CannotCompile:
    """The kernel, or why there is none, which need not be found out at every call."""
    try:
        return _compile(*given)
    except CannotCompile as error:
        return error


def _marks(module: nn.Module) -> tuple[Any, ...]:
    """What of a module a trace depends on, besides its tensors: numbers and names that it holds."""
    marks: list[Any] = []
    _collect(module, marks)
    return tuple(marks)


def _collect(module: nn.Module, marks: list[Any]) -> None:
    marks.append(id(module))
    if isinstance(module, Affine):  # nothing in it changes but whether it has a bias
        marks.append(module._parameters.get("bias") is None)
        return
    for name, value in module.__dict__.items():
        if name[0] != "_":
            marks.append(value if isinstance(value, PLAIN) else _mark(value))
    for child in module._modules.values():
        if child is not None:
            _collect(child, marks)


PLAIN = (int, float, str)


def _mark(value: Any) -> Any:
    if isinstance(value, list | tuple | set):
        return tuple(map(_mark, value))
    if isinstance(value, dict):
        return tuple((key, _mark(item)) for key, item in value.items())
    if isinstance(value, int | float | str | None):
        return value
    if isinstance(value, Namespace | SimpleNamespace) or (is_dataclass(value) and not isinstance(value, type)):
        return id(value), _mark(getattr(value, "__dict__", None))  # settings, of which one may change
    return id(value)


def _compile(
    cell: Any,
    module: nn.Module,
    dims: dict[str, tuple[int, ...]],
    constants: tuple[str, ...],
    dtype: torch.dtype,
    record: bool,
) -> CellKernel:
    kinds = dict.fromkeys(constants, "constant") | dict.fromkeys(cell.state, "state") | {"t": "step"}
    arguments = [Argument(kinds.get(name, "stream"), name, dims.get(name, ())) for name in cell.arguments]

    def step(*given: Tensor) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        return take_step(cell, dict(zip(cell.arguments, given, strict=True)), record)

    before = _marks(module)
    getters = dict(_weights(module))
    with torch.autocast("cpu", enabled=False), parametrize.cached():
        weights = {name: weight for name, get in getters.items() if (weight := get()) is not None}
        try:
            traced = trace(step, arguments, cell.state, weights)
        except (RuntimeError, TypeError):
            check_weights(cell, weights, dtype)  # a likely reason, and easier to understand
            raise
    if _marks(module) != before:
        raise CannotCompile(
            "the step", "it changes what the cell holds", "keep what changes from step to step in a state"
        )
    used = traced.graph.inputs("weight")
    getters |= {name: _always(tensor) for name, tensor in traced.found.items()}
    shapes = {name: traced.graph.nodes[i].dims for name, i in used.items()}
    return CellKernel(_shared_kernel(traced.graph, dtype), {name: getters[name] for name in used}, shapes)


@lru_cache(maxsize=256)
def _shared_kernel(graph: Graph, dtype: torch.dtype) -> Kernel:
    """Equal graphs, such as those of the layers of a stack, have one kernel."""
    return Kernel(graph, dtype)


def _weights(module: nn.Module) -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
    """Every tensor that the modules hold, by its path, and how to read it now."""
    for path, owner in module.named_modules():
        names = [*owner._parameters, *owner._buffers, *(n for n, v in owner.__dict__.items() if isinstance(v, Tensor))]
        if parametrize.is_parametrized(owner):
            names += list(owner.parametrizations)
        for name in names:
            value = getattr(owner, name)
            if isinstance(value, Tensor):
                plain = name in owner._parameters  # its place is read at every run, and this is the quickest way
                read = partial(owner._parameters.get, name) if plain else partial(getattr, owner, name)
                yield (f"{path}.{name}" if path else name), read


def _always(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor
