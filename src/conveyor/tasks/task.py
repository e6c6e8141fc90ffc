"""What a synthetic task is: sequences drawn by chance, a loss, and when a sequence is right. It knows no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput

PARTS = ("validation", "test")  # what is held out


@dataclass(frozen=True)
class Data:
    """What a task is read from, for its card."""

    source: str  # the package with its version, and the file
    licence: str
    checksum: str = ""  # SHA-256, checked when it is read; none for what may differ from machine to machine
    counts: tuple[int, int, int] | None = None  # sequences to learn from, validate and test, of the length by default


@dataclass(frozen=True)
class Batch:
    """Sequences side by side: what goes in, what should come out, and where that is judged.

    Past a row's length all is padding: zeros that are not judged.
    """

    inputs: Tensor  # [T, B, input_size]
    targets: Tensor  # [T, B] of class numbers, or [T, B, output_size] of numbers or of 0 and 1
    judged: Tensor  # [T, B], True at the steps whose output is judged
    lengths: Tensor  # [B]

    def rows(self, which: Tensor) -> Batch:
        """Some of the rows, by their numbers, [N]."""
        lengths = self.lengths[which]
        steps = int(lengths.max())
        return Batch(self.inputs[:steps, which], self.targets[:steps, which], self.judged[:steps, which], lengths)


class Task(ABC):
    """Sequences of a paper's task, drawn by chance, and the judgement of what a network puts out for them.

        task = Adding(steps=100)
        batch = task.draw(32, torch.Generator().manual_seed(0))
        outputs = model(batch.inputs, batch.lengths)        # [T, B, task.output_size], whatever the model is
        loss, right = task.loss(outputs, batch), task.right(outputs, batch)      # a number; [B] of bool

    Equal seeds give equal sequences. A task's sizes are checked when it is made: BadInput says what is wrong.

    `measure` is what a comparison tells of a network: the part of the sequences that are wrong, or what else `metric`
    says; the smaller the better, `optimum` at best, `chance` for who has learnt all but what takes memory.
    """

    metric: ClassVar[str] = "sequences wrong"
    optimum: ClassVar[float] = 0.0
    data: ClassVar[Data | None] = None  # what it is read from; None for what is drawn by chance alone

    @property
    @abstractmethod
    def input_size(self) -> int:
        """The width of the inputs."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """The width of what the network puts out."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """What the metric is for who has learnt all but what takes memory."""

    @abstractmethod
    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        """So many sequences, side by side."""

    def held_out(self, part: str, rows: int) -> Batch:
        """Sequences of "validation" or "test", always the same: at most so many rows. Raises BadInput for another part.

        What is drawn by chance has sequences of its own for each part, which nobody learns from but by chance.
        """
        return self.draw(rows, torch.Generator().manual_seed(2**40 + PARTS.index(check_part(part))))

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """What training makes smaller: the mean over the judged steps of all rows."""

    @abstractmethod
    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Which rows, [B], are right at every step that is judged."""

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        """The metric."""
        return 1 - float(self.right(outputs, batch).float().mean())

    def rules(self) -> dict[str, float]:
        """What simple rules that learn no weights have on the test part, by name."""
        return {}

    def details(self, outputs: Tensor, batch: Batch) -> dict[str, float]:
        """The metric on kinds of sequences, or of steps, by name; none where all are of one kind."""
        return {}


class Numbers(Task):
    """A task whose targets are numbers: squared error; a row is right if no error reaches `tolerance`."""

    tolerance: ClassVar[float]
    metric: ClassVar[str] = "squared error"

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.loss(outputs, batch))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs[batch.judged], batch.targets[batch.judged])

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        near = ((outputs - batch.targets).abs() < self.tolerance).all(-1)
        return (near | ~batch.judged).all(0)


class Classes(Task):
    """A task whose targets are classes: cross-entropy; a row is right if the largest output is the class's."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[batch.judged], batch.targets[batch.judged])

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        return ((outputs.argmax(-1) == batch.targets) | ~batch.judged).all(0)


class Sets(Task):
    """A task whose targets are sets, as 0 and 1: logistic loss; a row is right if just its sets' outputs are > 0."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs[batch.judged], batch.targets[batch.judged])

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        same = ((outputs > 0) == batch.targets.bool()).all(-1)
        return (same | ~batch.judged).all(0)


class Kept(Task):
    """A task whose sequences are not drawn by chance but kept: those of a part are side by side in `parts`."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Batch]:
        """All sequences of "learn", "validation" and "test"."""

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.parts["learn"].rows(torch.randint(len(self.parts["learn"].lengths), (rows,), generator=generator))

    def held_out(self, part: str, rows: int) -> Batch:
        found = self.parts[check_part(part)]
        count = min(rows, len(found.lengths))
        return found.rows(torch.arange(count) * len(found.lengths) // count)  # spread over all there are


def check_part(part: str) -> str:
    if part not in PARTS:
        raise BadInput(f"the parts that are held out are {' and '.join(PARTS)}, not {part}")
    return part


def check(name: str, value: int, least: int) -> None:
    """Raises BadInput unless it is a whole number, `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"{name} is a whole number, {least} or more, not {value!r}")


def one_hot(strings: Sequence[str], alphabet: str) -> Tensor:
    """Strings as vectors of one 1 a symbol, [T, B, len(alphabet)]; past a string's end they are zero."""
    steps = max(map(len, strings))
    numbers = [
        [alphabet.index(symbol) for symbol in string] + [len(alphabet)] * (steps - len(string)) for string in strings
    ]
    return F.one_hot(torch.tensor(numbers), len(alphabet) + 1)[..., :-1].float().transpose(0, 1)


def before(lengths: Tensor) -> Tensor:
    """[T, B], True at the steps of each row that come before its length."""
    return torch.arange(int(lengths.max()))[:, None] < lengths


def at(steps: Tensor, lengths: Tensor) -> Tensor:
    """[T, B], True at one step of each row."""
    return torch.arange(int(lengths.max()))[:, None] == steps


def between(low: int, high: int, rows: int, generator: torch.Generator) -> Tensor:
    """Whole numbers from `low` to `high`, both included, [B]."""
    return torch.randint(low, high + 1, (rows,), generator=generator)
