"""A network out of a file of weights, and series out of a table: what `conveyor explain --weights --data` shows."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from conveyor.errors import BadInput, suggest, warn
from conveyor.explain.page.sequences import Series
from conveyor.layer import Recurrent
from conveyor.tasks.table import Table, read_table
from conveyor.zoo.find import find

TORCH: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN, "rnn-relu": nn.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1, "rnn-relu": 1}
MARK = "weight_hh_l0"  # the end of a name that only a layer of torch.nn has
FOREIGN = (pickle.UnpicklingError, safetensors.SafetensorError)
OURS = "cells.0."  # what the names of a Recurrent's weights begin with


class Saved(nn.Module):
    """A layer and the maps around it, with the weights of a file."""

    def __init__(self, rnn: nn.Module, first: nn.Module, head: nn.Module):
        super().__init__()
        self.first, self.rnn, self.head = first, rnn, head


def weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: .safetensors, or a state_dict saved by torch.save. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"cannot read {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, *FOREIGN) as error:
        cure = "save the weights alone, torch.save(model.state_dict(), file)"
        raise BadInput(f"{path} holds no weights: {str(error).splitlines()[0]}; {cure}") from None
    tensors = _tensors(found)
    if not tensors:
        raise BadInput(f"{path} holds no weights by name, but a {type(found).__name__}: save model.state_dict()")
    return tensors


def _tensors(found: Any) -> dict[str, Tensor]:
    """Those of a state_dict, or of the one in a checkpoint."""
    if not isinstance(found, Mapping):
        return {}
    own = {str(name): value for name, value in found.items() if isinstance(value, Tensor) and value.dim()}
    inner = [_tensors(value) for value in found.values() if isinstance(value, Mapping)]
    return own or next((one for one in inner if any(name.endswith(MARK) or OURS in name for name in one)), {})


def network(path: Path, cell: str, channels: int, count: int, layer: str = "", head: str = "") -> Saved:
    """The network of a file: its recurrent layer of this cell, and the linear maps to and from it.

    `channels`: of the series; `count`: of the outputs, 0 if it is not known; `layer`, `head`: what their names begin
    with. Raises BadInput if there is no such layer, or several.
    """
    tensors = weights(path)
    prefix, rnn = _layer(path, tensors, cell, layer)
    used = {name for name in tensors if name.startswith(prefix)}
    width = rnn.output_size if isinstance(rnn, Recurrent) else int(getattr(rnn, "proj_size", 0) or rnn.hidden_size)
    rest = {name: tensor for name, tensor in tensors.items() if name not in used}
    after = _linear(path, rest, head, width, count, "--head")
    outside = {name: tensor for name, tensor in rest.items() if not name.startswith(f"{after}.")}
    reads = int(rnn.input_size)
    before = _linear(path, outside, "", channels, reads, "") if channels != reads else ""
    left = [name for name in outside if not (before and name.startswith(f"{before}."))]
    if left:
        warn(f"{path}: the page leaves out {', '.join(left[:6])}, which are neither the layer nor a map beside it")
    return Saved(rnn, _map(rest, before), _map(rest, after))


def _layer(path: Path, tensors: Mapping[str, Tensor], cell: str, layer: str) -> tuple[str, Any]:
    ends = [MARK, OURS]
    found = sorted({name[: name.index(end)] for name in tensors for end in ends if end in name})
    known = [one for one in found if not layer or one in (layer, f"{layer}.")]
    if len(known) != 1:
        names = ", ".join(one.rstrip(".") or "the file itself" for one in found)
        cure = (
            f"name one, --layer {(found or [''])[-1].rstrip('.')}" if len(found) > 1 else f"there is {names or 'none'}"
        )
        raise BadInput(f"{path} must have one recurrent layer: {cure}; its tensors are {_listed(tensors)}")
    prefix = known[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return prefix, _torch_layer(path, own, cell) if MARK in own else _any_layer(path, own, cell)


def _torch_layer(path: Path, own: dict[str, Tensor], cell: str) -> nn.RNNBase:
    gates = own[MARK].shape[0]
    if any(name.endswith("_reverse") for name in own):
        raise BadInput(f"{path}: its layer is bidirectional, which has no single step to show")
    if cell not in TORCH:
        raise BadInput(f"{path} has a layer of torch.nn, whose cells are {', '.join(TORCH)}, not {cell}")
    projected = "weight_hr_l0" in own
    hidden = own["weight_hr_l0"].shape[1] if projected else own[MARK].shape[1]
    if gates != GATES[cell] * hidden:
        fits = [name for name, count in GATES.items() if count * hidden == gates]
        raise BadInput(f"{path}: {MARK} has {gates} rows for {hidden} units, as a {' or '.join(fits) or 'no cell'} has")
    options: dict[str, Any] = {"proj_size": own["weight_hr_l0"].shape[0]} if projected else {}
    options |= {"nonlinearity": "relu"} if cell == "rnn-relu" else {}
    layers = sum(name.startswith("weight_hh_l") for name in own)
    kind: Any = TORCH[cell]
    made: nn.RNNBase = kind(own["weight_ih_l0"].shape[1], hidden, layers, bias="bias_ih_l0" in own, **options)
    _load(path, made, own)
    return made


def _any_layer(path: Path, own: dict[str, Tensor], cell: str) -> Recurrent:
    """A layer of any cell: the sizes are those at which all its weights have the shapes of the file's."""
    kind, shapes = find(cell), {name: tensor.shape for name, tensor in own.items()}
    layers = 1 + max(int(name.split(".")[1]) for name in own if name.startswith("cells."))
    sizes = sorted({size for name, shape in shapes.items() if name.startswith(OURS) for size in shape})
    for width, hidden, learnt in product(sizes, sizes, (False, True)):
        for bias in (None, True, False):
            try:
                options: dict[str, Any] = {"bias": bias, "learn_initial_state": learnt}
                with torch.device("meta"):
                    made = Recurrent(kind, width, hidden, layers, **options)
            except (ValueError, TypeError):
                continue
            if {name: tensor.shape for name, tensor in made.state_dict().items()} == shapes:
                layer = Recurrent(kind, width, hidden, layers, **options)
                _load(path, layer, own)
                return layer
    raise BadInput(f"{path}: its tensors are not those of a layer of {cell}: {_listed(own)}; give its --cell")


def _load(path: Path, module: nn.Module, own: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}") from None


def _linear(path: Path, rest: Mapping[str, Tensor], name: str, width: int, count: int, option: str) -> str:
    """The name of the linear map from `width` numbers to `count`, 0 for any; "" if there is none."""
    shapes = {
        key.removesuffix(".weight"): t.shape for key, t in rest.items() if key.endswith(".weight") and t.dim() == 2
    }
    fits = [key for key, shape in shapes.items() if shape[1] == width and (not count or shape[0] == count)]
    if name:
        if name not in fits:
            raise BadInput(
                f"{path} has no map {name} from {width} numbers: {suggest(name, fits) if fits else 'none fits'}"
            )
        return name
    if len(fits) > 1:
        raise BadInput(f"{path} has several maps from {width} numbers: name one, {option} {fits[0]}; {', '.join(fits)}")
    if not fits and not option:
        raise BadInput(f"the series has {width} channels, but the layer reads {count} numbers: name its --inputs")
    return fits[0] if fits else ""


def _map(rest: Mapping[str, Tensor], name: str) -> nn.Module:
    if not name:
        return nn.Identity()
    weight, bias = rest[f"{name}.weight"], rest.get(f"{name}.bias")
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return made


def _listed(tensors: Mapping[str, Tensor]) -> str:
    named = [f"{name} {list(tensor.shape)}" for name, tensor in tensors.items()]
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")


def series(path: Path, inputs: Sequence[str] = (), target: Sequence[str] = (), **options: Any) -> tuple[Series, Table]:
    """The series of a table, a row for each step: these columns, or all of numbers but the target. Raises BadInput."""
    table = read_table(path)
    named = list(inputs) or [name for name in table.columns if name not in target and _is_numeric(table.columns[name])]
    if not named:
        raise BadInput(f"{path} has no column of numbers; it has {', '.join(table.columns)}")
    return Series(table.numbers(named), named, **options), table


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether most cells are numbers: one that is none is then an error of its own, and not a column left out."""
    cells = [cell for cell in column if cell not in (None, "")]
    return bool(cells) and 2 * sum(map(_is_number, cells)) > len(cells)


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def classes(table: Table, column: str) -> tuple[str, ...]:
    """The names of the classes in a column, numbers in their order."""
    cells = {str(cell) for cell in table.column(column)}
    return tuple(sorted(cells, key=lambda cell: (0, float(cell), cell) if _is_number(cell) else (1, 0.0, cell)))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the deviation of each channel; a deviation of 0 counts as 1."""
    deviation = values.std(0)
    return values.mean(0), np.where(deviation > 0, deviation, 1.0)
