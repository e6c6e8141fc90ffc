"""What runs a scan: the kernels of the first target that may, or where none may the eager loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from conveyor.cell.loop import Scan, Unrolled, is_transforming, location, unroll
from conveyor.compiler import CannotCompile
from conveyor.compiler.graph import Key
from conveyor.layer.backends import KERNELS, NotCompiled, chosen, warn
from conveyor.layer.kernels import kernels_of
from conveyor.layer.tracing import Signature, StepFails, TracedCell, check_weights, forget, held, module_of, traced
from conveyor.targets import CannotBuild, Request, Target, registry
from conveyor.targets.autograd import Launch, compute
from conveyor.targets.batch_layout import layout_of

UNTRIED = "no GPU has run the kernels for GPUs yet; conveyor.backend('compiled') takes them"


def run(scan: Scan) -> Unrolled:
    """What `unroll` gives, by a kernel if the backend says so and one can be made."""
    if torch.compiler.is_compiling():
        from conveyor.layer import torch_compile

        return torch_compile.run(scan)
    choice = chosen()
    if choice == "eager" or (choice == KERNELS and _is_differentiating()):
        return unroll(scan)
    asked = Request(scan.tensors, len(scan.x), torch.is_grad_enabled(), choice == "compiled")
    targets = [target for target in registry.TARGETS if target.device == scan.x.device.type]
    refused = why_loop(scan.tensors) or (None if targets else f"tensors on {scan.x.device}")
    failure: CannotCompile | CannotBuild | None = None
    if choice != "compiled" and not all(target.tried for target in targets):
        targets = [target for target in targets if target.tried]
        refused = refused or UNTRIED
        failure = CannotBuild(UNTRIED) if choice == "auto" and refused == UNTRIED else None
    for target in targets if refused is None else ():
        refused = target.refuses(asked)
        if refused is None:
            try:
                cell = traced(scan.cell, Signature.of(scan))
                if scan.start + len(scan.x) <= cell.steps:
                    return _by_kernel(cell, target, scan)
                refused = f"steps beyond number {cell.steps:,} in {cell.dtype}"
            except (CannotCompile, CannotBuild) as error:
                failure = error
    if choice == "compiled":
        if isinstance(failure, StepFails):
            raise failure.error from None
        if failure is not None:
            raise NotCompiled(f"{location(scan.cell)} has no kernel: {failure}")
        raise NotCompiled(f"{location(scan.cell)}: no kernel is for {refused}; use conveyor.backend('eager')")
    if choice == KERNELS:
        if failure is not None:
            warn(scan.cell, failure, "by torch.nn")
        raise NotCompiled(refused or str(failure))
    result = unroll(scan)  # which may say more of an error
    if failure is not None:
        warn(scan.cell, failure)
    return result


def _is_differentiating() -> bool:
    """Whether the loop alone has all derivatives that are asked for."""
    return is_transforming() or forward_ad._current_level >= 0


def why_loop(tensors: Sequence[Tensor]) -> str | None:
    """Why only the loop can run a step of these tensors, or None."""
    if is_transforming():
        return "torch.func transforms"
    if forward_ad._current_level >= 0:
        return "derivatives in forward mode"
    if torch.jit.is_tracing():  # a single step
        return "torch.jit.trace"
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"tensors of the class {type(tensor).__name__}"
    return None


def _by_kernel(cell: TracedCell, target: Target[Any], scan: Scan) -> Unrolled:
    weights: dict[str, Any] = {name: get() for name, get in cell.own_weights.items()}
    if any(weight is None or weight.shape != cell.shapes[name] for name, weight in weights.items()):
        forget(scan.cell)  # something else has been put in a weight's place
        return _by_kernel(traced(scan.cell, Signature.of(scan)), target, scan)
    if cell.packing is not None:
        weights |= scan.sources or {}
    named = {name: weight for name, weight in weights.items() if name not in cell.own_tensors}
    check_weights(scan.cell, named, cell.dtype, scan.x.device)
    sources, tensors = _inputs(cell, scan, weights)
    steps, batch = scan.x.shape[:2]
    rows = layout_of(steps, batch, scan.lengths).on(scan.x.device)

    def eager(*again: Tensor) -> tuple[Tensor, ...]:
        return _by_loop(scan, sources, again, cell.graph.streams)

    launch = Launch(kernels_of(cell, target), rows, scan.start, sources, eager, cell.packing)
    return _unrolled(cell, compute(launch, tensors))


def _inputs(cell: TracedCell, scan: Scan, weights: Mapping[str, Tensor]) -> tuple[tuple[Key, ...], list[Tensor]]:
    """The arguments of a kernel: kinds and names, and the tensors."""
    taken, dtype = cell.graph.input_keys, cell.dtype
    found = {key: v for name, v in scan.streams.items() if (key := Key("stream", name)) in taken}
    found |= {key: v for name, v in scan.constants.items() if (key := Key("constant", name)) in taken}
    found |= {Key("state", name): v for name, v in zip(scan.cell.state, scan.state, strict=True)}
    found |= {Key("weight", name): v for name, v in weights.items()}
    return tuple(found), [v if v.dtype == dtype else v.to(dtype) for v in found.values()]


def _unrolled(cell: TracedCell, results: Sequence[Tensor]) -> Unrolled:
    last = 1 + len(cell.graph.states)
    values = dict(zip(cell.graph.streams, results[last:], strict=True))
    values |= {name: values[name].to(dtype) for name, dtype in cell.types.items()}
    return Unrolled(results[0], tuple(results[1:last]), values)


def _by_loop(
    scan: Scan, sources: Sequence[Key], tensors: Sequence[Tensor], further: Sequence[str]
) -> tuple[Tensor, ...]:
    """What the kernel gives, from the same tensors, as operations that can be differentiated again."""
    found: dict[str, dict[str, Tensor]] = {"stream": {}, "constant": {}, "state": {}, "weight": {}}
    for key, tensor in zip(sources, tensors, strict=True):
        found[key.kind][key.name] = tensor
    streams, constants = {**scan.streams, **found["stream"]}, {**scan.constants, **found["constant"]}
    again = replace(scan, streams=streams, state=tuple(found["state"].values()), constants=constants)
    if scan.sources is not None:
        again = replace(again, sources={name: found["weight"].pop(name) for name in scan.sources})
    with held(module_of(scan.cell), found["weight"]):
        output, last, values = unroll(again)
    return (output, *last, *(values[name] for name in further))
