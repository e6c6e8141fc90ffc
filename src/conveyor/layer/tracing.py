"""The graph of a cell: traced when it is first wanted, found again, and the tensors that it reads."""

from __future__ import annotations

import traceback
import weakref
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.utils import parametrize

from conveyor import compiler
from conveyor.cell import Affine, affine
from conveyor.cell.loop import Scan, Step, is_autocast, location, take_step
from conveyor.cell.packed import Packed, holding
from conveyor.compiler import Argument, CannotCompile, Graph, steps_within, trace
from conveyor.errors import Mismatch
from conveyor.packing import Packing
from conveyor.targets import Target
from conveyor.targets.autograd import CompiledStep
from conveyor.targets.build_once import BUILDING

T = TypeVar("T")
CPU = torch.device("cpu")  # where steps are traced
# What a step is given: its name, its shape without steps and rows, and its type if that is no real number.
Given = tuple[str, tuple[int, ...], torch.dtype | None]


class Signature(NamedTuple):
    """What a step is traced for: the shapes and types that it is given, and what is wanted of it.

    `dtype` is that of the elements in a kernel, `constants` the arguments that do not vary with the step.
    """

    given: tuple[Given, ...]
    constants: tuple[str, ...]
    dtype: torch.dtype
    record: bool = False

    @classmethod
    def of(cls, scan: Scan) -> Signature:
        """That of a run."""
        each = [(name, v, 2) for name, v in scan.streams.items()]
        each += [(n, v, 1) for n, v in (*zip(scan.cell.state, scan.state, strict=True), *scan.constants.items())]
        given = ((n, tuple(v.shape[k:]), None if v.is_floating_point() else v.dtype) for n, v, k in each)
        return cls(tuple(given), tuple(scan.constants), type_of(scan.x), scan.record)


@dataclass(frozen=True, eq=False)
class TracedCell:
    """The graph of a cell's step, and where its weights are now.

    `weights` are those that the graph reads; `packing` says which of them are blocks of a
    layer's tensors.
    """

    graph: Graph
    dtype: torch.dtype
    weights: Mapping[str, Callable[[], Tensor | None]]
    packing: Packing | None
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, torch.dtype]  # of the further values that are no real numbers
    own_tensors: frozenset[str]  # the names of those weights that only the step has
    kernels: dict[Target[Any], CompiledStep]
    steps: int  # how many it can number: in its own numbers, of which whole ones are exact up to a limit

    @cached_property
    def own_weights(self) -> Mapping[str, Callable[[], Tensor | None]]:
        """Those weights that are no blocks of a layer's tensors."""
        blocks = {} if self.packing is None else self.packing.blocks
        return {name: get for name, get in self.weights.items() if name not in blocks}


class StepFails(CannotCompile):
    """The step raised `error` when it was traced."""

    def __init__(self, error: Exception):
        super().__init__(_location(error), f"the step fails, {type(error).__name__}: {error}", CURE)
        self.error = error


CURE = "fix this: the step must run for any batch size"


def _location(error: Exception) -> str:
    """The last line outside PyTorch and the compiler that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    others = str(Path(torch.__file__).parent), str(Path(compiler.__file__).parent)  # the tracer calls each function
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "the step"


_traced: WeakKeyDictionary[nn.Module, dict[Any, TracedCell | CannotCompile]] = WeakKeyDictionary()


def check_weights(cell: Step, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> None:
    """Raises Mismatch for a weight on another device or of another floating type than the input."""
    for name, weight in weights.items():
        if weight.dtype == dtype and weight.device == device:
            continue
        if weight.is_floating_point() and weight.dtype != dtype and not is_autocast(device):
            raise Mismatch(
                f"{location(cell)}: {name} is {weight.dtype}, but the input is {dtype}: "
                f"bring all to one, layer.to({dtype})"
            )
        if weight.device != device:
            raise Mismatch(
                f"{location(cell)}: {name} is on {weight.device}, but the input is on {device}: layer.to('{device}')"
            )


def forget(cell: Any) -> None:
    """Something in the cell has been put in another's place: it is to be traced anew."""
    _traced.pop(module_of(cell), None)


def module_of(cell: Any) -> nn.Module:
    """The cell itself, or the one whose step another wraps."""
    return cell if isinstance(cell, nn.Module) else cell.cell


def traced(cell: Any, signature: Signature) -> TracedCell:
    """The graph of a cell's step; made anew when the cell has been changed. Raises CannotCompile."""
    module = module_of(cell)
    key = (signature, cell.arguments, _fingerprint(module))
    known = _traced.setdefault(module, {})
    found = known.get(key)
    if found is None:
        with BUILDING:  # threads that come at once make it once
            found = known.get(key)
            if found is None:
                if len(known) > 32:  # somebody changes the cell at every call
                    known.clear()
                found = known[key] = _apart(_attempt, cell, module, signature)
    if isinstance(found, CannotCompile):
        raise found.with_traceback(None)
    return found


def _apart(function: Callable[..., T], *arguments: Any) -> T:
    """Calls it, in a thread of its own where what autograd saves is handed to others (torch.utils.checkpoint)."""
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
        return function(*arguments)
    with ThreadPoolExecutor(1) as alone:
        return alone.submit(function, *arguments).result()


def _attempt(cell: Any, module: nn.Module, signature: Signature) -> TracedCell | CannotCompile:
    """The graph, or why there is none, which need not be found out at every call."""
    try:
        return _trace(cell, module, signature)
    except CannotCompile as error:
        return error


def _fingerprint(module: nn.Module) -> tuple[Any, ...]:
    """What of a module a trace depends on, besides its tensors: numbers and names that it holds."""
    marks: list[Any] = []
    tensors: list[int] = []
    _collect(module, marks, tensors)
    if len(set(tensors)) < len(tensors):  # which are one and the same is part of the graph
        marks.append(tuple(map(tensors.index, tensors)))
    return tuple(marks)


def _collect(module: nn.Module, marks: list[Any], tensors: list[int]) -> None:
    tensors += [id(tensor) for tensor in module._parameters.values() if tensor is not None]
    marks.append(weakref.ref(module))  # not its id, which another may have when it is gone
    if isinstance(module, Affine):  # nothing in it changes but whether it has a bias, and hooks
        marks.append(module._parameters.get("bias") is None)
        marks += (*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks)
        marks += module._backward_pre_hooks
        return
    marks += module._parameters.keys()
    for name, value in module.__dict__.items():
        if name in HOOKS:
            marks.append(tuple(value))  # each has a number of its own
        elif name not in OWN:
            marks.append(value if isinstance(value, PLAIN) else mark_of(value))
    for child in module._modules.values():
        if child is not None:
            _collect(child, marks, tensors)


HOOKS = {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"}
OWN = set(nn.Module().__dict__) - {"training"}  # what every module has, which says nothing of a step
PLAIN = (int, float, str)


def mark_of(value: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """What is equal as long as an attribute of a module has not changed; `other` marks what is not looked into.

    Of an object of a class of its own, which may refer to anything, only the numbers and names that it holds are seen.
    """
    other = other or _mark_of_object
    if isinstance(value, list | tuple | set):
        return tuple(mark_of(item, other) for item in value)
    if isinstance(value, dict):
        return tuple((key, mark_of(item, other)) for key, item in value.items())
    if isinstance(value, int | float | str | None):
        return value
    inside = getattr(value, "__dict__", None)
    if isinstance(value, Namespace | SimpleNamespace) or (is_dataclass(value) and inside is not None):
        # Settings, of which one may change.
        return Identity(value) if isinstance(value, type) else (Identity(value), mark_of(inside, other))
    if isinstance(value, MethodType):
        return other(value.__self__), Identity(value.__func__)
    if hasattr(value, "__array_interface__"):  # an array of NumPy, which counts no version
        return Identity(value), value.tobytes()
    return other(value)


def _mark_of_object(value: Any) -> Any:
    inside = {} if isinstance(value, Tensor | nn.Module | type) else getattr(value, "__dict__", {})
    plain = tuple((name, one) for name, one in inside.items() if isinstance(one, PLAIN))
    return (Identity(value), plain) if plain else Identity(value)


class Identity:
    """Equal for one and the same object only, as long as that is there. It keeps none alive that refers to its cell."""

    def __init__(self, value: Any):
        self.hash = id(value)
        try:
            self.get: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self.get = lambda: value

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        mine = self.get()
        return mine is not None and isinstance(other, Identity) and mine is other.get()


def _trace(cell: Any, module: nn.Module, signature: Signature) -> TracedCell:
    dtype = signature.dtype
    known = {name: (dims, kind) for name, dims, kind in signature.given}
    kinds = dict.fromkeys(signature.constants, "constant") | dict.fromkeys(cell.state, "state") | {"t": "step"}
    arguments = [Argument(kinds.get(name, "stream"), name, *known.get(name, ((), None))) for name in cell.arguments]

    def step(*values: Tensor) -> tuple[Sequence[Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
        states, named = take_step(cell, dict(zip(cell.arguments, values, strict=True)), record=True)
        return states, named if signature.record else {name: named[name] for name in cell.over_time}, named

    if any(m._backward_hooks or m._backward_pre_hooks for m in module.modules()):
        raise CannotCompile("the step", "a module in it has a hook on its backward", "leave the hook out")
    getters = dict(_weights(module))
    packed, once = cell.packed, torch.autocast("cpu", enabled=False)
    with (
        _stand_ins(module, dtype),
        once,
        parametrize.cached(),
        holding(packed, packed and _stand_in_sources(packed, dtype)),
    ):
        weights = {name: weight for name, get in getters.items() if (weight := get()) is not None}
        with _unchanged(module):
            try:
                paths = {m: path for path, m in module.named_modules()}
                found = trace(step, arguments, cell.state, weights, paths, skipped_files=(affine.__file__,))
            except CannotCompile:
                raise
            except Exception as error:  # a step can fail in any way, perhaps only on what it is traced with
                check_weights(cell, weights, dtype, CPU)  # a likely reason, and easier to understand
                raise StepFails(error) from error
        held = {**weights, **found.found}
    used = found.graph.inputs("weight")
    getters |= {name: _always(tensor) for name, tensor in found.found.items()}
    shapes = {name: found.graph.nodes[i].dims for name, i in used.items()}
    whole = {name: _magnitude(held[name]) for name in used if not held[name].is_floating_point()}
    steps = steps_within(found.graph, whole, 2**24 if dtype == torch.float32 else 2**53)
    getters = {name: getters[name] for name in used}
    packing = None if packed is None else packed.packing
    return TracedCell(found.graph, dtype, getters, packing, shapes, found.types, frozenset(found.found), {}, steps)


def _stand_in_sources(packed: Packed, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a layer, with numbers in place of those that have shapes only."""
    sources = packed.sources().items()
    return {name: _stand_in(t, dtype) if _needs_stand_in(t) else t for name, t in sources}


def _needs_stand_in(tensor: Any) -> bool:
    """Whether a step cannot be run with it on a processor."""
    if not isinstance(tensor, Tensor):
        return False
    half = tensor.dtype in (torch.bfloat16, torch.float16)
    return isinstance(tensor, FakeTensor) or tensor.device.type != "cpu" or half


def _stand_in(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_floating_point():
        known = isinstance(tensor, FakeTensor) and tensor.dtype in (torch.float32, torch.float64)
        return torch.ones(tensor.shape, dtype=tensor.dtype if known else dtype)
    if (isinstance(tensor, FakeTensor) or tensor.is_meta) and tensor.dtype != torch.bool:
        raise ValueError("a layer whose cell holds whole numbers is to be run once before it is exported")
    return torch.ones(tensor.shape, dtype=tensor.dtype) if isinstance(tensor, FakeTensor) else tensor.cpu()


def _magnitude(whole: Tensor) -> float:
    return max(-int(whole.min()), int(whole.max())) if whole.numel() else 0


@contextmanager
def _stand_ins(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside, the module holds tensors on a processor for those elsewhere, and where torch.export has put such as have
    shapes only."""
    fakes: list[tuple[Any, str, Tensor]] = []
    for held in (held for m in module.modules() for held in (m._parameters, m._buffers, m.__dict__)):
        items: Any = held.items()
        fakes += [(held, name, tensor) for name, tensor in items if _needs_stand_in(tensor)]
    for held, name, fake in fakes:
        tensor = _stand_in(fake, dtype)
        held[name] = nn.Parameter(tensor, fake.requires_grad) if isinstance(fake, nn.Parameter) else tensor
    try:
        yield
    finally:
        for held, name, fake in fakes:
            held[name] = fake


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """A step that is only looked at leaves nothing behind; one that changes what its cell holds has no kernel."""
    before = [(m, m.__dict__.copy(), m._buffers.copy(), m._parameters.copy()) for m in module.modules()]
    tensors = [b for m in module.modules() for b in m._buffers.values() if b is not None]
    kept = [(b, b._version, b.detach().clone()) for b in tensors]
    try:
        yield
    finally:
        changed = False
        for m, own, buffers, parameters in before:
            pairs: Any = (m.__dict__, own), (m._buffers, buffers), (m._parameters, parameters)
            for mine, old in pairs:
                if mine.keys() != old.keys() or any(mine[name] is not old[name] for name in old):
                    changed = True
                    mine.clear()
                    mine.update(old)
        for buffer, version, value in kept:
            if buffer._version != version or _differ(buffer, value):  # batch_norm counts no version
                changed = True
                buffer.data.copy_(value)
    if changed:
        raise CannotCompile(
            "the step", "it changes what the cell holds", "keep what changes from step to step in a state"
        )


def _differ(one: Tensor, two: Tensor) -> bool:
    """Whether some element does; a NaN is the same as a NaN."""
    return bool(((one != two) & ((one == one) | (two == two))).any())


def _weights(module: nn.Module) -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
    """Every tensor that the modules hold, by its path, and how to read it now."""
    for path, owner in module.named_modules():
        if isinstance(owner, Affine) and owner.packed is not None:
            packed = [n for n in ("bias", *(f"weight_{o}" for o in owner.operands)) if owner.packs(n)]
            yield from ((f"{path}.{name}", partial(owner.read, name)) for name in packed)
        names = [*owner._parameters, *owner._buffers, *(n for n, v in owner.__dict__.items() if isinstance(v, Tensor))]
        if parametrize.is_parametrized(owner):
            names += list(owner.parametrizations)
        for name in names:
            value = getattr(owner, name)
            if isinstance(value, Tensor):
                plain = name in owner._parameters  # its place is read at every run, and this is the quickest way
                read = partial(owner._parameters.get, name) if plain else partial(getattr, owner, name)
                yield (f"{path}.{name}" if path else name), read


@contextmanager
def held(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the modules hold these tensors as their weights, by the names that `TracedCell.weights` gives them.

    A weight that several modules share is replaced in all of them, one that is computed (torch.nn.utils.parametrize)
    where its value is kept.
    """
    places: list[tuple[Any, str]] = []
    with parametrize.cached():
        instead = {}
        for name, tensor in weights.items():
            path, _, leaf = name.rpartition(".")
            owner = module.get_submodule(path)
            if parametrize.is_parametrized(owner, leaf):
                parametrize._cache[id(owner), leaf] = tensor
            else:
                instead[id(getattr(owner, leaf))] = tensor
        for owner in module.modules():
            holders: tuple[Any, ...] = owner._parameters, owner._buffers, owner.__dict__
            places += [(holder, name) for holder in holders for name, value in holder.items() if id(value) in instead]
        old = [holder[name] for holder, name in places]
        try:
            for (holder, name), value in zip(places, old, strict=True):
                holder[name] = instead[id(value)]
            yield
        finally:
            for (holder, name), value in zip(places, old, strict=True):
                holder[name] = value


def _always(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def type_of(x: Tensor) -> torch.dtype:
    """The type of the numbers in a kernel that is given x."""
    return x.dtype if x.dtype == torch.float64 else torch.float32
