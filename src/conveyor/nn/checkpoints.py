"""Checkpoints of conveyor 0.1, whose layers held every gate's weights apart, for the layers of `torch.nn`'s names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conveyor.errors import warn
from conveyor.packing import Packing

if TYPE_CHECKING:
    from conveyor.nn.layers import TorchLayer

_told: list[bool] = []


def to_torch_names(layer: TorchLayer, state: dict[str, Any], prefix: str) -> list[str]:
    """Puts the tensors of a layer of conveyor 0.1 in `state` under torch.nn's names; what cannot be done, as text.

    A gate had one bias, which becomes that of the input; the second one is zero. Says once that it did so.
    """
    old = [key for key in state if key.startswith(f"{prefix}cells.")]
    if not old:
        return _tied(layer, state, prefix) if layer.tied else []
    names = {f"{prefix}{name}" for row in range(layer.state_rows) for name in layer._names(row).values()}
    if new := names & state.keys():
        return [f"it has names of two layouts, {min(new)} and {old[0]}: give the weights under one of them"]
    if not _told:
        _told.append(True)
        warn("the checkpoint has the names of conveyor 0.1, gate by gate; save it again to have torch.nn's")
    blocks = layer._packing.blocks
    for row in range(len(layer.cells)):
        at = f"{prefix}cells.{row}."
        for kind, name in layer._names(row).items():
            if tensor := _joined(layer._packing, kind, state, at):
                state[f"{prefix}{name}"] = tensor[0]
    for key in old:
        if key.removeprefix(f"{prefix}cells.").partition(".")[2] in blocks:
            del state[key]
    return []


def _joined(packing: Packing, kind: str, state: dict[str, Any], at: str) -> list[Tensor]:
    """A parameter of torch.nn, of its blocks in order; none if one is missing."""
    found = {}
    for path, (sources, number) in packing.blocks.items():
        value = state.get(f"{at}{path}")
        if kind in sources and value is not None:
            found[number] = value if kind == sources[0] else torch.zeros_like(value)
    count = packing.counts[kind]
    return [torch.cat([found[number] for number in range(count)])] if len(found) == count else []


def _tied(layer: TorchLayer, state: dict[str, Any], prefix: str) -> list[str]:
    """Tied layers take the weights of layers that have the same: drops those of all but the first."""
    wrong = []
    for row in range(layer.directions, layer.state_rows):
        number, direction = divmod(row, layer.directions)
        for name in layer._names(direction).values():
            key, other = f"{prefix}{name.replace('_l0', f'_l{number}')}", f"{prefix}{name}"
            if key in state and other in state and torch.equal(state[key], state[other]):
                del state[key]
            elif key in state:
                wrong.append(f"tied layers have one set of weights, but {key} differs from {other}")
    return wrong
