"""How the loop over a cell's step is run: by a kernel made for it, or where there is none by the eager loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.compiler import CannotBuild, CannotCompile, Job, compute, even_extent, extent
from conveyor.eager import Step, Unrolled, place, unroll
from conveyor.kernels import check_weights, forget, kernel_of, module_of
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
    shapes = tuple(
        (name, tuple(v.shape[1 if name in constants or name in cell.state else 2 :])) for name, v in found.items()
    )
    compiled = kernel_of(cell, shapes, tuple(constants), dtype, record)
    weights = {name: get() for name, get in compiled.weights.items()}
    if any(tuple(weight.shape) != compiled.shapes[name] for name, weight in weights.items()):
        forget(cell)  # a weight of another shape has been put in its place
        return _by_kernel(cell, streams, state, constants, lengths, record, start)
    check_weights(cell, weights, dtype)
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
        return _eager(cell, sources, again, (streams, constants), lengths, record, start, compiled.kernel.graph.streams)

    job = Job(compiled.kernel, rows, start, tuple(sources), eager)
    output, *rest = compute(job, tensors)
    count = len(cell.state)
    return output, tuple(rest[:count]), dict(zip(compiled.kernel.graph.streams, rest[count:], strict=True))


def _dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32


@lru_cache(maxsize=64)
def _extent(steps: int, lengths: tuple[int, ...]) -> Any:
    return extent(steps, torch.tensor(lengths, dtype=torch.int64))


class _Loop(nn.Module):
    """The eager loop as a module, so that it can be run with other tensors as its weights."""

    def __init__(self, cell: Any):
        super().__init__()
        self.weights = module_of(cell)
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
    found: dict[str, dict[str, Tensor]] = {
        "stream": dict(others[0]),
        "constant": dict(others[1]),
        "state": {},
        "weight": {},
    }
    for (kind, name), tensor in zip(sources, tensors, strict=True):
        found[kind][name] = tensor
    own = {name for name, _ in module_of(cell).named_parameters()}
    weights = {f"weights.{name}": weight for name, weight in found["weight"].items() if name in own}
    given = (found["stream"], tuple(found["state"].values()), found["constant"], lengths, record, start)
    output, last, values = torch.func.functional_call(_Loop(cell), weights, given)
    return (output, *last, *(values[name] for name in further))
