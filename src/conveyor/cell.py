"""One step of a recurrent network, and the loop over it that defines what the network computes."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

BLOCKS = ("full", "diagonal", "zero")

# Variational dropout masks what an affine map reads of a state and leaves the state itself alone (a state that is
# carried over would otherwise fade or explode), so the masks reach the maps past the equations of the step.
_masks: ContextVar[Mapping[str, Tensor]] = ContextVar("masks", default={})  # noqa: B039 - only ever read


@contextmanager
def masked(masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, every affine map multiplies the operand called `name` by `masks[name]`, [B, width]."""
    token = _masks.set(masks)
    try:
        yield
    finally:
        _masks.reset(token)


class Affine(nn.Module):
    """A learned map `W · [a, b, ...] + bias` of several values; made by `Cell.affine`.

    The matrix is kept in one block for each operand, as the parameters `weight_<operand>`: [out, width] if the block
    is full, [out] if it is diagonal, none at all if it is zero. All start uniform in ±`bound`.
    """

    def __init__(self, out: int, widths: Mapping[str, int], blocks: Mapping[str, str], bias: bool, bound: float):
        super().__init__()
        self.out, self.operands, self.blocks, self.bound = out, tuple(widths), dict(blocks), bound
        for name, width in widths.items():
            block = blocks.get(name, "full")
            if block not in BLOCKS:
                raise ValueError(f"the block of {name} is {block!r}; it can be {', '.join(BLOCKS)}")
            if block == "diagonal" and width != out:
                raise ValueError(f"a diagonal block needs equal widths, but {name} has {width} and the result {out}")
            shape = {"full": (out, width), "diagonal": (out,), "zero": None}[block]
            weight = None if shape is None else nn.Parameter(torch.empty(shape))
            self.register_parameter(f"weight_{name}", weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(out)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -self.bound, self.bound)

    def forward(self, *values: Tensor) -> Tensor:
        if len(values) != len(self.operands):
            raise TypeError(f"this affine map takes ({', '.join(self.operands)}), but was given {len(values)} values")
        masks, total = _masks.get(), self.bias
        for name, value in zip(self.operands, values, strict=True):
            weight = getattr(self, f"weight_{name}")
            if weight is None:
                continue
            value = value * masks[name] if name in masks else value
            if weight.dim() == 2 and total is not None:
                total = torch.addmm(total, value, weight.t())  # one operation less than a product and a sum
            else:
                term = value @ weight.t() if weight.dim() == 2 else value * weight
                total = term if total is None else total + term
        return values[0].new_zeros(values[0].shape[0], self.out) if total is None else total

    def extra_repr(self) -> str:
        blocks = [f"{name}: {self.blocks[name]}" if name in self.blocks else name for name in self.operands]
        return f"{', '.join(blocks)} -> {self.out}, bias={self.bias is not None}"


class Cell(nn.Module):
    """One step of a recurrent network, written as its equations.

        class Leaky(conveyor.Cell):
            state = ("h",)

            def __init__(self, input_size, hidden_size):
                super().__init__(input_size, hidden_size)
                self.candidate = self.affine("h", "x")        # W · [h, x] + b
                self.rate = torch.nn.Parameter(torch.zeros(hidden_size))

            def step(self, x, h):
                h_tilde = torch.tanh(self.candidate(h, x))
                a = torch.sigmoid(self.rate)
                return (1 - a) * h + a * h_tilde

        output, h = conveyor.Recurrent(Leaky, 32, 128)(x)     # x: [T, B, 32], output: [T, B, 128]

    `state` names the states, in the order in which `step` returns them; the first is the output. `step` takes the input
    `x` and the states by these names, each [B, width], and returns the new states. Any further argument of `step` is
    one more stream, [B, ...] at each step, or, if `constant` names it, a value that stays the same over the sequence;
    both are given to the layer by name. Randomness belongs into a stream, so that a step is a pure function.

    Widths are `input_size` for `x` and `hidden_size` for every state; those of other values that an affine map is to
    read, and other widths of states, are given by name: `super().__init__(input_size, hidden_size, h=64)`.

    Raises TypeError when the class is made if `step` does not take `x` and every state by name.
    """

    state: ClassVar[tuple[str, ...]] = ("h",)
    constant: ClassVar[tuple[str, ...]] = ()
    arguments: ClassVar[tuple[str, ...]] = ()  # what `step` takes, in order; read from its signature

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "step" in cls.__dict__ or "state" in cls.__dict__ or "constant" in cls.__dict__:
            cls.arguments = _arguments(cls)

    def __init__(self, input_size: int, hidden_size: int, **widths: int):
        super().__init__()
        self.input_size, self.hidden_size = _size("input_size", input_size), _size("hidden_size", hidden_size)
        given = {name: _size(name, width) for name, width in widths.items()}
        self.widths = {"x": input_size, **dict.fromkeys(self.state, hidden_size), **given}

    def affine(self, *operands: str, out: int | None = None, bias: bool = True, **blocks: str) -> Affine:
        """A learned map of the named values: `self.affine("h", "x")` is `W · [h, x] + b`, called as `(h, x)`.

        `out` is its width, by default `hidden_size`. A block of W can be of another kind than full, by its operand's
        name: `self.affine("C", "h", "x", C="diagonal")` has a diagonal block for C, and `C="zero"` none.
        """
        unknown = (set(operands) - set(self.widths)) | (set(blocks) - set(operands))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no value called {', '.join(sorted(unknown))} to map; "
                f"the widths of {', '.join(self.widths)} are known, give others to Cell.__init__ by name"
            )
        widths = {name: self.widths[name] for name in operands}
        return Affine(out or self.hidden_size, widths, blocks, bias, bound=1 / math.sqrt(self.hidden_size))

    def step(self, *arguments: Any) -> Tensor | tuple[Tensor, ...]:
        """The equations: from the input and the states of t-1 to the states of t."""
        raise TypeError(f"{type(self).__name__} is a cell without equations: give it a method step(self, x, h)")


def _size(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be greater than zero, not {value}")
    return value


def _arguments(cls: type[Cell]) -> tuple[str, ...]:
    _, *parameters = inspect.signature(cls.step).parameters.values()
    names = tuple(parameter.name for parameter in parameters)
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        raise TypeError(f"{cls.__name__}.step must name each of its arguments: no *args, no **kwargs")
    if not isinstance(cls.state, tuple) or not cls.state:
        raise TypeError(f'{cls.__name__}.state must be a tuple of names such as ("h",), not {cls.state!r}')
    missing = [name for name in ("x", *cls.state, *cls.constant) if name not in names]
    if missing:
        raise TypeError(
            f"{cls.__name__}.step takes ({', '.join(names)}), but the cell also has {', '.join(missing)}: "
            f"write def step(self, x, {', '.join(cls.state)})"
        )
    return names


class Step(Protocol):
    """What the loop needs of a cell: its names, and the step itself."""

    @property
    def state(self) -> tuple[str, ...]: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...
    def step(self, *arguments: Any) -> Tensor | tuple[Tensor, ...]: ...


def unroll(
    cell: Step,
    streams: Mapping[str, Tensor],
    state: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    lengths: Tensor | None = None,
    record: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:
    """The loop over `step`. It is the specification: every faster way to run a cell must give its numbers.

    `streams`: [T, B, ...] each; `state`: [B, width] each; `lengths`: [B] or none. Returns the output [T, B, width of
    the first state], the last states, and with `record` every named value of the step, [T, B, ...] (a value that has no
    row for each sequence is repeated for each). A row that is past its length keeps its states, and its outputs and
    values are zero.
    """
    steps, batch = streams["x"].shape[:2]
    present = tuple(state)
    history: list[dict[str, Tensor]] = []
    for t in range(steps):
        given = {name: stream[t] for name, stream in streams.items()}
        given |= dict(zip(cell.state, present, strict=True)) | dict(constants)
        new, named = _step(cell, tuple(given[name] for name in cell.arguments), present, record)
        named = {"output": new[0]} | {f"value {name}": _rows(value, batch) for name, value in named.items()}
        if lengths is not None:
            active = t < lengths
            new = tuple(_where(active, value, old) for value, old in zip(new, present, strict=True))
            named = {name: _where(active, value, torch.zeros_like(value)) for name, value in named.items()}
        history.append(named)
        present = new
    if not history:
        return streams["x"].new_zeros(0, batch, present[0].shape[1]), present, {}
    over_time = {name: torch.stack([named[name] for named in history]) for name in history[0]}
    output = over_time.pop("output")
    return output, present, {name.removeprefix("value "): value for name, value in over_time.items()}


def _rows(value: Tensor, batch: int) -> Tensor:
    return value if value.dim() > 1 and value.shape[0] == batch else value.expand(batch, *value.shape)


def _where(active: Tensor, value: Tensor, other: Tensor) -> Tensor:
    return torch.where(active.reshape(-1, *[1] * (value.dim() - 1)), value, other)


def _step(
    cell: Step, arguments: tuple[Tensor, ...], old: tuple[Tensor, ...], record: bool
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    named: dict[str, Tensor] = {}
    if record:
        with _watched(cell, arguments, named):
            result = cell.step(*arguments)
    else:
        result = cell.step(*arguments)
    new = (result,) if isinstance(result, Tensor) else tuple(result)
    shapes, wanted = [tuple(value.shape) for value in new], [tuple(value.shape) for value in old]
    if shapes != wanted:
        raise ValueError(
            f"{cell!r}: step must return the states ({', '.join(cell.state)}) of shapes {wanted}, but it returned {shapes}"
        )
    # A new state that `step` returns without having named it still has the state's name.
    return new, named | dict(zip(cell.state, new, strict=True)) if record else named


@contextmanager
def _watched(cell: Step, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> Iterator[None]:
    """Inside, fills `named` with the tensors that `step` has in its local variables when it returns."""
    codes, known = set(_step_codes(cell)), {id(value) for value in arguments}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code in codes:
            tensors = {name: value for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
            given = (nn.Parameter, nn.Buffer)
            named.update({n: v for n, v in tensors.items() if id(v) not in known and not isinstance(v, given)})

    previous = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(previous)


def _step_codes(cell: Any) -> Iterator[CodeType]:
    """The code of `step`, and of the steps that it may call: those of its base classes and of cells within it."""
    cells = [module for module in cell.modules() if isinstance(module, Cell)]
    for cls in {cls for module in cells for cls in type(module).__mro__}:
        function = inspect.unwrap(vars(cls).get("step", None) or (lambda: None))
        if hasattr(function, "__code__"):
            yield function.__code__
