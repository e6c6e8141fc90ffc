"""Checkpoints of conveyor 0.1, whose layers held every gate's weights apart, for the layers of `torch.nn`'s names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conveyor.errors import warn
from conveyor.packing import Packing

if TYPE_CHECKING:
    from conveyor.nn.layers import TorchLayer

_told: list[bool] = []  # once


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
        warn(
            "the checkpoint holds every gate apart, as conveyor 0.1 and conveyor.Recurrent do: it is loaded, and saved "
            "again it has the names of torch.nn"
        )
    wrong: list[str] = []
    used: set[str] = set()
    for row in range(len(layer.cells)):
        for kind, (name, shape) in layer._tensors(row).items():
            found = _blocks(layer._packing, kind, state, f"{prefix}cells.{row}.")
            wanted = [shape[0] // layer._packing.counts[kind], *shape[1:]]
            wrong += [
                f"size mismatch for {key}: {list(value.shape)} in the checkpoint, {wanted} in the layer"
                for key, value in found.items()
                if list(value.shape) != wanted
            ]
            if len(found) == layer._packing.counts[kind] and not wrong:
                state[f"{prefix}{name}"] = torch.cat(list(found.values()))
                used |= found.keys()
    for key in used:  # others are left, for load_state_dict to report
        del state[key]
    return wrong


def _blocks(packing: Packing, kind: str, state: dict[str, Any], at: str) -> dict[str, Tensor]:
    """The blocks of a parameter of torch.nn that there are, in order, by their names."""
    found = {}
    for path in packing.members(kind):
        value = state.get(f"{at}{path}")
        if value is not None:
            first = packing.blocks[path].sources[0] == kind
            found[f"{at}{path}"] = value if first else torch.zeros_like(value)
    return found


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
