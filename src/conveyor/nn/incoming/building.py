"""A layer from its gates' weights: `torch.nn`'s or the zoo's where the equations are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conveyor import zoo
from conveyor.cell import Cell
from conveyor.errors import BadInput
from conveyor.layer import Recurrent, making
from conveyor.nn.incoming import cells
from conveyor.nn.incoming.activations import RELU, SIGMOID, TANH, Activation
from conveyor.nn.layers import GRU, LSTM, RNN

# For each affine map by its name in the cell, its weights by their names: {"forget": {"weight_x": ..., "bias": ...}}.
Gates = dict[str, dict[str, Tensor]]
USUAL = {"lstm": (SIGMOID, TANH, TANH), "gru": (SIGMOID, TANH), "rnn": (TANH,)}


@dataclass(frozen=True)
class Source:
    """What another library's layer is: its kind, and for each direction its gates and their activations.

    The maps are those of our cells: input, forget, candidate and output of an LSTM; update, reset, candidate (of x) and
    recall (of h) of a GRU whose z keeps the state; hidden of a plain network.
    """

    kind: str
    directions: Sequence[Gates]
    activations: Sequence[tuple[Activation, ...]]
    coupled: bool = False  # f = 1 - i
    reset_before: bool = False
    batch_first: bool = False


def build(source: Source, **options: Any) -> Recurrent:
    """The layer; `options` are handed on to it."""
    gates = list(source.directions)
    usual = all(each == USUAL[source.kind] for each in source.activations)
    if usual or (source.kind == "rnn" and set(source.activations) == {(RELU,)}):
        made, further, gates = _usual(source, gates)
    else:
        made, further, gates = _activated(source, gates)
    first = gates[0]
    weight = next(weights["weight_x"] for weights in first.values() if "weight_x" in weights)
    hidden, width = weight.shape
    options |= {"batch_first": source.batch_first, "bidirectional": len(gates) > 1, "dtype": weight.dtype}
    options["bias"] = bias = any("bias" in weights for weights in first.values())
    if issubclass(made, Recurrent):
        layer = made(width, hidden, **further, **options)
    else:
        layer = Recurrent(made, width, hidden, **further, **options)
        for row, activations in enumerate(source.activations):
            if further.get("activations", activations) != activations:  # the directions have different ones
                own = making.cell(made, width, hidden, bias, further | {"activations": activations})
                layer.cells[row] = own.to(weight.dtype)
    for cell, direction in zip(layer.cells, gates, strict=True):
        _fill(cell, direction)
    return layer


def _usual(source: Source, gates: list[Gates]) -> tuple[Any, dict[str, Any], list[Gates]]:
    """A layer of torch.nn's or a cell of the zoo, its options, and the gates as it has them."""
    if source.kind == "rnn":
        return RNN, {"nonlinearity": source.activations[0][0].name.lower()}, gates
    if source.kind == "gru":
        if not source.reset_before:
            return GRU, {}, gates
        return zoo.ResetBeforeGRU, {}, [_one_candidate(each) | {"update": _negated(each["update"])} for each in gates]
    peepholes = _peepholes(gates[0])
    if not source.coupled:
        return (zoo.PeepholeLSTM, {"peepholes": peepholes}, gates) if peepholes else (LSTM, {}, gates)
    if peepholes:
        return zoo.CoupledPeepholeLSTM, {}, [_without(each, "forget") for each in gates]
    # σ(-a) = 1 - σ(a): the forget gate is the one that the zoo's cell has
    return zoo.CoupledLSTM, {}, [_without(each, "input") | {"forget": _negated(each["input"])} for each in gates]


def _activated(source: Source, gates: list[Gates]) -> tuple[type[Cell], dict[str, Any], list[Gates]]:
    """A cell that takes its activations, its options, and the gates as it has them."""
    options: dict[str, Any] = {"activations": source.activations[0]}
    if source.kind == "rnn":
        return cells.ActivatedRNN, options, gates
    if source.kind == "gru" and source.reset_before:
        return cells.ActivatedResetBeforeGRU, options, [_one_candidate(each) for each in gates]
    if source.kind == "gru":
        return cells.ActivatedGRU, options, gates
    options["peepholes"] = _peepholes(gates[0])
    if source.coupled:
        return cells.ActivatedCoupledLSTM, options, [_without(each, "forget") for each in gates]
    return cells.ActivatedLSTM, options, gates


def _peepholes(gates: Gates) -> tuple[str, ...]:
    return tuple(name for name, weights in gates.items() if "weight_C" in weights)


def _without(gates: Gates, name: str) -> Gates:
    return {other: weights for other, weights in gates.items() if other != name}


def _negated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: -value for name, value in weights.items()}


def _one_candidate(gates: Gates) -> Gates:
    """With one map for the candidate in place of two, of x and of h."""
    of_x, of_h = gates["candidate"], gates["recall"]
    both = of_x | of_h
    if "bias" in of_x and "bias" in of_h:
        both["bias"] = of_x["bias"] + of_h["bias"]
    return _without(gates, "recall") | {"candidate": both}


def _fill(cell: Cell, gates: Gates) -> None:
    for name, weights in gates.items():
        affine: Any = getattr(cell, name)
        zero = {} if affine.bias is None else {"bias": torch.zeros_like(affine.bias)}
        for kind, value in (zero | weights).items():
            setattr(affine, kind, value if affine.packs(kind) else nn.Parameter(value.clone()))


def tensor(array: Any, what: str) -> Tensor:
    """An array as a tensor of its own. Raises BadInput unless it is of real numbers."""
    if isinstance(array, Tensor):
        found = array.detach().clone()
    else:
        values = np.asarray(array)
        if values.dtype.name == "bfloat16":  # which NumPy has from elsewhere, and PyTorch does not take
            return torch.from_numpy(values.astype(np.float32)).bfloat16()
        if values.dtype.kind != "f":
            raise BadInput(f"{what} must be an array of real numbers, but its type is {values.dtype}")
        found = torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))
    if not found.is_floating_point():
        raise BadInput(f"{what} must be an array of real numbers, but its type is {found.dtype}")
    return found


def check_shape(value: Tensor, shape: Sequence[int], what: str) -> None:
    """Raises BadInput that names both shapes unless it is this one."""
    if list(value.shape) != list(shape):
        raise BadInput(f"{what} must have shape {list(shape)}, but has {list(value.shape)}")


def check_types(values: Mapping[str, Tensor]) -> None:
    """Raises BadInput unless all have one type."""
    if len({value.dtype for value in values.values()}) > 1:
        found = ", ".join(f"{name} is {value.dtype}" for name, value in values.items())
        raise BadInput(f"the weights must be of one type, but {found}: bring them to one")
