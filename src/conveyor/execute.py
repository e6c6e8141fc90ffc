"""How the loop over a cell's step is run: by a kernel made for it, or where there is none by the eager loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from conveyor.compiler import CannotBuild, CannotCompile, Graph, Job, compute, even_extent, operator, rows_of
from conveyor.eager import Step, Unrolled, place, unroll
from conveyor.kernels import CellKernel, Given, StepFails, check_weights, forget, kernel_of, module_of
from conveyor.regularise import Regularised
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
    if torch.compiler.is_compiling():
        return _in_a_graph(cell, streams, state, constants, lengths, record, start)
    choice = chosen()
    if choice == "auto" and len(streams["x"]) == 1 and not torch.is_grad_enabled():
        choice = "eager"  # a kernel packs its matrices for each run, which for one step takes longer than the step
    if choice != "eager":
        try:
            reason = _unfit((*streams.values(), *state, *constants.values()))
            if reason is None:
                return _by_kernel(cell, streams, state, constants, lengths, record, start)
            if choice == "compiled":
                raise NotCompiled(f"{place(cell)}: kernels are not for {reason}; take conveyor.backend('eager')")
        except (CannotCompile, CannotBuild) as error:
            if choice == "compiled":
                if isinstance(error, StepFails):
                    raise error.error from None
                raise NotCompiled(f"{place(cell)} has no kernel: {error}") from None
            result = unroll(cell, streams, state, constants, lengths, record, start)  # which may say more of an error
            _warn(cell, error)
            return result
    return unroll(cell, streams, state, constants, lengths, record, start)


def _unfit(tensors: Sequence[Tensor]) -> str | None:
    """Why no kernel can take these tensors, or none."""
    if is_transforming():
        return "torch.func transforms"
    if forward_ad._current_level >= 0:
        return "derivatives in forward mode"
    if torch.jit.is_tracing():
        return "torch.jit.trace"
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"tensors of the class {type(tensor).__name__}"
        if tensor.device.type != "cpu":
            return f"tensors on {tensor.device}"
        real = tensor.is_floating_point() or tensor.is_complex()
        if real and tensor.dtype not in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu"):
            return f"numbers of {tensor.dtype}"
    return None


_warned: set[str] = set()


def _warn(cell: Step, error: Exception) -> None:
    """Once for each reason."""
    if isinstance(error, CannotBuild):
        text = f"there are no kernels, and layers run slowly, in the eager loop: {error}"
    else:
        text = f"{place(cell)}: it runs slowly, in the eager loop: {error}"
    reason = "CannotBuild" if isinstance(error, CannotBuild) else text  # a compiler fails for each kernel in its way
    if reason not in _warned:
        _warned.add(reason)
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
    found = _kernel(cell, streams, state, constants, record)
    weights: dict[str, Any] = {name: get() for name, get in found.weights.items()}
    if any(weight is None or weight.shape != found.shapes[name] for name, weight in weights.items()):
        forget(cell)  # something else has been put in a weight's place
        return _by_kernel(cell, streams, state, constants, lengths, record, start)
    check_weights(cell, weights, dtype)
    kernel = found.kernel
    sources, tensors = _inputs(kernel.graph, cell.state, streams, state, constants, weights, dtype)
    steps, batch = streams["x"].shape[:2]
    rows = even_extent(steps, batch) if lengths is None else rows_of(steps, tuple(lengths.tolist()))

    def eager(*again: Tensor) -> tuple[Tensor, ...]:
        return _eager(cell, sources, again, (streams, constants), lengths, record, start, kernel.graph.streams)

    return _unrolled(found, compute(Job(kernel, rows, start, sources, eager), tensors))


def _kernel(
    cell: Any, streams: Mapping[str, Tensor], state: Sequence[Tensor], constants: Mapping[str, Tensor], record: bool
) -> CellKernel:
    return kernel_of(cell, _given(cell, streams, state, constants), tuple(constants), _dtype(streams["x"]), record)


def _given(
    cell: Any, streams: Mapping[str, Tensor], state: Sequence[Tensor], constants: Mapping[str, Tensor]
) -> tuple[Given, ...]:
    each = [(name, v, 2) for name, v in streams.items()]
    each += [(name, v, 1) for name, v in (*zip(cell.state, state, strict=True), *constants.items())]
    return tuple((name, tuple(v.shape[k:]), None if v.is_floating_point() else v.dtype) for name, v, k in each)


def _inputs(
    graph: Graph,
    names: Sequence[str],
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> tuple[tuple[tuple[str, str], ...], list[Tensor]]:
    """What a kernel takes: kinds and names, and the tensors."""
    taken = graph.taken
    found = {("stream", name): v for name, v in streams.items() if ("stream", name) in taken}
    found |= {("constant", name): v for name, v in constants.items() if ("constant", name) in taken}
    found |= {("state", name): v for name, v in zip(names, state, strict=True)}
    found |= {("weight", name): v for name, v in weights.items()}
    return tuple(found), [v if v.dtype == dtype else v.to(dtype) for v in found.values()]


def _unrolled(found: CellKernel, results: Sequence[Tensor]) -> Unrolled:
    graph = found.kernel.graph
    last = 1 + len(graph.states)
    values = dict(zip(graph.streams, results[last:], strict=True))
    for name, dtype in found.types.items():
        values[name] = values[name].to(dtype)
    return results[0], tuple(results[1:last]), values


def _in_a_graph(
    cell: Any,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None,
    record: bool,
    start: int,
) -> Unrolled:
    """The same while torch.compile looks on: the kernel is one operator of its graph."""
    if streams["x"].device.type != "cpu":
        return _loop_outside(cell, streams, state, constants, lengths, record, start)
    steps, batch = streams["x"].shape[:2]
    module, masks = module_of(cell), getattr(cell, "masks", None)
    dtype = _dtype(streams["x"])
    shapes = _given(cell, streams, state, constants)
    number, used, names, further = _operator(module, masks, shapes, tuple(streams), tuple(constants), dtype, record)
    if number < 0:
        return _loop_outside(cell, streams, state, constants, lengths, record, start)
    given = {**streams, **constants}
    tensors = [given[name] for name in used] + list(state) + [_at(module, name) for name in names]
    tensors = [t if t.dtype == dtype else t.to(dtype) for t in tensors]
    wanted = [torch.is_grad_enabled() and t.requires_grad for t in tensors]
    results = torch.ops.conveyor.forward(tensors, lengths, number, steps, batch, start, wanted)
    last = 1 + len(state)
    return results[0], tuple(results[1:last]), dict(zip(further, results[last:], strict=False))


def _at(module: Any, path: str) -> Tensor:
    for name in path.split("."):
        module = getattr(module, name)
    return module


@torch._dynamo.assume_constant_result
def _operator(
    module: Any,
    masks: tuple[Any, ...] | None,
    given: tuple[Given, ...],
    streams: tuple[str, ...],
    constants: tuple[str, ...],
    dtype: torch.dtype,
    record: bool,
) -> tuple[int, list[str], list[str], list[str]]:
    """The number of a cell's operator, or -1; what it takes besides the states, tensors and weights; what it gives."""
    cell = module if masks is None else Regularised.like(module, *masks)
    try:
        with torch.enable_grad():
            found = kernel_of(cell, given, constants, dtype, record)
    except (CannotCompile, CannotBuild) as error:
        if chosen() == "compiled":
            raise NotCompiled(f"{place(cell)} has no kernel: {error}") from None
        _warn(cell, error)
        return -1, [], [], []
    graph = found.kernel.graph
    if chosen() == "eager" or found.types or any(name.startswith("found ") for name in found.weights):
        return -1, [], [], []  # tensors that nobody else can reach, or values of another type
    kinds = [("stream", name) for name in streams if name in graph.inputs("stream")]
    kinds += [("constant", name) for name in constants if name in graph.inputs("constant")]
    sources = [*kinds, *(("state", name) for name in cell.state), *(("weight", name) for name in found.weights)]
    number = operator.register(found.kernel, tuple(sources))
    return number, [name for _, name in kinds], list(found.weights), graph.streams


@torch.compiler.disable
def _loop_outside(*given: Any) -> Unrolled:
    return unroll(*given)


def _dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32


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
