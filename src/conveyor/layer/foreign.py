"""`Recurrent.of`: a cell that exists as a module, such as torch.nn.LSTMCell, as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from conveyor.cell.cell import RESERVED, Cell, size_of
from conveyor.cell.loop import location

Layer = TypeVar("Layer", bound=nn.Module)
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def recurrent_of(
    cls: type[Layer],
    cell: nn.Module | Sequence[nn.Module] | Callable[[int, int], nn.Module],
    state: Sequence[str] | None = None,
    *,
    input_size: int | None = None,
    hidden_size: int | None = None,
    output: str | None = None,
    returns: Sequence[str] | None = None,
    widths: Mapping[str, int] | None = None,
    separate: bool | None = None,
    call: str = "forward",
    num_layers: int = 1,
    bidirectional: bool = False,
    tied: bool = False,
    **options: Any,
) -> Layer:
    """A layer of a cell that exists as a module, which computes one step.

        layer = conveyor.Recurrent.of(torch.nn.LSTMCell(32, 128))
        output, (h, C) = layer(x)                            # x: [T, B, 32], output: [T, B, 128]
        layer = conveyor.Recurrent.of(torch.nn.GRUCell, input_size=32, hidden_size=128, num_layers=2)
        layer = conveyor.Recurrent.of(Own(32, 128), ("h",), input_size=32, hidden_size=128)     # h = own(x_t, h)

    `cell`: a module; for several layers or directions a list of modules, in the order of layer * directions +
    direction; or a function of input_size and hidden_size, such as a class, which makes each. The layer holds the
    modules themselves, no copies, and their parameters as `cells.<place>.module.<name>`. `state`: the names of the
    states in the order in which the module takes them; those of torch.nn's are known. `input_size`, `hidden_size`: by
    default the module's attributes of these names. `output`: the name of the layer's output, by default the first
    state; if it is no state, the module returns it before the states. `returns`: the names of all that the module
    returns, if it is in another order or more, ("h", "y"); what is neither state nor output comes third, as
    `Cell.extra`. `widths`: by name, those that are not hidden_size. `separate`: whether several states are arguments
    of their own, (x, h, C), or one tuple, (x, (h, C)); by default the signature tells. They may come back nested in
    any way. `call`: the method that computes the step, if not `forward`. The other `options` are those of
    `conveyor.Recurrent`, but for `bias` and `recurrent_dropout`, which are a matter of the module.

    The layer is in training mode if the first module is. A module that draws random numbers runs by the loop.
    Raises TypeError and ValueError for what is missing or does not fit, with the cure.
    """
    _check_options(cls, options)
    usage = Usage(state, output, returns, widths or {}, separate, call)
    given = _modules(cell, num_layers, bidirectional, tied)
    if isinstance(given, list):
        input_size = _size("input_size", input_size, given[0])
        first = usage.widths.get((*(state or ()), "")[0])
        hidden_size = _size("hidden_size", first if hidden_size is None else hidden_size, given[0])
    elif input_size is None or hidden_size is None:
        raise TypeError("a function that makes modules is given the sizes: pass input_size= and hidden_size=")
    options |= {"num_layers": num_layers, "bidirectional": bidirectional, "tied": tied}
    layer: Any = cls(Adoption(given, usage), input_size, hidden_size, **options)
    _fit(layer, options)
    return layer


@dataclass(frozen=True)
class Usage:
    """How modules are to be called: the arguments of `Recurrent.of` of these names."""

    state: Sequence[str] | None
    output: str | None
    returns: Sequence[str] | None
    widths: Mapping[str, int]
    separate: bool | None
    call: str


@dataclass
class Adoption:
    """In place of a cell's class: gives the layer its cells, one after the other, from modules or what makes them."""

    given: list[nn.Module] | Callable[[int, int], nn.Module]
    usage: Usage
    made: list[Adopted] = field(default_factory=list)

    def __call__(self, input_size: int, hidden_size: int) -> Adopted:
        if isinstance(self.given, list):
            module = self.given[len(self.made)]
        else:
            module = self.given(input_size, hidden_size)
            if not isinstance(module, nn.Module) or isinstance(module, Cell):
                raise TypeError(f"what makes the cells is to make modules of PyTorch, not {module!r}")
        cell = Adopted(module, self.usage, input_size, hidden_size)
        first = self.made[0] if self.made else cell
        if (cell.state, cell.returns) != (first.state, first.returns):
            raise ValueError(
                f"all modules of a layer have the same states, but those of {type(first.module).__name__} are "
                f"({', '.join(first.state)}) and those of {type(module).__name__} ({', '.join(cell.state)})"
            )
        self.made.append(cell)
        return cell


class Adopted(Cell, declared=False):
    """A module as a cell: its names are those of the instance, its step calls the module."""

    def __init__(self, module: nn.Module, usage: Usage, input_size: int, hidden_size: int):
        _check_sizes(module, input_size, hidden_size)
        state = _state(module, usage)
        returns = _returns(state, usage)
        extra = tuple(name for name in returns if name not in state)
        output = None if usage.output == state[0] else usage.output
        unknown = set(usage.widths) - set(returns)
        if unknown:
            raise ValueError(f"widths names {', '.join(sorted(unknown))}, but there are {', '.join(returns)}")
        # Of an instance what is otherwise a class's.
        vars(self).update(state=state, extra=extra, arguments=("x", *state), output_name=output)
        vars(self).update(over_time=(*extra, *(name for name in state if name == output)))
        super().__init__(input_size, hidden_size, **(dict.fromkeys(extra, hidden_size) | dict(usage.widths)))
        self.returns, self.call = returns, usage.call
        self.separate = _takes_separate(module, state, usage)
        self.module = module
        self.training = module.training

    @property
    def returned(self) -> tuple[str, ...]:
        """The values besides states and output, which need not be returned twice."""
        return tuple(name for name in self.extra if name != self.output_name)

    @property
    def _wraps(self) -> tuple[nn.Module, str]:
        return self.module, self.call

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """What the module gives, in the order of a cell: the new states, and what is returned besides."""
        module: Any = self.module if self.call == "forward" else getattr(self.module, self.call)
        result = module(x, *states) if self.separate else module(x, states)
        found = list(_flat(result))
        if len(found) != len(self.returns) or not all(isinstance(value, Tensor) for value in found):
            kinds = ", ".join(type(value).__name__ for value in found)
            raise ValueError(
                f"{location(self)} is to return ({', '.join(self.returns)}), a tensor each, but it returned ({kinds}): "
                'name in Recurrent.of an output before the states by output="y", any other order by returns=(...)'
            )
        named = dict(zip(self.returns, found, strict=True))
        return tuple(named[name] for name in (*self.state, *self.extra))


def _flat(value: Any) -> Iterator[Any]:
    """The values in tuples and lists, however nested."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _check_options(cls: type, options: dict[str, Any]) -> None:
    if next(iter(inspect.signature(cls).parameters)) != "cell":
        raise TypeError(f"{cls.__name__} has a cell of its own: use conveyor.Recurrent.of")
    if "bias" in options:
        raise TypeError("bias is a matter of the module that is given: make it with or without")
    if options.get("recurrent_dropout"):
        raise ValueError(
            "recurrent_dropout acts in the affine maps of a conveyor.Cell, which a module of PyTorch does not have: "
            "leave it out, or write the cell with self.affine"
        )


def _modules(
    cell: Any, num_layers: int, bidirectional: bool, tied: bool
) -> list[nn.Module] | Callable[[int, int], nn.Module]:
    """The modules, or what makes them."""
    places = (1 if tied else size_of("num_layers", num_layers)) * (2 if bidirectional else 1)
    if isinstance(cell, Cell) or (isinstance(cell, type) and issubclass(cell, Cell)):
        name = (cell if isinstance(cell, type) else type(cell)).__name__
        raise TypeError(f"{name} is a conveyor.Cell: write conveyor.Recurrent({name}, input_size, hidden_size)")
    if isinstance(cell, nn.Module) and not isinstance(cell, nn.ModuleList):
        modules = [cell]
    elif isinstance(cell, Sequence | nn.ModuleList):
        modules = list(cell)
    elif callable(cell):
        return cell
    else:
        raise TypeError(f"the cell is a module, a list of modules or what makes them, not {cell!r}")
    for module in modules:
        if not isinstance(module, nn.Module) or isinstance(module, Cell):
            raise TypeError(f"the list of cells must hold modules of PyTorch, not {module!r}")
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError("what torch.jit.script has made cannot be looked into: give the module before that")
    if len(modules) != places:
        raise ValueError(
            f"num_layers={num_layers}, bidirectional={bidirectional} takes {places} modules, but was given "
            f"{len(modules)}: pass a list of {places}, or a function of input_size and hidden_size that makes each"
        )
    return modules


def _size(name: str, given: int | None, module: nn.Module) -> int:
    found = getattr(module, name, None) if given is None else given
    if found is None:
        raise TypeError(f"{type(module).__name__} has no attribute {name}: pass {name}= to Recurrent.of")
    return size_of(name, found)


def _check_sizes(module: nn.Module, input_size: int, hidden_size: int) -> None:
    """What a module says of its own sizes is to be what the layer wants of it at its place."""
    for name, wanted in (("input_size", input_size), ("hidden_size", hidden_size)):
        found = getattr(module, name, wanted)
        if isinstance(found, int) and found != wanted:
            raise ValueError(f"{type(module).__name__} has {name}={found}, but at its place it is to have {wanted}")


def _state(module: nn.Module, usage: Usage) -> tuple[str, ...]:
    """The names of the states."""
    if isinstance(usage.state, str):
        raise TypeError(f"state is a tuple of names, not {usage.state!r}: write state=({usage.state!r},)")
    if usage.state is not None:
        return tuple(usage.state)
    if isinstance(module, nn.RNNCellBase):
        return ("h", "C") if isinstance(module, nn.LSTMCell) else ("h",)
    raise TypeError(
        f"the states of {type(module).__name__} are not known: name them in the order in which it takes them, "
        'state=("h",) or state=("h", "C")'
    )


def _returns(state: tuple[str, ...], usage: Usage) -> tuple[str, ...]:
    """The names of all that a module returns. Raises if they are none, or ambiguous."""
    before = () if usage.output is None or usage.output in state else (usage.output,)
    returns = (*before, *state) if usage.returns is None else tuple(usage.returns)
    bad = [name for name in (*state, *returns) if not isinstance(name, str) or not name.isidentifier()]
    bad += [name for name in (*state, *returns) if name in RESERVED | {"x", "t"}]
    if bad or not state:
        raise ValueError(
            f"states and outputs need names that the layer has no other use for, such as state=('h', 'C'), "
            f"output='y', not {', '.join(map(repr, bad)) or 'none'}"
        )
    twice = len(set(state)) < len(state) or len(set(returns)) < len(returns)
    missing = ({*state, *before}) - set(returns)
    if twice or missing:
        raise ValueError(
            f"the module is to return each of ({', '.join((*before, *state))}) once, but returns is "
            f"({', '.join(returns)})"
        )
    return returns


def _takes_separate(module: nn.Module, state: tuple[str, ...], usage: Usage) -> bool:
    """Whether the module takes each state as an argument, (x, h, C), or all as one tuple, (x, (h, C))."""
    method = getattr(module, usage.call, None)
    name = f"{type(module).__name__}.{usage.call}"
    if not callable(method):
        raise TypeError(f"there is no {name}: pass the name of the method that computes a step, call=")
    if usage.separate is not None:
        return usage.separate
    every = list(inspect.signature(method).parameters.values())
    further = [p for p in every if p.kind in POSITIONAL][1:]
    needed = sum(p.default is p.empty for p in further)
    most = len(state) if any(p.kind == p.VAR_POSITIONAL for p in every) else len(further)
    signature = f"{name}({', '.join(p.name for p in every)})"
    by_keyword = any(p.kind == p.KEYWORD_ONLY and p.default is p.empty for p in every)
    if by_keyword or not needed <= len(state) <= most:
        if by_keyword or len(state) == 1 or not needed <= 1 <= most:
            raise TypeError(
                f"{signature} does not take x and the state ({', '.join(state)}) alone: give a module that does, "
                "or write the cell as a conveyor.Cell, whose step may take further inputs"
            )
        return False
    if needed <= 1 and len(state) > 1 and tuple(p.name for p in further[: len(state)]) != state:
        raise TypeError(
            f"{signature} may take the states ({', '.join(state)}) as arguments of their own or as one tuple: "
            "pass separate=True or separate=False"
        )
    return True


def _fit(layer: Any, options: Mapping[str, Any]) -> None:
    """The layer's own parts as the modules are: a learnt initial state of their type, and the mode."""
    module = layer.cell.module
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    if options.get("learn_initial_state") and weight is not None:
        layer.initial_state.to(device=weight.device, dtype=weight.dtype)
    layer.training = layer.cells.training = module.training
