"""Weights of a cell that are blocks of larger tensors, as `torch.nn` has all gates in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor


class Block(NamedTuple):
    """One of the equal blocks of rows of a tensor, or the sum of the same blocks of several."""

    sources: tuple[str, ...]
    number: int


@dataclass(frozen=True, eq=False)
class Packing:
    """How the weights of a cell lie in larger tensors, its sources.

        Packing({"weight_ih": 4, ...}, {"forget.weight_x": Block(("weight_ih",), 1), ...})

    `counts`: the number of blocks of each source; `blocks`: for each weight, by its path in the cell, where it lies.
    """

    counts: Mapping[str, int]
    blocks: Mapping[str, Block]
    _groups: dict[tuple[str, ...], list[tuple[str, int]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name, (sources, number) in self.blocks.items():
            self._groups.setdefault(sources, []).append((name, number))

    def split(self, sources: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights. Each tensor is split once, so that its gradient is put together once."""
        found = {}
        for names, members in self._groups.items():
            whole = sources[names[0]]
            for name in names[1:]:
                whole = whole + sources[name]
            parts = whole.chunk(self.counts[names[0]])  # also of one block: another tensor, though two sources be one
            for name, number in members:
                found[name] = parts[number]
        return found

    @lru_cache(maxsize=64)  # noqa: B019 - there are few, and they live as long as the program
    def members(self, source: str) -> tuple[str, ...]:
        """The weights whose blocks a source holds, in the order of its blocks."""
        found = {number: name for name, (sources, number) in self.blocks.items() if source in sources}
        return tuple(found[number] for number in range(self.counts[source]))

    def is_first(self, source: str) -> bool:
        """Whether no weight is the sum of blocks of another source, named before it, and of this one."""
        return all(sources[0] == source for sources in self._groups if source in sources)
