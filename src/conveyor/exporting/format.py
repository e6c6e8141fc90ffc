"""What a format of exports is: it writes the files of an export, and runs what it wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from conveyor.exporting.exported import Exported

BOUND = 1e-5  # how far float32 may be from PyTorch over the recorded steps, relative to the largest value or 1


@dataclass(frozen=True)
class Written:
    """What is to be known of the files that were written.

    `bound`: the largest error that is not wrong; larger for weights in less than float32. `facts`: for export.json.
    """

    bound: float = BOUND
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What files gave: `outputs` [T, ...] and the last `states` [width] by name, and the `seconds` of a step."""

    outputs: Mapping[str, Tensor]
    states: Mapping[str, Tensor]
    seconds: float


class Format(ABC):
    """A format. Its module is imported without the packages and programs that it needs; they are asked for in use.

    `operations`: those of `conveyor.compiler.ops` that it can write. The keyword arguments of `write` after the folder
    are its options.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[str]]

    @abstractmethod
    def write(self, exported: Exported, folder: Path) -> Written:
        """Writes files into the folder, which is empty. Raises BadInput for what it cannot write."""

    @abstractmethod
    def obstacle(self, exported: Exported, folder: Path) -> str | None:
        """Why what was written cannot be run on this machine; None if it can."""

    @abstractmethod
    def run(
        self,
        exported: Exported,
        folder: Path,
        written: Written,
        inputs: Mapping[str, Tensor],
        cuts: Iterable[Sequence[int]],
    ) -> Iterator[Ran]:
        """Runs what was written, once for each of the cuts: from the first state, in chunks of these lengths, each from
        the state of the last.

        `written`: what `write` gave; `inputs`: as in `Recorded`. It leaves no files in the folder.
        """
