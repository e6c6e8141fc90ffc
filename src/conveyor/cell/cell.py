"""`Cell`: one step of a recurrent network, written as its equations."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any, ClassVar

from torch import Tensor, nn

from conveyor.cell.affine import Affine
from conveyor.cell.packed import Packed

# Names of the layer's own arguments and results.
RESERVED = {"input", "hx", "lengths", "record", "start", "output"}


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

    `state` names the states in the order in which `step` returns them; the first is the output. `step` takes the input
    `x` and the states by these names, each [B, width], and returns the new states. Every other argument of `step` is
    another input stream, [B, ...] at each step, or, if `constant` names it, a value that is constant over the sequence.
    Both are passed to the layer by name. Pass random values as a stream, so that the step is a pure function.

    The argument `t` is the number of the step: a zero-dimensional integer tensor that counts from 0 (or from the
    layer's `start`) in the order in which the steps are computed. Kernels in float32 count up to 2^24; beyond that the
    loop runs. A kernel skips a product in the steps that do not use it, if the condition depends only on `t` and
    numbers and the new value is the second argument: torch.where(t % 4 == 0, h_tilde, h).

    `extra` names further outputs, which `step` returns after the states: [B, ...] of any shape. The layer returns them
    over time as [layers, directions, T, B, ...], by name.

        class Halting(Leaky):
            extra = ("p",)

            def step(self, x, h, t):
                h = super().step(x, h) / (1 + t)
                p = torch.sigmoid(h.sum(-1))                  # [B]
                return h, p

        output, h, values = conveyor.Recurrent(Halting, 32, 128)(x)    # values["p"]: [1, 1, T, B]

    `output_name` names the state or extra output that is the layer's output, and so the x of the layer above; by
    default the first state. Layers can be connected by further values: with `below = {"C_below": "C"}` the stream
    `C_below` of `step` is the value `C` (a state or an extra output) of the layer below at the same step. In the lowest
    layer the stream is a learned map of x, which the layer holds (`layer.ground`).

    The width is `input_size` for `x`, and `hidden_size` for every state and every value that `output_name` or `below`
    names. Pass other widths, and those of other values that an affine map reads, by name:
    `super().__init__(input_size, hidden_size, h=64)`.

    Raises TypeError when the class is defined if `step` does not take `x` and every state by name, or if a name is
    ambiguous or unknown; TypeError and ValueError for sizes that are not positive integers.
    """

    state: ClassVar[tuple[str, ...]] = ("h",)
    constant: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[tuple[str, ...]] = ()
    output_name: ClassVar[str | None] = None
    below: ClassVar[Mapping[str, str]] = {}
    # Both are derived when the class is defined: the arguments of `step` in order, and the values that the loop returns
    # over time besides the first state.
    arguments: ClassVar[tuple[str, ...]] = ()
    over_time: ClassVar[tuple[str, ...]] = ()
    packed: Packed | None = None

    def __init_subclass__(cls, declared: bool = True, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.step is not Cell.step and declared:  # else each instance has names of its own
            cls.arguments = _arguments(cls)
            upward = _upward(cls)
            cls.over_time = (*cls.extra, *(name for name in cls.state if name in upward))

    def __init__(self, input_size: int, hidden_size: int, **widths: int):
        super().__init__()
        self.input_size = input_size = size_of("input_size", input_size)
        self.hidden_size = hidden_size = size_of("hidden_size", hidden_size)
        given = {name: size_of(name, width) for name, width in widths.items()}
        usual = dict.fromkeys((*self.state, *_upward(type(self)), *self.below), hidden_size)
        self.widths = {"x": input_size, **usual, **given}
        for stream, name in self.below.items():
            if self.widths[stream] != self.widths[name]:
                raise ValueError(
                    f"{type(self).__name__}.below: {stream} is the {name} of the layer below, but their widths are "
                    f"{self.widths[stream]} and {self.widths[name]}: make them equal"
                )

    def affine(self, *operands: str, out: int | None = None, bias: bool = True, **blocks: str) -> Affine:
        """A learned map of the named values: `self.affine("h", "x")` is `W · [h, x] + b`, called as `(h, x)`.

        `out` is the width of its result, by default `hidden_size`. The blocks of W are full unless stated by the name
        of the operand: `self.affine("C", "h", "x", C="diagonal")` has a diagonal block for C, and `C="zero"` none. With
        bias=False the map never has a bias, whatever is asked of the layer; a cell that is to have biases only when
        asked takes `bias` in its `__init__` and hands it over, and then the layer hands its own to the cell.
        Raises ValueError for a value whose width is unknown.
        """
        unknown = (set(operands) - set(self.widths)) | (set(blocks) - set(operands))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} does not know the width of {', '.join(sorted(unknown))}; "
                f"it knows {', '.join(self.widths)}: pass other widths to Cell.__init__ by name"
            )
        widths = {name: self.widths[name] for name in operands}
        out = self.hidden_size if out is None else size_of("out", out)
        return Affine(out, widths, blocks, bias, bound=1 / math.sqrt(self.hidden_size))

    def pack(self, packed: Packed) -> None:
        """Lets its affine maps read their weights as blocks of a layer's tensors, and keep none of their own."""
        self.packed = packed
        for path, module in self.named_modules():
            if isinstance(module, Affine):
                module.pack(packed, path)

    def named_parameters(self, *arguments: Any, **keywords: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Its parameters by name. Raises RuntimeError for a cell whose weights are blocks of a layer's tensors."""
        self._check_own("parameters")
        return super().named_parameters(*arguments, **keywords)

    def _save_to_state_dict(self, *arguments: Any) -> None:
        self._check_own("state_dict")
        super()._save_to_state_dict(*arguments)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._check_own("load_state_dict")
        super()._load_from_state_dict(*arguments)

    def _check_own(self, what: str) -> None:
        if self.packed is not None:
            raise RuntimeError(
                f"the weights of this {type(self).__name__} are blocks of its layer's parameters: use the layer's "
                f"{what}, or name a gate, such as cell.{next(iter(self.packed.packing.blocks))}"
            )

    @property
    def returned(self) -> tuple[str, ...]:
        """The names of the values that the layer returns, besides output and states, without being asked to record."""
        return self.extra

    def step(self, *arguments: Any) -> Tensor | tuple[Tensor, ...]:
        """The equations: from the input and the states of t-1 to the states of t."""
        raise TypeError(f"{type(self).__name__} has no equations: define step(self, x, h)")


def _upward(cls: type[Cell]) -> set[str]:
    """The names of the values passed to the layer above or returned by the top layer, besides the first state."""
    return {*cls.below.values(), *([] if cls.output_name is None else [cls.output_name])}


def check_sizes(**sizes: int) -> tuple[int, ...]:
    """The sizes, in order. Raises TypeError unless they are integers, and ValueError unless they are positive."""
    return tuple(size_of(name, value) for name, value in sizes.items())


def size_of(name: str, value: Any) -> int:
    """A size as Python's own number: NumPy's are taken, too, but no truth values."""
    if not is_whole(value):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be greater than zero, not {value}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether it is an integer, Python's or NumPy's, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _arguments(cls: type[Cell]) -> tuple[str, ...]:
    _, *parameters = inspect.signature(cls.step).parameters.values()
    names = tuple(parameter.name for parameter in parameters)
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) or p.default is not p.empty for p in parameters):
        raise TypeError(f"{cls.__name__}.step must name each of its arguments, with no *args, **kwargs or defaults")
    if taken := RESERVED & set(names):
        raise TypeError(
            f"{cls.__name__}.step takes {', '.join(taken)}, which is an argument of the layer: use another name"
        )
    if not isinstance(cls.state, tuple) or not cls.state:
        raise TypeError(f'{cls.__name__}.state must be a tuple of names such as ("h",), not {cls.state!r}')
    for kind, declared in (("constant", cls.constant), ("extra", cls.extra)):
        if not isinstance(declared, tuple):
            raise TypeError(f'{cls.__name__}.{kind} must be a tuple of names such as ("a",), not {declared!r}')
    if "t" in (*cls.state, *cls.constant, *cls.extra):
        raise TypeError(f"{cls.__name__} has a value called t, which is the number of the step: use another name")
    taken = (RESERVED | set(names)) & set(cls.extra)
    if taken or len(set(cls.extra)) < len(cls.extra):
        raise TypeError(
            f"{cls.__name__}.extra is ({', '.join(cls.extra)}), but these names must differ from each other, from the "
            f"arguments of step ({', '.join(names)}) and from those of the layer ({', '.join(sorted(RESERVED))})"
        )
    missing = [name for name in ("x", *cls.state, *cls.constant) if name not in names]
    if missing:
        raise TypeError(
            f"{cls.__name__}.step takes ({', '.join(names)}), but the cell also has {', '.join(missing)}: "
            f"write def step(self, x, {', '.join(cls.state)})"
        )
    _check_upward(cls, names)
    return names


def _check_upward(cls: type[Cell], names: tuple[str, ...]) -> None:
    if not isinstance(cls.below, Mapping):
        raise TypeError(f'{cls.__name__}.below must be a dict of names such as {{"C_below": "C"}}, not {cls.below!r}')
    values, streams = (*cls.state, *cls.extra), set(names) - {"x", "t", *cls.state, *cls.constant}
    for name in sorted(_upward(cls), key=str):
        if name not in values:
            what = "output_name" if name == cls.output_name else "below"
            raise TypeError(
                f"{cls.__name__}.{what} names {name!r}, but the cell's states and extra outputs are {', '.join(values)}"
            )
    for stream in cls.below:
        if stream not in streams:
            found = ", ".join(sorted(streams)) or "none"
            raise TypeError(f"{cls.__name__}.below names {stream!r}, but the streams that step takes are {found}")
