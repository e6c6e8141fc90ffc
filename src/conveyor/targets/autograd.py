"""A step's kernels: one for inference, and a pair for training behind torch.autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from conveyor.compiler.graph import Graph, Key
from conveyor.compiler.pipeline import Lowered, inference, training
from conveyor.compiler.program import Program
from conveyor.packing import Packing
from conveyor.targets.batch_layout import BatchLayout
from conveyor.targets.build_once import BuildOnce
from conveyor.targets.target import Kernel, Result, Target


@dataclass
class CompiledStep:
    """The kernels of the graph of one step, built when they are first wanted."""

    graph: Graph
    dtype: torch.dtype
    target: Target[Any]
    order: tuple[str, ...] = ()  # of weights whose gradients are to lie one after the other
    _inference: Kernel | None = None
    _training: dict[frozenset[Key], tuple[Kernel, Kernel]] = field(default_factory=dict)
    _attempt: BuildOnce = field(default_factory=BuildOnce)
    wanted: dict[Any, frozenset[Key]] = field(default_factory=dict)  # by Launch.wanted

    def inference(self) -> Kernel:
        """Keeps the first state of every step, which is the output, and nothing else."""
        if self._inference is None:
            with self._attempt:
                self._inference = self._inference or self._built(inference(self.graph))[0]
        return self._inference

    def training(self, wanted: frozenset[Key]) -> tuple[Kernel, Kernel]:
        """Forward and backward, for the gradients by the inputs wanted."""
        if wanted not in self._training:
            with self._attempt:
                if wanted not in self._training:
                    forward, backward = self._built(*training(self.graph, wanted, self.target.costs, self.order))
                    self._training[wanted] = (forward, backward)
        return self._training[wanted]

    def _built(self, *directions: Lowered) -> Sequence[Kernel]:
        return self.target.build([self.target.plan(one.program) for one in directions], self.dtype)


@dataclass(frozen=True)
class Launch:
    """One run over the sequences of a batch: what the tensors are, and the eager loop that gives the same.

    With a `packing`, some of the tensors are sources that hold weights of the graph as their blocks.
    """

    step: CompiledStep
    layout: BatchLayout
    start: int
    sources: tuple[Key, ...]
    eager: Callable[..., tuple[Tensor, ...]]
    packing: Packing | None = None

    def is_source(self, key: Key) -> bool:
        """Whether the tensor holds weights as its blocks."""
        return self.packing is not None and key.kind == "weight" and key.name in self.packing.counts

    def wanted(self, needed: tuple[bool, ...]) -> frozenset[Key]:
        """The inputs of the graph whose gradients are needed, when those of some tensors are."""
        known = self.step.wanted.get((self.sources, self.packing, needed))
        if known is None:
            found = {key for key, need in zip(self.sources, needed, strict=True) if need}
            sources = {key.name for key in found if self.is_source(key)}
            found = {key for key in found if not self.is_source(key)}
            if self.packing is not None:
                blocks = self.packing.blocks.items()
                every = {Key("weight", name) for name, block in blocks if not sources.isdisjoint(block.sources)}
                found |= every & set(self.step.graph.input_keys)
            known = self.step.wanted[self.sources, self.packing, needed] = frozenset(found)
        return known

    def arranged(self, tensors: Sequence[Tensor]) -> tuple[dict[Key, Tensor], list[Tensor]]:
        """As a program takes them: the inputs, and the first states."""
        given, states = {}, []
        packed: dict[str, Tensor] = {}
        names = () if self.packing is None else self.packing.counts
        for key, tensor in zip(self.sources, tensors, strict=True):
            if key.name in names and key.kind == "weight":
                packed[key.name] = tensor if tensor.is_contiguous() else tensor.contiguous()
                continue
            if key.kind == "state":
                states.append(self.layout.sort(tensor))
                continue
            if key.kind == "stream":
                tensor = self.layout.pack(tensor)
            elif key.kind == "constant":
                tensor = self.layout.sort(tensor)
            given[key] = tensor if tensor.is_contiguous() else tensor.contiguous()
        if self.packing is not None:
            keys = _keys(self.packing)
            given |= {keys[name]: block for name, block in self.packing.split(packed).items()}
        return given, states

    def results(self, result: Result) -> tuple[Tensor, ...]:
        """The output, the last states, and the further values."""
        graph, layout = self.step.graph, self.layout
        output = layout.unpack(result.output(Key("state", graph.states[0])))
        last = (layout.unsort(result.last(name)) for name in graph.states)
        further = (layout.unpack(result.output(Key("stream", name))) for name in graph.streams)
        return (output, *last, *further)


def compute(launch: Launch, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The output [T, B, ...], the last states [B, width], and the further values [T, B, ...]."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Autograd.apply(launch, *tensors)
    given, states = launch.arranged(tensors)
    return launch.results(launch.step.inference()(given, states, launch.layout, launch.start))


class _Autograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, launch: Launch, *tensors: Tensor) -> tuple[Tensor, ...]:
        forward, backward = launch.step.training(launch.wanted(ctx.needs_input_grad[1:]))
        given, states = launch.arranged(tensors)
        result = forward(given, states, launch.layout, launch.start)
        kept = sorted(set(saved_buffers(forward.program, backward.program).values()))
        ctx.launch, ctx.kernels, ctx.kept, ctx.count = launch, (forward, backward), kept, len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *(result.buffers[buffer] for buffer in kept))
        return launch.results(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        launch: Launch = ctx.launch
        saved = ctx.saved_tensors
        tensors, kept = saved[: ctx.count], dict(zip(ctx.kept, saved[ctx.count :], strict=True))
        if torch.is_grad_enabled() or any(map(is_batched, gradients)):
            return None, *differentiate_again(launch.eager, tensors, gradients, ctx.needs_input_grad[1:])
        return None, *run_backward(launch, ctx.kernels, tensors, kept, gradients, ctx.needs_input_grad[1:])


def run_backward(
    launch: Launch,
    kernels: tuple[Kernel, Kernel],
    tensors: Sequence[Tensor],
    kept: Mapping[int, Tensor],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients with respect to the tensors that need one, without a graph of their own."""
    backward = kernels[1]
    given, states = launch.arranged(tensors)
    given |= {name: kept[buffer] for name, buffer in saved_buffers(kernels[0].program, backward.program).items()}
    given |= _step_gradients(launch, backward, gradients)
    result = backward(given, _last_gradients(launch, states, gradients), launch.layout, launch.start)
    return [
        _gradient(launch, result, source, tensor) if wanted else None
        for source, tensor, wanted in zip(launch.sources, tensors, needed, strict=True)
    ]


@lru_cache(maxsize=256)
def saved_buffers(forward: Program, backward: Program) -> dict[Key, int]:
    """The backward program's inputs that the forward one has made, and in which buffer."""
    found = {}
    for key in backward.input_buffers:
        if key.kind in ("before", "after"):
            found[key] = forward.states[key.name]
        elif key.kind == "saved":
            saved = (Key(kind, key.name, "saved") for kind in ("stream", "once"))
            found[key] = next(forward.shapes[each][0].buffer for each in saved if each in forward.shapes)
    return found


def _last_gradients(launch: Launch, like: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients with respect to the final states, zeros where unused."""
    return [
        torch.zeros_like(state) if gradient is None else launch.layout.sort(gradient)
        for state, gradient in zip(like, gradients[1:], strict=False)
    ]


def _step_gradients(launch: Launch, backward: Kernel, gradients: Sequence[Tensor | None]) -> dict[Key, Tensor]:
    """Gradients with respect to the outputs of each step, packed."""
    graph, layout = launch.step.graph, launch.layout
    keys = [Key("stream", graph.states[0], "grad state"), *(Key("stream", n, "grad stream") for n in graph.streams)]
    found = {}
    program = backward.program
    widths = {name: program.buffers[buffer].width for name, buffer in program.input_buffers.items()}
    for key, gradient in zip(keys, (gradients[0], *gradients[1 + len(graph.states) :]), strict=True):
        if key in widths:
            if gradient is None:
                shape = layout.steps, layout.batch, widths[key]
                gradient = torch.zeros(shape, dtype=backward.dtype, device=layout.at.device)
            found[key] = layout.pack(gradient)
    return found


def _gradient(launch: Launch, result: Result, source: Key, like: Tensor) -> Tensor | None:
    """None if no output depends on it."""
    if launch.is_source(source):
        assert launch.packing is not None
        return _gathered(result, source.name, launch.packing, like)
    if source.kind == "state":
        return launch.layout.unsort(result.last(source.name))
    key = Key("stream" if source.kind == "stream" else "once", source.name, "grad")
    if key not in result.program.shapes:
        return None
    found = result.output(key)
    if source.kind == "stream":
        return launch.layout.unpack(found)
    return launch.layout.unsort(found) if source.kind == "constant" else found


def _gathered(result: Result, source: str, packing: Packing, like: Tensor) -> Tensor | None:
    """The gradient by a tensor that holds weights as its blocks, whose gradients may lie together already."""
    shapes = result.program.shapes
    keys = _gradients(packing, source)
    if not any(key in shapes for key in keys):
        return None
    if _lie_together(result.program, keys):
        first, _ = shapes[keys[0]]
        found = result.buffers[first.buffer].as_strided(like.shape, first.strides, first.offset)
        return found if packing.is_first(source) else found.clone()  # the gradient of the other, which may be changed
    shape = (len(like) // len(keys), *like.shape[1:])
    return torch.cat([result.output(key).view(shape) if key in shapes else like.new_zeros(shape) for key in keys])


@lru_cache(maxsize=256)
def _keys(packing: Packing) -> dict[str, Key]:
    return {name: Key("weight", name) for name in packing.blocks}


@lru_cache(maxsize=256)
def _gradients(packing: Packing, source: str) -> tuple[Key, ...]:
    """What the gradients by the weights in a source are called, in the order of its blocks."""
    return tuple(Key("once", name, "grad") for name in packing.members(source))


@lru_cache(maxsize=1024)
def _lie_together(program: Program, keys: tuple[Key, ...]) -> bool:
    """Whether outputs lie in one buffer, one after the other, as one array of rows would."""
    if any(key not in program.shapes for key in keys):
        return False
    first, dims = program.shapes[keys[0]]
    size = math.prod(dims)
    packed = first.strides == tuple(math.prod(dims[k + 1 :]) for k in range(len(dims)))
    places = [(ref.buffer, ref.offset, ref.strides) for ref, _ in map(program.shapes.__getitem__, keys)]
    wanted = [(first.buffer, first.offset + k * size, first.strides) for k in range(len(keys))]
    return packed and places == wanted


def is_batched(gradient: Tensor | None) -> bool:
    """Whether it is many gradients in one, as is_grads_batched and jacobian(vectorize=True) give them."""
    functorch = torch._C._functorch
    return gradient is not None and (
        functorch.is_legacy_batchedtensor(gradient) or functorch.is_functorch_wrapped_tensor(gradient)
    )


def differentiate_again(
    eager: Callable[..., tuple[Tensor, ...]],
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients that are to be differentiated again, or that are batched, by the eager loop."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors = [tensor.view_as(tensor) for tensor in tensors]  # one may be computed of another: both count once
        outputs = eager(*tensors)
    ends = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    wanted = [t for t, n in zip(tensors, needed, strict=True) if n]
    found = iter(
        torch.autograd.grad([o for o, _ in ends], wanted, [g for _, g in ends], create_graph=again, allow_unused=True)
    )
    return [next(found) if n else None for n in needed]
