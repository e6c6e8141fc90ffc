"""How the loop over a cell's step is run: by a kernel made for it, or where there is none by the eager loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from conveyor.affine import Affine
from conveyor.compiler import Argument, CannotBuild, CannotCompile, Job, Kernel, compute, even_extent, extent, trace
from conveyor.eager import Step, Unrolled, place, take_step, unroll
from conveyor.sequences import is_transforming

BACKENDS = ("auto", "compiled", "eager")
_backend: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Inside, layers run as `name` says; outside, as the environment's CONVEYOR_BACKEND does.

        with conveyor.backend("eager"):
            output, state = rnn(x)

    "auto", the default: by a kernel, and where none can be made by the eager loop, with a warning. "compiled": by a
    kernel, and where none can be made an error. "eager": by the loop over `step`.
    Raises ValueError for another name.
    """
    token = _backend.set(_checked(name, "the backend"))
    try:
        yield
    finally:
        _backend.reset(token)


def _checked(name: str, what: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{what} is {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {name!r}")
    return name


def chosen() -> str:
    return _backend.get() or _checked(os.environ.get("CONVEYOR_BACKEND") or "auto", "CONVEYOR_BACKEND")


class NotCompiled(RuntimeError):
    """The backend is "compiled", and there is no kernel: why, where, and what to do."""


def run(
    cell: Step,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None = None,
    record: bool = False,
    start: int = 0,
) -> Unrolled:
    """What `eager.unroll` gives, by a kernel if the backend says so and one can be made."""
    choice = chosen()
    if choice != "eager":
        try:
            reason = _unfit((*streams.values(), *state, *constants.values()), lengths)
            if reason is None:
                return _by_kernel(cell, streams, state, constants, lengths, record, start)
            if choice == "compiled":
                raise NotCompiled(f"{place(cell)}: kernels are not for {reason}; take conveyor.backend('eager')")
        except (CannotCompile, CannotBuild) as error:
            if choice == "compiled":
                raise NotCompiled(f"{place(cell)} has no kernel: {error}") from None
            _warn(cell, error)
    return unroll(cell, streams, state, constants, lengths, record, start)


def _unfit(tensors: Sequence[Tensor], lengths: Tensor | None) -> str | None:
    """Why no kernel can take these tensors, or none."""
    if is_transforming():
        return "torch.func transforms"
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"tensors on {tensor.device}"
        if tensor.dtype not in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu"):
            return f"numbers of {tensor.dtype}"
    return None


_warned: set[str] = set()


def _warn(cell: Step, error: Exception) -> None:
    """Once for each reason."""
    text = f"it runs slowly, in the eager loop: {error}"
    text = text if isinstance(error, CannotBuild) else f"{place(cell)}: {text}"
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=7)


@dataclass
class _Compiled:
    """A cell's kernel, and where its weights are now."""

    kernel: Kernel
    weights: dict[str, Callable[[], Tensor]]
    shapes: dict[str, tuple[int, ...]]


_compiled: WeakKeyDictionary[nn.Module, dict[Any, _Compiled]] = WeakKeyDictionary()


def _by_kernel(
    cell: Any,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None,
    record: bool,
    start: int,
) -> Unrolled:
    dtype = _dtype(streams["x"])
    steps, batch = streams["x"].shape[:2]
    found = dict(streams) | dict(zip(cell.state, state, strict=True)) | dict(constants)
    shapes = tuple((name, tuple(v.shape[1 if name in constants or name in cell.state else 2 :])) for name, v in found.items())
    compiled = compile_step(cell, shapes, tuple(constants), dtype, record)
    weights = {name: get() for name, get in compiled.weights.items()}
    if any(tuple(weight.shape) != compiled.shapes[name] for name, weight in weights.items()):
        _compiled.pop(_module(cell), None)  # a weight of another shape has been put in its place
        return _by_kernel(cell, streams, state, constants, lengths, record, start)
    _check_weights(cell, weights, dtype)
    inputs = compiled.kernel.graph
    sources: list[tuple[str, str]] = []
    tensors: list[Tensor] = []
    for kind, named in (("stream", streams), ("constant", constants)):
        used = inputs.inputs(kind)
        sources += [(kind, name) for name in named if name in used]
        tensors += [named[name].to(dtype) for name in named if name in used]
    sources += [("state", name) for name in cell.state]
    tensors += [value.to(dtype) for value in state]
    sources += [("weight", name) for name in weights]
    tensors += [weight.to(dtype) for weight in weights.values()]
    rows = even_extent(steps, batch) if lengths is None else _extent(steps, tuple(lengths.tolist()))

    def eager(*again: Tensor) -> tuple[Tensor, ...]:
        return _eager(cell, sources, again, (streams, constants), lengths, record, start, compiled.kernel.further)

    job = Job(compiled.kernel, rows, start, tuple(sources), eager)
    output, *rest = compute(job, tensors)
    count = len(cell.state)
    return output, tuple(rest[:count]), dict(zip(compiled.kernel.further, rest[count:], strict=True))


def _dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32


@lru_cache(maxsize=64)
def _extent(steps: int, lengths: tuple[int, ...]) -> Any:
    return extent(steps, torch.tensor(lengths, dtype=torch.int64))


def _check_weights(cell: Step, weights: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise ValueError(
                f"{place(cell)}: {name} is {weight.dtype}, but the input is {dtype}: bring all to one, layer.to({dtype})"
            )
        if weight.device.type != "cpu":
            raise ValueError(f"{place(cell)}: {name} is on {weight.device}, but the input is on cpu: layer.to('cpu')")


def _module(cell: Any) -> nn.Module:
    return cell if isinstance(cell, nn.Module) else cell.cell


def compile_step(
    cell: Any, shapes: tuple[tuple[str, tuple[int, ...]], ...], constants: tuple[str, ...], dtype: torch.dtype, record: bool
) -> _Compiled:
    """The kernel of a cell's step for values of these shapes; made anew when the cell has been changed."""
    module = _module(cell)
    key = (shapes, dtype, record, cell.arguments, tuple(_marks(module)))
    known = _compiled.setdefault(module, {})
    if key not in known:
        if len(known) > 32:  # somebody changes the cell at every call
            known.clear()
        known[key] = _compile(cell, module, dict(shapes), constants, dtype, record)
    return known[key]


def _marks(module: nn.Module) -> Iterator[Any]:
    """What of a module a trace depends on, besides its tensors: numbers and names that it holds."""
    yield id(module)
    if isinstance(module, Affine):  # nothing in it changes but whether it has a bias
        yield module.bias is None
        return
    for name, value in module.__dict__.items():
        if name[0] != "_":
            yield _mark(value)
    for child in module._modules.values():
        if child is not None:
            yield from _marks(child)


def _mark(value: Any) -> Any:
    if isinstance(value, list | tuple | set):
        return tuple(map(_mark, value))
    if isinstance(value, dict):
        return tuple((key, _mark(item)) for key, item in value.items())
    return value if isinstance(value, int | float | str | None) else id(value)


def _compile(
    cell: Any, module: nn.Module, dims: dict[str, tuple[int, ...]], constants: tuple[str, ...], dtype: torch.dtype, record: bool
) -> _Compiled:
    def kind(name: str) -> str:
        return "step" if name == "t" else "state" if name in cell.state else "constant" if name in constants else "stream"

    arguments = [Argument(kind(name), name, dims.get(name, ())) for name in cell.arguments]

    def step(*given: Tensor) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        return take_step(cell, dict(zip(cell.arguments, given, strict=True)), record)

    before = tuple(_marks(module))
    getters = dict(_weights(module))
    with torch.autocast("cpu", enabled=False), parametrize.cached():
        weights = {name: get() for name, get in getters.items()}
        try:
            traced = trace(step, arguments, cell.state, weights)
        except (RuntimeError, TypeError):
            _check_weights(cell, weights, dtype)  # a likely reason, and easier to understand
            raise
    if tuple(_marks(module)) != before:
        raise CannotCompile("the step", "it changes what the cell holds", "keep what changes from step to step in a state")
    used = traced.graph.inputs("weight")
    getters |= {name: (lambda tensor=tensor: tensor) for name, tensor in traced.found.items()}
    shapes = {name: traced.graph.nodes[i].dims for name, i in used.items()}
    return _Compiled(kernel_of(traced.graph, dtype), {name: getters[name] for name in used}, shapes)


@lru_cache(maxsize=256)
def kernel_of(graph: Any, dtype: torch.dtype) -> Kernel:
    """Equal graphs, such as those of the layers of a stack, have one kernel."""
    return Kernel(graph, dtype)


def _weights(module: nn.Module) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Every tensor that the modules hold, by its path, and how to read it now."""
    for path, owner in module.named_modules():
        names = [*owner._parameters, *owner._buffers, *(n for n, v in owner.__dict__.items() if isinstance(v, Tensor))]
        if parametrize.is_parametrized(owner):
            names += list(owner.parametrizations)  # type: ignore[arg-type]
        for name in names:
            value = getattr(owner, name)
            if isinstance(value, Tensor):
                yield (f"{path}.{name}" if path else name), (lambda owner=owner, name=name: getattr(owner, name))


class _Loop(nn.Module):
    """The eager loop as a module, so that it can be run with other tensors as its weights."""

    def __init__(self, cell: Any):
        super().__init__()
        self.weights = _module(cell)
        self.run = lambda *given: unroll(cell, *given)

    def forward(self, *given: Any) -> Unrolled:
        return self.run(*given)


def _eager(
    cell: Any,
    sources: Sequence[tuple[str, str]],
    tensors: Sequence[Tensor],
    others: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    lengths: Tensor | None,
    record: bool,
    start: int,
    further: Sequence[str],
) -> tuple[Tensor, ...]:
    """What the kernel gives, from the same tensors, as operations that can be differentiated again."""
    found: dict[str, dict[str, Tensor]] = {"stream": dict(others[0]), "constant": dict(others[1]), "state": {}, "weight": {}}
    for (kind, name), tensor in zip(sources, tensors, strict=True):
        found[kind][name] = tensor
    own = {name for name, _ in _module(cell).named_parameters()}
    weights = {f"weights.{name}": weight for name, weight in found["weight"].items() if name in own}
    given = (found["stream"], tuple(found["state"].values()), found["constant"], lengths, record, start)
    output, last, values = torch.func.functional_call(_Loop(cell), weights, given)
    return (output, *last, *(values[name] for name in further))

