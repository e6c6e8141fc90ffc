"""Variational dropout and zoneout: a step that wraps the cell's own step and takes the masks as inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell import Cell
from conveyor.cell.affine import Affine, masked
from conveyor.cell.loop import Scan, check_new
from conveyor.cell.packed import Packed


def check_probability(name: str, value: Any) -> float:
    """The value as a float. Raises ValueError unless it is a number between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must be a probability between 0 and 1, not {value!r}")
    return float(value)


def zoneout_rates(cell: Cell, zoneout: float | Mapping[str, float]) -> dict[str, float]:
    """By name, the nonzero zoneout rates of the states of `cell`, from one rate for all or a rate by name.

    Raises ValueError for unknown states and for rates that are not probabilities.
    """
    rates = dict(zoneout) if isinstance(zoneout, Mapping) else dict.fromkeys(cell.state, zoneout)
    unknown = set(rates) - set(cell.state)
    if unknown:
        raise ValueError(f"zoneout names {', '.join(sorted(unknown))}, but the states are {', '.join(cell.state)}")
    checked = {name: check_probability(f"zoneout of {name}", rate) for name, rate in rates.items()}
    return {name: rate for name, rate in checked.items() if rate > 0}


def readers(cell: Cell) -> list[Affine]:
    """The affine maps that read the cell's first state, including those of nested cells that share this state.

    A nested cell shares it if its first state has the same name and width: the LSTM within a VRNN has the h of the
    VRNN, while each of the two LSTMs of DRAW, whose first state is c, has an h of its own.
    """
    first, width = cell.state[0], cell.widths[cell.state[0]]

    def own(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if not isinstance(child, Cell) or (child.state[0] == first and child.hidden_size == width):
                yield child
                yield from own(child)

    return [module for module in own(cell) if isinstance(module, Affine) and first in module.operands]


def check_recurrent_dropout(cell: Cell, rate: Any) -> float:
    """The rate as a float. Raises ValueError if it is not a probability, or no affine map reads the first state."""
    if check_probability("recurrent_dropout", rate) and not readers(cell):
        raise ValueError(
            f"recurrent_dropout acts where an affine map reads {cell.state[0]}, but {type(cell).__name__} has no such "
            f'map: create one with self.affine("{cell.state[0]}", ...)'
        )
    return float(rate)


def dropout_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """Elements that are 0 with probability `rate`, else 1 / (1 - rate), so that their mean is 1."""
    kept = torch.rand(shape, device=like.device) >= rate  # in float32: half precision would distort small rates
    return kept.to(like.dtype) / (1 - rate) if rate < 1 else torch.zeros_like(kept, dtype=like.dtype)


class Regularised:
    """The step of `cell` with masks as additional arguments, [B, width] each.

    `drop_<first state>`, constant over the sequence, multiplies the first state wherever an affine map of the cell
    reads it (variational dropout, Gal & Ghahramani 2016); the state that is carried over is not masked.
    `zone_<state>`, new at each step, is the fraction of the old state that is kept (zoneout, Krueger et al. 2016):
    sampled as 0 or 1 in training, its mean in evaluation.
    """

    def __init__(self, cell: Cell, recurrent_dropout: float, zoneout: Mapping[str, float]):
        self.cell, self.state, self.extra, self.over_time = cell, cell.state, cell.extra, cell.over_time
        self.dropout = {cell.state[0]: recurrent_dropout} if recurrent_dropout > 0 and cell.training else {}
        self.readers = readers(cell) if self.dropout else []
        self.zoneout = zoneout
        self.masks = (bool(self.dropout), tuple(zoneout))  # the step depends on nothing else
        self.arguments = (*cell.arguments, *(f"drop_{n}" for n in self.dropout), *(f"zone_{n}" for n in zoneout))

    @classmethod
    def like(cls, cell: Cell, dropout: bool, zoneout: tuple[str, ...]) -> Regularised:
        """An instance with the same step as any other with these `masks`."""
        return cls(cell, float(dropout), dict.fromkeys(zoneout, 1.0))

    def scan(self, scan: Scan) -> Scan:
        """The same run of this step: with new zoneout masks, [T, B, width] each, and dropout masks, [B, width]."""
        x, widths = scan.x, self.cell.widths

        def zones(shape: tuple[int, ...], rate: float) -> Tensor:
            if not self.cell.training:
                return torch.full((), rate, device=x.device, dtype=x.dtype).expand(shape)
            return (torch.rand(shape, device=x.device) < rate).to(x.dtype)

        streams = {f"zone_{n}": zones((*x.shape[:2], widths[n]), rate) for n, rate in self.zoneout.items()}
        drops = {f"drop_{n}": dropout_mask((x.shape[1], widths[n]), rate, x) for n, rate in self.dropout.items()}
        return replace(scan, cell=self, streams={**scan.streams, **streams}, constants={**scan.constants, **drops})

    def step(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.arguments, arguments, strict=True))
        masks = {name: given[f"drop_{name}"] for name in self.dropout}
        with masked(dict.fromkeys(self.readers, masks)):
            result = self.cell.step(*(given[name] for name in self.cell.arguments))
        old = tuple(given[name] for name in self.state)
        new = check_new(self.cell, result, old)
        states, extra = new[: len(old)], new[len(old) :]
        zones = (given.get(f"zone_{name}") for name in self.state)
        kept = (n if z is None else z * o + (1 - z) * n for n, o, z in zip(states, old, zones, strict=True))
        return (*kept, *extra)

    @property
    def packed(self) -> Packed | None:
        """That of the cell."""
        return self.cell.packed

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The modules of the cell with their paths."""
        return self.cell.named_modules()
