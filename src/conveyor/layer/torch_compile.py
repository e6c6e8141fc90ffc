"""A layer under torch.compile: its kernel is one operator of the graph.

In a file of its own because what it needs of PyTorch takes a second to import, and only torch.compile needs it.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from conveyor.cell.loop import Scan, Unrolled, location, unroll
from conveyor.cell.regularise import Regularised
from conveyor.compiler import CannotCompile
from conveyor.compiler.graph import Key
from conveyor.layer import delegation, operator
from conveyor.layer.backends import DELEGATED, NotCompiled, chosen, warn
from conveyor.layer.kernels import kernels_of
from conveyor.layer.tracing import Signature, module_of, traced
from conveyor.targets import CannotBuild, Request, registry

CURE = (
    "Without one, a loop of as many steps as the example would be exported: leave the dimension of time out of "
    "dynamic_shapes to have just that, or change what stands in the way"
)


def run(scan: Scan) -> Unrolled:
    """What `dispatch.run` gives, under torch.compile: the kernel is one operator of its graph."""
    theirs = _delegated(scan)
    if theirs is not None:
        return theirs
    steps, batch = scan.x.shape[:2]  # of which len would make a number
    asked = Request(scan.tensors, steps, torch.is_grad_enabled(), insists=True)
    tried = [one for one in registry.TARGETS if one.tried or _choice() == "compiled"]
    target = next((one for one in tried if one.refuses(asked) is None), None)
    if target is None or _choice() == "eager":
        return _loop(scan, "the backend is eager, or none is for tensors of this type or device")
    module, masks = module_of(scan.cell), getattr(scan.cell, "masks", None)
    signature = Signature.of(scan)
    found = _operator(target.name, module, masks, tuple(scan.streams), *signature)
    graph, used, names, further, max_steps, blocks, why = found
    if not graph or (max_steps < sys.maxsize and scan.start + steps > max_steps):
        return _loop(scan, why or f"none can number so many steps in {signature.dtype}")
    given = {**scan.streams, **scan.constants}
    weights = [
        _block(scan.sources, *block) if block else _at(module, name) for name, block in zip(names, blocks, strict=True)
    ]
    tensors = [given[name] for name in used] + list(scan.state) + weights
    tensors = [t if t.dtype == signature.dtype else t.to(signature.dtype) for t in tensors]
    # An exported program may be given inputs that require a gradient where these do not.
    every = torch.compiler.is_exporting()
    wanted = [torch.is_grad_enabled() and (t.requires_grad or (every and t.is_floating_point())) for t in tensors]
    results = torch.ops.conveyor.forward(tensors, scan.lengths, graph, steps, batch, scan.start, wanted)
    last = 1 + len(scan.state)
    return Unrolled(results[0], tuple(results[1:last]), dict(zip(further, results[last:], strict=False)))


def _delegated(scan: Scan) -> Unrolled | None:
    """What PyTorch's own function gives, if the step is one of `torch.nn`'s and it is to run it."""
    choice = _choice()
    if choice != DELEGATED and (choice == "eager" or scan.x.device.type not in delegation.DEVICES):
        return None
    module, plain = module_of(scan.cell), getattr(scan.cell, "masks", None) is None and not scan.record
    mode, has_bias, order, joined = _plan(module, plain, Signature.of(scan).dtype, scan.x.device.type)
    if not mode:
        return None
    if scan.sources is not None:
        weights = list(scan.sources.values())
    else:
        weights = [torch.cat([_part(module, scan.x, dims, *block) for block in blocks]) for dims, blocks in joined]
    weights = [weight.to(scan.x.dtype) for weight in weights]
    states = [scan.state[k] for k in order]
    output, *last = torch.ops.conveyor.delegated(scan.x, scan.lengths, states, weights, mode, has_bias)
    ends = [last[list(order).index(k)] for k in range(len(order))]
    values = dict.fromkeys(scan.cell.over_time, output)  # which is the state that is the output
    return Unrolled(output, tuple(ends), values)


def _part(module: Any, like: Tensor, dims: tuple[int, ...], *block: Any) -> Tensor:
    """Some rows of one of torch.nn's weights."""
    if not block:
        return like.new_zeros(dims)
    name, offset, sizes, strides, negated = block
    part = _at(module, name).contiguous().as_strided(sizes, strides, offset)
    return -part if negated else part


@torch._dynamo.assume_constant_result
def _plan(module: Any, plain: bool, dtype: torch.dtype, kind: str) -> tuple[str, bool, tuple[int, ...], list[Any]]:
    """The mode, whether there are biases, which states the function's are, and where the weights lie; "" for none."""
    with ThreadPoolExecutor(1) as alone:
        mode, has_bias, order, joined, refused = alone.submit(
            delegation.plan_of_cell, module, plain, dtype, kind
        ).result()
    if refused and chosen() == DELEGATED:
        raise delegation.refusal(module, refused)
    return mode, has_bias, order, [(one.dims, [tuple(block or ()) for block in one.blocks]) for one in joined]


def _block(sources: Any, names: tuple[str, ...], number: int, count: int) -> Tensor:
    """A weight of a packed cell, as `Packing.split` gives it."""
    whole = sources[names[0]]
    for name in names[1:]:
        whole = whole + sources[name]
    return whole.chunk(count)[number]


def _at(module: Any, path: str) -> Tensor:
    for name in path.split("."):
        module = getattr(module, name)
    return module


@torch._dynamo.assume_constant_result
def _choice() -> str:
    return chosen()


@torch._dynamo.assume_constant_result
def _operator(
    name: str, module: Any, masks: tuple[Any, ...] | None, streams: tuple[str, ...], *facts: Any
) -> tuple[str, list[str], list[str], list[str], int, list[Any], str]:
    """The graph of a cell's operator as text, or none; what it takes besides the states: tensors, and weights; what it
    gives besides output and states; how many steps it can number; where each weight lies if it is a block; why none."""
    target, signature = registry.target(name), Signature(*facts)  # which torch.compile cannot hand over whole
    cell = module if masks is None else Regularised.like(module, *masks)
    try:
        # In a separate thread, or torch.export would record what the tracing does.
        with ThreadPoolExecutor(1) as alone:
            found = alone.submit(traced, cell, signature).result()
        target.build((), signature.dtype)  # whether it can build any
    except (CannotCompile, CannotBuild) as error:
        if chosen() == "compiled":
            raise NotCompiled(f"{location(cell)} has no kernel: {error}") from None
        warn(cell, error)
        return "", [], [], [], 0, [], str(error)
    graph = found.graph
    if found.types or found.own_tensors:
        return "", [], [], [], 0, [], "its step has tensors that are no parameters, or outputs of another type"
    kinds = [Key("stream", name) for name in streams if name in graph.inputs("stream")]
    kinds += [Key("constant", name) for name in signature.constants if name in graph.inputs("constant")]
    sources = [*kinds, *(Key("state", n) for n in cell.state), *(Key("weight", n) for n in found.weights)]
    text = operator.register(kernels_of(found, target), tuple(sources))
    blocks: list[Any] = [()] * len(found.weights)
    if found.packing is not None:
        counts = found.packing.counts
        every = [found.packing.blocks.get(name) for name in found.weights]
        blocks = [() if b is None else (b.sources, b.number, counts[b.sources[0]]) for b in every]
    return text, [key.name for key in kinds], list(found.weights), graph.streams, found.steps, blocks, ""


def _loop(scan: Scan, why: str) -> Unrolled:
    """By the loop. Raises NotCompiled where it would be exported: it would be one of as many steps as the example."""
    if torch.compiler.is_exporting() and isinstance(scan.x.shape[0], torch.SymInt):
        raise NotCompiled(f"{location(scan.cell)} has no kernel: {why}. {CURE}")
    return _loop_outside(scan)


@torch.compiler.disable
def _loop_outside(scan: Scan) -> Unrolled:
    return unroll(scan)
