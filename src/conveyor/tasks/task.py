"""The interface of a task: batches of sequences, a loss and a metric, independent of any model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput

PARTS = ("validation", "test")  # the held-out parts; the training part is called "learn"


@dataclass(frozen=True)
class Data:
    """Where the data of a task comes from, for its card in docs/reference/tasks.md."""

    source: str  # the package with its version, and the file
    licence: str
    checksum: str = ""  # SHA-256, verified on reading; empty if the data may differ between machines
    counts: tuple[int, int, int] | None = None  # sequences for training, validation and test, at the default length


@dataclass(frozen=True)
class Batch:
    """A batch of sequences, time first, padded with zeros.

    `mask` is true at the steps that count in the loss and in the metric; it is false in the padding.
    """

    inputs: Tensor  # [T, B, input_size]
    targets: Tensor  # [T, B] class indices, or [T, B, output_size] of real numbers or of 0 and 1
    mask: Tensor  # [T, B] bool
    lengths: Tensor  # [B] int

    def rows(self, which: Tensor) -> Batch:
        """The sequences with these indices, [N], truncated to the longest of them."""
        lengths = self.lengths[which]
        steps = int(lengths.max())
        return Batch(self.inputs[:steps, which], self.targets[:steps, which], self.mask[:steps, which], lengths)


class Task(ABC):
    """A task: batches of sequences, a loss, and a metric for the outputs of a network.

        task = Adding(steps=100)
        batch = task.draw(32, torch.Generator().manual_seed(0))
        outputs = model(batch.inputs, batch.lengths)        # [T, B, task.output_size], of any model
        loss, correct = task.loss(outputs, batch), task.correct(outputs, batch)      # scalar; [B] of bool

    Equal seeds give equal sequences. The constructor raises BadInput for sizes out of bounds.

    `measure` computes the metric that a comparison reports, by default the fraction of sequences with an error. Lower
    is better. `optimum` is the best possible value, `chance` the value of a model without memory.
    """

    metric: ClassVar[str] = "sequence error rate"
    optimum: ClassVar[float] = 0.0
    data: ClassVar[Data | None] = None  # None for synthetic sequences

    @property
    @abstractmethod
    def input_size(self) -> int:
        """The number of input features."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """The number of outputs that the model must have."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The metric of a model that has learnt everything except what requires memory."""

    @abstractmethod
    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        """A random training batch of `rows` sequences."""

    def held_out(self, part: str, rows: int) -> Batch:
        """At most `rows` sequences of "validation" or "test", the same at each call.

        Synthetic tasks draw them with seeds that training does not use. Raises BadInput for another part.
        """
        return self.draw(rows, torch.Generator().manual_seed(2**40 + PARTS.index(check_part(part))))

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The training loss of outputs [T, B, output_size]: a scalar, the mean over all unmasked steps."""

    @abstractmethod
    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Whether each sequence is correct at all its unmasked steps, [B] of bool."""

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        """The metric of these outputs; lower is better."""
        return 1 - float(self.correct(outputs, batch).float().mean())

    def rules(self) -> dict[str, float]:
        """The metric of simple baselines without weights on the test part, by name."""
        return {}

    def details(self, outputs: Tensor, batch: Batch) -> dict[str, float]:
        """The metric on subsets of sequences or steps, by name; empty if there are no subsets."""
        return {}


class RegressionTask(Task):
    """A regression task: mean squared error; a sequence is correct if every error is below `tolerance`."""

    tolerance: ClassVar[float]
    metric: ClassVar[str] = "squared error"

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float(self.loss(outputs, batch))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs[batch.mask], batch.targets[batch.mask])

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        near = ((outputs - batch.targets).abs() < self.tolerance).all(-1)
        return (near | ~batch.mask).all(0)


class ClassificationTask(Task):
    """A classification task: cross-entropy; a sequence is correct if the target class always has the largest output."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[batch.mask], batch.targets[batch.mask])

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        return ((outputs.argmax(-1) == batch.targets) | ~batch.mask).all(0)


class MultiLabelTask(Task):
    """A multi-label task, with targets 0 and 1: binary cross-entropy.

    A sequence is correct if exactly the outputs with target 1 are positive.
    """

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs[batch.mask], batch.targets[batch.mask])

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        same = ((outputs > 0) == batch.targets.bool()).all(-1)
        return (same | ~batch.mask).all(0)


class StoredTask(Task):
    """A task over a fixed data set. `parts` holds each part as one batch."""

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
        return found.rows(torch.arange(count) * len(found.lengths) // count)  # spread evenly


def check_part(part: str) -> str:
    """Returns the part. Raises BadInput if it is not a held-out part."""
    if part not in PARTS:
        raise BadInput(f"the held-out parts are {' and '.join(PARTS)}, not {part}")
    return part


def check(name: str, value: int, least: int) -> None:
    """Raises BadInput unless `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"{name} must be a whole number, {least} or more, not {value!r}")


def one_hot(strings: Sequence[str], alphabet: str) -> Tensor:
    """Strings as one-hot vectors, [T, B, len(alphabet)], padded with zeros."""
    steps = max(map(len, strings))
    numbers = [
        [alphabet.index(symbol) for symbol in string] + [len(alphabet)] * (steps - len(string)) for string in strings
    ]
    return F.one_hot(torch.tensor(numbers), len(alphabet) + 1)[..., :-1].float().transpose(0, 1)


def before(lengths: Tensor) -> Tensor:
    """The mask of all steps within the lengths, [T, B]."""
    return torch.arange(int(lengths.max()))[:, None] < lengths


def at(steps: Tensor, lengths: Tensor) -> Tensor:
    """The mask of one step of each sequence, [T, B]."""
    return torch.arange(int(lengths.max()))[:, None] == steps


def between(low: int, high: int, rows: int, generator: torch.Generator) -> Tensor:
    """Random integers from `low` to `high`, inclusive, [rows]."""
    return torch.randint(low, high + 1, (rows,), generator=generator)
