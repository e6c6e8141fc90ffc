"""A layer while torch.compile looks on: its kernel is one operator of the graph.

In a file of its own because what it needs of PyTorch takes a second to import, and only torch.compile needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from conveyor.cell.loop import Unrolled, place, unroll
from conveyor.cell.regularise import Regularised
from conveyor.compiler import CannotCompile
from conveyor.layer import operator
from conveyor.layer.backends import NotCompiled, chosen, warn
from conveyor.layer.kernels import Given, given_of, kernel_of, module_of, type_of
from conveyor.targets import CannotBuild
from conveyor.targets.registry import TARGETS


def run(
    cell: Any,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None,
    record: bool,
    start: int,
) -> Unrolled:
    """What `execute.run` gives, while torch.compile looks on: the kernel is one operator of its graph."""
    if streams["x"].device.type != "cpu":
        return _loop_outside(cell, streams, state, constants, lengths, record, start)
    steps, batch = streams["x"].shape[:2]
    module, masks = module_of(cell), getattr(cell, "masks", None)
    dtype = type_of(streams["x"])
    shapes = given_of(cell, streams, state, constants)
    made = _operator(module, masks, shapes, tuple(streams), tuple(constants), dtype, record)
    graph, used, names, further, countable = made
    if not graph or start + steps > countable:
        return _loop_outside(cell, streams, state, constants, lengths, record, start)
    given = {**streams, **constants}
    tensors = [given[name] for name in used] + list(state) + [_at(module, name) for name in names]
    tensors = [t if t.dtype == dtype else t.to(dtype) for t in tensors]
    wanted = [torch.is_grad_enabled() and t.requires_grad for t in tensors]
    results = torch.ops.conveyor.forward(tensors, lengths, graph, steps, batch, start, wanted)
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
) -> tuple[str, list[str], list[str], list[str], int]:
    """The graph of a cell's operator as text, or none; what it takes besides the states: tensors, and weights; what it
    gives besides output and states; how many steps it can number."""
    cell = module if masks is None else Regularised.like(module, *masks)
    try:
        # In a thread of its own, in which nobody looks on: torch.export would write down what the tracing does.
        with ThreadPoolExecutor(1) as alone:
            found = alone.submit(kernel_of, cell, given, constants, dtype, record, TARGETS[0]).result()
        TARGETS[0].build((), dtype)  # whether it can build any
    except (CannotCompile, CannotBuild) as error:
        if chosen() == "compiled":
            raise NotCompiled(f"{place(cell)} has no kernel: {error}") from None
        warn(cell, error)
        return "", [], [], [], 0
    graph = found.kernel.graph
    if chosen() == "eager" or found.types or any(name.startswith("found ") for name in found.weights):
        return "", [], [], [], 0  # tensors that nobody else can reach, or values of another type
    kinds = [("stream", name) for name in streams if name in graph.inputs("stream")]
    kinds += [("constant", name) for name in constants if name in graph.inputs("constant")]
    sources = [*kinds, *(("state", name) for name in cell.state), *(("weight", name) for name in found.weights)]
    text = operator.register(found.kernel, tuple(sources))
    return text, [name for _, name in kinds], list(found.weights), graph.streams, found.steps


@torch.compiler.disable
def _loop_outside(*given: Any) -> Unrolled:
    return unroll(*given)
