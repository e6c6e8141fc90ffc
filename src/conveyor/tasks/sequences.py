"""User-supplied sequences as a task: standardised, split into three parts, with a chance level from the data."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from conveyor.errors import BadInput
from conveyor.tasks.task import PARTS, Batch, ClassificationTask, RegressionTask, StoredTask, Task, at, before

NAMES = ("learn", *PARTS)
MOST = 1_000  # classes; with more, the targets are probably real numbers


@dataclass(frozen=True)
class Sequences:
    """Named sequences, [T, features] each, and their targets.

    A target is a label or a vector [K] for the whole sequence; with `every`, one for each step, [T] or [T, K].
    """

    source: str  # the file, for messages
    names: Sequence[str]
    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    every: bool
    columns: tuple[int, ...] = ()  # for forecasts: the input columns that are predicted one step ahead

    @classmethod
    def ahead(
        cls, source: str, names: Sequence[str], steps: Sequence[np.ndarray], columns: tuple[int, ...]
    ) -> Sequences:
        """Sequences whose targets are some input columns one step ahead. Raises BadInput for one with a single step."""
        for name, one in zip(names, steps, strict=True):
            if len(one) < 2:
                raise BadInput(f"{source}: sequence {name} has only one step, so there is no next step to predict")
        inputs, targets = [one[:-1] for one in steps], [one[1:, list(columns)] for one in steps]
        return cls(source, names, inputs, targets, True, columns)


def of_arrays(source: str, arrays: Mapping[str, np.ndarray], kind: str, every: bool) -> Sequences:
    """From `inputs` [N, T, features], `targets` and `lengths` [N], already checked by `table.check_arrays`."""
    lengths = arrays["lengths"].tolist()
    names = [str(row) for row in range(len(lengths))]
    inputs = [row[:length].astype(np.float64) for row, length in zip(arrays["inputs"], lengths, strict=True)]
    for name, row in zip(names, inputs, strict=True):
        _check_finite(source, name, "inputs", row)
    if kind == "next":
        return Sequences.ahead(source, names, inputs, tuple(range(inputs[0].shape[1])))
    if "targets" not in arrays:
        raise BadInput(f"{source} has no array targets")
    values = _targets(source, arrays["inputs"].shape[1], arrays["targets"], kind == "classes", every)
    targets = [row[:length] if every else row for row, length in zip(values, lengths, strict=True)]
    for name, row in zip(names, targets, strict=True):
        if kind == "numbers":
            _check_finite(source, name, "targets", row)
    return Sequences(source, names, inputs, targets, every)


def _targets(source: str, steps: int, targets: np.ndarray, classes: bool, every: bool) -> np.ndarray:
    """Checks the targets: labels [N] or [N, T], or numbers [N, K] or [N, T, K]."""
    least = 2 if every else 1
    fits = targets.ndim == least or (targets.ndim == least + 1 and not classes)
    if not fits or (every and targets.shape[1] != steps):
        wanted = "[sequences, steps]" if every else "[sequences]"
        more = "" if classes else ", or with one more dimension for several numbers"
        raise BadInput(f"{source}: targets must be {wanted}{more}, not {list(targets.shape)}")
    if classes:
        if targets.dtype.kind not in "iubUS":
            raise BadInput(f"{source}: targets are {targets.dtype}, but classes must be whole numbers or strings")
        return targets
    if targets.dtype.kind not in "fiub":
        raise BadInput(f"{source}: targets are {targets.dtype}, not numbers")
    return (targets if targets.ndim > least else targets[..., None]).astype(np.float64)


def _check_finite(source: str, name: str, what: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise BadInput(f"{source}: sequence {name} has a number that is not finite in its {what}")


def split(found: Sequences, validation: float, test: float, seed: int, in_time: bool) -> list[str]:
    """The part of each sequence: by a hash of its name or, with `in_time`, in temporal order.

    `validation` and `test` are fractions. Raises BadInput if no sequence is left for training.
    """
    count = len(found.names)
    held_out = [max(1, round(count * part)) for part in (validation, test)]
    learn = count - sum(held_out)
    if learn < 1:
        raise BadInput(f"{found.source} has {count} sequences, too few for training, validation and test parts")
    order = list(range(count))
    if not in_time:
        order.sort(key=lambda row: hashlib.sha256(f"{seed} {found.names[row]}".encode()).digest())
    parts = [name for name, many in zip(NAMES, (learn, *held_out), strict=True) for _ in range(many)]
    return [part for _, part in sorted(zip(order, parts, strict=True))]


def kept(found: Sequences, parts: Sequence[str], classes: bool) -> Task:
    """The task over these sequences, with their parts.

    Inputs and numeric targets are scaled to mean 0 and standard deviation 1 over the training part. Raises BadInput for
    an empty part, and for targets that are all equal.
    """
    for name in NAMES:
        if name not in parts:
            raise BadInput(f"{found.source}: no sequence is in the part {name}")
    learnt = [row for row, part in enumerate(parts) if part == "learn"]
    mean, deviation = _scale([found.inputs[row] for row in learnt])
    inputs = [(one - mean) / deviation for one in found.inputs]

    def batches(targets: Sequence[np.ndarray]) -> dict[str, Batch]:
        rows = {name: [row for row, part in enumerate(parts) if part == name] for name in NAMES}
        return {
            name: batch([inputs[row] for row in some], [targets[row] for row in some], found.every)
            for name, some in rows.items()
        }

    if classes:
        labels = np.array(labels_of(found))
        return FileClassification(
            batches([labels.searchsorted(one.astype(str)) for one in found.targets]), tuple(labels)
        )
    if found.columns:  # same scale as the inputs, so that an unchanged value is equal in both
        mean, deviation = mean[list(found.columns)], deviation[list(found.columns)]
    else:
        mean, deviation = _scale([np.atleast_2d(found.targets[row]) for row in learnt])
    made = batches([(one - mean) / deviation for one in found.targets])
    if not made["learn"].targets.any():
        raise BadInput(f"{found.source}: the target is constant, so there is nothing to learn")
    return FileRegression(made, torch.from_numpy(deviation).float(), found.columns)


def labels_of(found: Sequences) -> tuple[str, ...]:
    """The class labels, sorted. Raises BadInput if there is only one, or more than MOST."""
    labels = sorted({str(label) for one in found.targets for label in np.atleast_1d(one)})
    if len(labels) == 1:
        raise BadInput(f"{found.source}: every target is {labels[0]}; at least two classes are needed")
    if len(labels) > MOST:
        many = f"{len(labels)} different targets, such as {labels[0]} and {labels[1]}"
        raise BadInput(f'{found.source} has {many}: if they are not classes, write kind = "numbers"')
    return tuple(labels)


def _scale(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over all steps; 1 for the deviation of a constant column."""
    together = np.concatenate(values)
    same = (together == together[0]).all(0)
    return np.where(same, together[0], together.mean(0)), np.where(same, 1.0, together.std(0))


def batch(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], every: bool) -> Batch:
    """A batch from arrays; integer targets are classes, others are real numbers."""
    lengths = torch.tensor([len(one) for one in inputs])
    wanted = [torch.from_numpy(np.asarray(one)) for one in targets]
    wanted = [one if one.dtype == torch.long else one.float() for one in wanted]
    mask = before(lengths) if every else at(lengths - 1, lengths)
    together = pad_sequence(wanted) if every else torch.stack(wanted).expand(len(mask), *[-1] * (wanted[0].dim() + 1))
    counted = mask if together.dim() == 2 else mask[..., None]
    return Batch(pad_sequence([torch.from_numpy(one).float() for one in inputs]), together * counted, mask, lengths)


class UserClassification(ClassificationTask):
    """Base class of user-supplied classification tasks: the metric is the error rate."""

    metric: ClassVar[str] = "error rate"

    @abstractmethod
    def sample(self, part: str) -> Batch:
        """Sequences of "learn" or "test", from which the chance level is computed."""

    @property
    def chance(self) -> float:
        """The metric of always predicting the most frequent class."""
        learn, test = self.sample("learn"), self.sample("test")
        most = torch.bincount(learn.targets[learn.mask]).argmax()
        return float((test.targets[test.mask] != most).float().mean())

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float((outputs.argmax(-1) != batch.targets)[batch.mask].float().mean())


class UserRegression(RegressionTask):
    """Base class of user-supplied regression tasks: the metric is the RMSE in the unit of the data."""

    tolerance: ClassVar[float] = 0.1
    metric: ClassVar[str] = "root mean squared error"
    optimum: ClassVar[float] = math.nan  # unknown, since the data may be noisy

    @property
    @abstractmethod
    def unit(self) -> Tensor:
        """The size of one unit of the standardised targets in the unit of the data, [K]."""

    @abstractmethod
    def sample(self, part: str) -> Batch:
        """Sequences of "learn" or "test", from which the chance level is computed."""

    @property
    def chance(self) -> float:
        """The metric of always predicting the mean."""
        learn, test = self.sample("learn"), self.sample("test")
        return self.measure(learn.targets[learn.mask].mean(0).expand_as(test.targets), test)

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        return float((((outputs - batch.targets) * self.unit)[batch.mask] ** 2).mean().sqrt())


@dataclass(frozen=True, eq=False)
class _Own(StoredTask):
    """Sequences read from a file."""

    batches: Mapping[str, Batch]

    @property
    def parts(self) -> Mapping[str, Batch]:
        return self.batches

    def sample(self, part: str) -> Batch:
        return self.batches[part]

    @property
    def input_size(self) -> int:
        return self.batches["learn"].inputs.shape[-1]


@dataclass(frozen=True, eq=False)
class FileClassification(_Own, UserClassification):
    """Classification of sequences from a file. Chance is always predicting the most frequent class."""

    labels: tuple[str, ...]

    @property
    def output_size(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class FileRegression(_Own, UserRegression):
    """Regression on sequences from a file. Chance is always predicting the mean.

    If `columns` of the inputs are predicted one step ahead, chance is predicting no change.
    """

    deviation: Tensor
    columns: tuple[int, ...]

    @property
    def unit(self) -> Tensor:
        return self.deviation

    @property
    def output_size(self) -> int:
        return len(self.deviation)

    @property
    def chance(self) -> float:
        test = self.sample("test")
        return self.measure(test.inputs[..., list(self.columns)], test) if self.columns else super().chance
