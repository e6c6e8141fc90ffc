"""How the loop over a cell's step is run: by a kernel made for it, or where there is none by the eager loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from conveyor.cell.loop import Step, Unrolled, is_transforming, place, unroll
from conveyor.compiler import CannotCompile, Graph
from conveyor.layer.backends import NotCompiled, chosen, warn
from conveyor.layer.kernels import (
    CellKernel,
    StepFails,
    check_weights,
    forget,
    given_of,
    kernel_of,
    module_of,
    type_of,
)
from conveyor.targets import CannotBuild
from conveyor.targets.autograd import Job, compute
from conveyor.targets.ragged import rows_of
from conveyor.targets.registry import TARGETS


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
        from conveyor.layer import torch_compile

        return torch_compile.run(cell, streams, state, constants, lengths, record, start)
    choice = chosen()
    if choice == "auto" and len(streams["x"]) == 1 and not torch.is_grad_enabled():
        choice = "eager"  # a kernel packs its matrices for each run, which for one step takes longer than the step
    if choice != "eager":
        try:
            reason = _unfit((*streams.values(), *state, *constants.values()))
            if reason is None:
                found = _kernel(cell, streams, state, constants, record)
                if start + len(streams["x"]) <= found.steps:
                    return _by_kernel(found, cell, streams, state, constants, lengths, record, start)
                reason = f"steps beyond number {found.steps:,} in {type_of(streams['x'])}"
            if choice == "compiled":
                raise NotCompiled(f"{place(cell)}: kernels are not for {reason}; take conveyor.backend('eager')")
        except (CannotCompile, CannotBuild) as error:
            if choice == "compiled":
                if isinstance(error, StepFails):
                    raise error.error from None
                raise NotCompiled(f"{place(cell)} has no kernel: {error}") from None
            result = unroll(cell, streams, state, constants, lengths, record, start)  # which may say more of an error
            warn(cell, error)
            return result
    return unroll(cell, streams, state, constants, lengths, record, start)


def _unfit(tensors: Sequence[Tensor]) -> str | None:
    """Why no kernel can take these tensors, or none."""
    if is_transforming():
        return "torch.func transforms"
    if forward_ad._current_level >= 0:
        return "derivatives in forward mode"
    if torch.jit.is_tracing():  # a single step
        return "torch.jit.trace"
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"tensors of the class {type(tensor).__name__}"
    return TARGETS[0].refuses(tensors)


def _by_kernel(
    found: CellKernel,
    cell: Any,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None,
    record: bool,
    start: int,
) -> Unrolled:
    dtype = type_of(streams["x"])
    weights: dict[str, Any] = {name: get() for name, get in found.weights.items()}
    if any(weight is None or weight.shape != found.shapes[name] for name, weight in weights.items()):
        forget(cell)  # something else has been put in a weight's place
        found = _kernel(cell, streams, state, constants, record)
        return _by_kernel(found, cell, streams, state, constants, lengths, record, start)
    check_weights(cell, weights, dtype)
    kernel = found.kernel
    sources, tensors = _inputs(kernel.graph, cell.state, streams, state, constants, weights, dtype)
    steps, batch = streams["x"].shape[:2]
    rows = rows_of(steps, batch, lengths)

    def eager(*again: Tensor) -> tuple[Tensor, ...]:
        return _eager(cell, sources, again, (streams, constants), lengths, record, start, kernel.graph.streams)

    return _unrolled(found, compute(Job(kernel, rows, start, sources, eager), tensors))


def _kernel(
    cell: Any, streams: Mapping[str, Tensor], state: Sequence[Tensor], constants: Mapping[str, Tensor], record: bool
) -> CellKernel:
    return kernel_of(
        cell, given_of(cell, streams, state, constants), tuple(constants), type_of(streams["x"]), record, TARGETS[0]
    )


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
    extra_inputs: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    lengths: Tensor | None,
    record: bool,
    start: int,
    further: Sequence[str],
) -> tuple[Tensor, ...]:
    """What the kernel gives, from the same tensors, as operations that can be differentiated again."""
    found: dict[str, dict[str, Tensor]] = {
        "stream": dict(extra_inputs[0]),
        "constant": dict(extra_inputs[1]),
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
