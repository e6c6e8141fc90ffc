"""Tracing: runs a step and records every PyTorch function that it calls as a graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from conveyor.compiler.graph import Builder, Graph, Node, Origin, Output
from conveyor.compiler.lower import LOWER, SAME, TOLD_SHAPES, Lowering, NoRule, Value


@dataclass(frozen=True)
class Argument:
    """An argument of the step. `kind`: "stream", "state", "constant" or "step" (the step number)."""

    kind: str
    name: str
    dims: tuple[int, ...] = ()
    dtype: torch.dtype | None = None  # None: that of the weights


# The step as a function of a tensor for each argument. It returns the new states, further outputs by name, and the
# values of its local variables by name.
Step = Callable[..., tuple[Sequence[Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]]


class CannotCompile(Exception):
    """A step cannot be compiled. `line`: where; `reason`: why; `cure`: what to write instead."""

    def __init__(self, line: str, reason: str, cure: str):
        super().__init__(f"{line}: {reason}; {cure}")
        self.line, self.reason, self.cure = line, reason, cure


@dataclass
class _Call:
    function: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    line: str
    module: str  # the path of the module whose code made the call


HOOKS = {"register_hook", "retain_grad", "register_post_accumulate_grad_hook", "requires_grad_"}
VALUE_READERS = {"__bool__", "item", "tolist", "__int__", "__float__", "__index__", "numpy", "__contains__", "equal"}


class _Recorder(TorchFunctionMode):
    """Runs every PyTorch function, and records those that return tensors."""

    def __init__(self, gradients: bool, modules: Mapping[nn.Module, str], skipped_files: tuple[str, ...]) -> None:
        super().__init__()
        self.gradients, self.modules, self.skipped_files = gradients, modules, skipped_files
        self.calls: list[_Call] = []

    def line(self) -> str:
        return _line(self.skipped_files)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name(func)
        if name in VALUE_READERS:
            raise CannotCompile(
                self.line(),
                f"the step reads a tensor's value ({name}), which is not known before the sequence runs",
                "write torch.where(condition, a, b) for a branch, and keep numbers in tensors",
            )
        if name in HOOKS:
            raise CannotCompile(self.line(), f"the step calls {name}, which kernels do not support", "leave it out")
        if self.gradients and not torch.is_grad_enabled():
            raise CannotCompile(
                self.line(),
                f"{name} is called without gradients (torch.no_grad, or a torch.autograd.Function)",
                "write value.detach(), and the function itself with differentiable operations",
            )
        if name == "__setitem__":
            raise CannotCompile(
                self.line(), "the step writes into a tensor", "make a new one, by torch.where or torch.cat"
            )
        result = func(*args, **kwargs)
        if _has_tensor(result):
            self.calls.append(_Call(func, name, args, kwargs, result, self.line(), _module(self.modules)))
        return result


def _name(func: Any) -> str:
    name = getattr(func, "__name__", str(func))
    return getattr(func.__self__, "__name__", name) if name == "__get__" else name


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_has_tensor, value)))


OURS = str(Path(__file__).parent)
TORCH = str(Path(torch.__file__).parent)


def _line(skipped_files: tuple[str, ...]) -> str:
    """The line of the step that is running. Frames in the compiler, PyTorch and `skipped_files` are skipped."""
    for frame in _frames():
        file = frame.f_code.co_filename
        if not file.startswith((OURS, TORCH, *skipped_files)) and Path(file).name != "contextlib.py":
            return f"{Path(file).name}, line {frame.f_lineno}"
    return "the step"


def _module(modules: Mapping[nn.Module, str]) -> str:
    """The path of the innermost module whose method is running; "" if there is none among `modules`."""
    if not modules:
        return ""
    for frame in _frames():
        names = frame.f_code.co_varnames[: min(frame.f_code.co_argcount, 1)]
        owner = frame.f_locals.get(names[0]) if names else None
        if isinstance(owner, nn.Module) and owner in modules:
            return modules[owner]
    return ""


def _frames() -> Iterator[FrameType]:
    """The frames of the call stack, innermost first."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


BATCHES = (2, 3)  # two batch sizes show which dimension is the batch
OTHERS = (1, 7)  # these show whether the step branches on the batch size


@dataclass(frozen=True)
class Trace:
    """A traced step.

    `found`: tensors that the step uses without being parameters or arguments; they become further weights of the graph.
    `types`: the dtypes of the further outputs that are not floating-point, by name; a kernel stores them as floats.
    """

    graph: Graph
    found: Mapping[str, Tensor]
    types: Mapping[str, torch.dtype]


def trace(
    step: Step,
    arguments: Sequence[Argument],
    states: Sequence[str],
    weights: Mapping[str, Tensor],
    modules: Mapping[nn.Module, str] | None = None,
    skipped_files: tuple[str, ...] = (),
) -> Trace:
    """Traces `step` into a graph, whose outputs are the new states and a stream for each further value.

    `weights`: the tensors that it may use besides its arguments, by name. `modules`: the paths of the modules whose
    code it may run, for the origins of the nodes. Errors name the line of the step; lines in files that start with a
    path in `skipped_files` are skipped in favour of the line that calls them.
    Raises CannotCompile if an operation has no rule, mixes rows of the batch, or a branch depends on a value.
    """
    dtype = next((w.dtype for w in weights.values() if w.is_floating_point()), torch.get_default_dtype())
    gradients = not any(w.is_inference() for w in weights.values())  # inference tensors cannot have gradients
    runs = [_run(step, arguments, dtype, gradients, batch, modules or {}, skipped_files) for batch in BATCHES]
    (given, calls, ends, named, labels), (_, others, other_ends, other_named, _) = runs
    wanted = [call.name for call in calls], set(named)
    for run in (runs[1], *(_run(step, arguments, dtype, gradients, batch, {}, skipped_files) for batch in OTHERS)):
        if ([call.name for call in run[1]], set(run[3])) != wanted:
            raise CannotCompile("the step", "it calls other functions for another batch size", "treat all rows alike")
    named = {name: named[name] for name in other_named}  # in the order of a run without frame inspection
    builder = Builder()
    lowering, found = Lowering(builder, dtype), _Found(builder)
    known: dict[int, Value] = {}
    for name, weight in weights.items():
        i = builder.input("weight", name, tuple(weight.shape), False, False)
        known[id(weight)] = Value(i, weight.dim())
    for argument, tensor in zip(arguments, given, strict=True):
        rows, time = argument.kind != "step", argument.kind != "constant"
        i = builder.input(argument.kind, argument.name, argument.dims, rows, time)
        known[id(tensor)] = Value(i, tensor.dim())
    for number, (call, other) in enumerate(zip(calls, others, strict=True)):
        _lower(lowering, number, call, other, known, found)
    for name, tensor in labels.items():
        if id(tensor) in known:
            builder.name(known[id(tensor)].i, name)
    graph = _graph(builder, states, known, (ends, named), (other_ends, other_named))
    types = {name: tensor.dtype for name, tensor in named.items() if not tensor.is_floating_point()}
    return Trace(graph, found.tensors, types)


class _Found:
    """Tensors that the step creates or takes from elsewhere; they become constants, or weights without a gradient."""

    def __init__(self, builder: Builder):
        self.builder, self.tensors = builder, dict[str, Tensor]()

    def made(self, tensor: Tensor) -> Value:
        """A tensor that the step creates, such as torch.ones(3)."""
        return Value(self.builder.const(float(tensor)), 0) if tensor.dim() == 0 else self.add(tensor)

    def add(self, tensor: Tensor) -> Value:
        if tensor.requires_grad:
            raise NoRule("it uses a tensor with requires_grad that is no parameter of the cell", "make it a parameter")
        name = f"found {len(self.tensors)}"
        self.tensors[name] = tensor
        return Value(self.builder.input("weight", name, tuple(tensor.shape), False, False), tensor.dim())


def _run(
    step: Step,
    arguments: Sequence[Argument],
    dtype: torch.dtype,
    gradients: bool,
    batch: int,
    modules: Mapping[nn.Module, str],
    skipped_files: tuple[str, ...],
) -> Any:
    shapes = [() if a.kind == "step" else (batch, *a.dims) for a in arguments]
    recorder = _Recorder(gradients, modules if batch == BATCHES[0] else {}, skipped_files)
    # With gradients as in training, since the derivatives depend on it.
    with torch.inference_mode(False), torch.set_grad_enabled(gradients), torch.random.fork_rng(devices=[]):
        given = [_dummy(a, shape, dtype) for a, shape in zip(arguments, shapes, strict=True)]
        torch.default_generator.manual_seed(batch)  # so that random numbers differ between runs, and are noticed
        with recorder:
            ends, named, labels = step(*given)
    return given, recorder.calls, tuple(ends), dict(named), dict(labels)


def _dummy(argument: Argument, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if argument.kind == "step":
        return torch.zeros((), dtype=torch.long)
    if argument.dtype is not None and not argument.dtype.is_floating_point:
        return torch.ones(shape, dtype=argument.dtype)
    return torch.full(shape, 0.5, dtype=dtype, requires_grad=True)


def _lower(lowering: Lowering, number: int, call: _Call, other: _Call, known: dict[int, Value], found: _Found) -> None:
    given: list[int] = []  # the nodes of its arguments

    def read(value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in known:
                known[id(value)] = found.add(value)
            given.append(known[id(value)].i)
            return known[id(value)]
        if isinstance(value, tuple | list):
            return type(value)(map(read, value)) if not hasattr(value, "_fields") else value
        return value

    try:
        lowering.shapes = _shapes(call.result, other.result)
        made_of_nothing = not _has_tensor((*call.args, *call.kwargs.values()))
        if made_of_nothing and isinstance(call.result, Tensor) and not lowering.shapes[0][1]:  # no rows
            if not torch.equal(call.result, other.result):
                raise NoRule("it draws random numbers", "give them to the step as a stream")
            known[id(call.result)] = found.made(call.result)
            return
        rule = LOWER.get(call.name)
        if rule is None:
            raise NoRule(f"{call.name} has no rule")
        _check_numbers(call, other, lowering.shapes[0][1])
        _check_types(call)
        args, kwargs = [read(v) for v in call.args], {k: read(v) for k, v in call.kwargs.items()}
        lowering.b.origin = Origin(call.module, call.name, number, tuple(given), call.line)
        result = rule(lowering, *args, **kwargs)
        lowering.b.origin = None
        _keep(result, call.result, lowering, known)
    except NoRule as error:
        raise CannotCompile(call.line, str(error), error.cure) from None
    except TypeError as error:
        raise CannotCompile(call.line, f"{call.name} with these arguments has no rule ({error})", NoRule.CURE) from None


def _check_numbers(call: _Call, other: _Call, rows: bool) -> None:
    """Checks that the numbers among the arguments are the same in both runs, since they become part of the kernel."""
    one, two = ([_numbers(_told(c, rows)), _numbers(c.kwargs)] for c in (call, other))
    if call.name not in TOLD_SHAPES and one != two:
        raise NoRule("it is given a number that depends on the batch or on chance", "give it to the step as a stream")


def _told(call: _Call, rows: bool) -> tuple[Any, ...]:
    """The arguments of a call; for x[:batch, ...] without the slice of rows, which shapes.py checks."""
    if call.name != "__getitem__":
        return call.args
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    return index[1:] if rows and index and isinstance(index[0], slice) else index


def _numbers(value: Any) -> list[str]:
    """The numbers among arguments, as text, so that NaN equals NaN."""
    if isinstance(value, bool | int | float):
        return [repr(value)]
    if isinstance(value, slice):
        return _numbers((value.start, value.stop, value.step))
    if isinstance(value, dict):
        return _numbers(tuple(value.values()))
    return [n for item in value for n in _numbers(item)] if isinstance(value, tuple | list) else []


BITWISE = {"bitwise_and", "__and__", "bitwise_or", "__or__", "bitwise_not", "__invert__"}
ADDITIONS = {"add", "__add__", "__radd__"}


def _check_types(call: _Call) -> None:
    """Refuses conversions of dtype: all values in a kernel have one type, in which booleans are 0 and 1."""
    tensors = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, Tensor)]
    if not isinstance(call.result, Tensor):
        return
    dtype = call.result.dtype
    if any(tensor.is_complex() for tensor in (*tensors, call.result)):
        raise NoRule("it computes with complex numbers", "write their two parts")
    if call.name in SAME and tensors[0].is_floating_point() and not dtype.is_floating_point:
        raise NoRule(f"it converts a number to {dtype}", "write a comparison, or torch.floor")
    if dtype.is_floating_point and dtype not in (torch.float32, torch.float64):
        raise NoRule(f"it computes in {dtype}", "leave the type as it is")
    if call.name in BITWISE and dtype != torch.bool:
        raise NoRule("it works on the bits of whole numbers", "write it with % and //")
    if call.name in ADDITIONS and dtype == torch.bool:
        raise NoRule("it adds truth values", "write a | b, or bring one to the type of numbers first")


def _shapes(result: Any, other: Any) -> list[tuple[tuple[int, ...], bool]]:
    """The feature shape of each tensor in a result, and whether it has rows."""
    pairs = [(result, other)] if isinstance(result, Tensor) else list(zip(result, other, strict=False))
    if not isinstance(result, Tensor) and len(result) != len(other):
        raise NoRule("it cuts the value in as many parts as the batch has rows", NoRule.BATCH)
    found = []
    for one, two in pairs:
        a, b = tuple(one.shape), tuple(two.shape)
        if a == b:
            found.append((a, False))
        elif a[1:] == b[1:] and (a[0], b[0]) == BATCHES:
            found.append((a[1:], True))
        else:
            raise NoRule("it moves the batch to another dimension or joins it with another", NoRule.BATCH)
    return found


def _keep(found: Any, result: Any, lowering: Lowering, known: dict[int, Value]) -> None:
    values = [found] if isinstance(found, Value) else list(found)
    tensors = [result] if isinstance(result, Tensor) else list(result)
    for value, tensor, (dims, rows) in zip(values, tensors, lowering.shapes, strict=True):
        node = lowering.b.nodes[value.i]
        if node.dims != dims and node.size == Node("", dims=dims).size:
            value = Value(lowering.b.reshape(value.i, dims), len(dims) + rows)
        node = lowering.b.nodes[value.i]
        assert node.dims == dims, f"{node.dims} is not {dims}"
        if rows and not node.rows:
            value = Value(lowering.b.expand(value.i, dims, Node("", rows=True, time=node.time)), len(dims) + 1)
        known[id(tensor)] = value


def _graph(builder: Builder, states: Sequence[str], known: dict[int, Value], one: Any, two: Any) -> Graph:
    (ends, named), (other_ends, other_named) = one, two
    outputs = []
    for kind, found, other in (
        ("state", zip(states, ends, strict=True), other_ends),
        ("stream", named.items(), other_named.values()),
    ):
        for (name, tensor), twin in zip(found, other, strict=True):
            ((dims, _rows),) = _shapes(tensor, twin)
            if id(tensor) not in known:
                raise CannotCompile("the step", f"{name} is not computed from what the step is given", NoRule.CURE)
            i = known[id(tensor)].i
            builder.name(i, name)
            outputs.append(Output(kind, name, builder.expand(i, dims, Node("", rows=True, time=True))))
    return builder.graph(outputs)
