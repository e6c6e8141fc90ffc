"""A task whose sequences are drawn by a user-supplied Python function."""

from __future__ import annotations

import functools
import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest
from conveyor.tasks.sequences import UserClassification, UserRegression, batch, of_arrays
from conveyor.tasks.table import check_arrays
from conveyor.tasks.task import Batch, Task, check

PROBE = 1_000  # sequences from which the sizes and the chance level are computed
Draw = Callable[[int, torch.Generator], Any]


def load(path: Path, name: str, classes: bool, every: bool) -> Task:
    """The task whose sequences are drawn by the function `name` of a Python file. Raises BadInput if it fails.

    `classes`: classification, otherwise regression. `every`: one target for each step, otherwise one for each sequence.
    """
    if not path.is_file():
        raise BadInput(f"cannot read {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"conveyor_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # user code can fail in any way
        raise BadInput(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    functions = {key: value for key, value in vars(module).items() if callable(value)}
    if name not in functions:
        raise BadInput(f"{path} has no function {name}: {suggest(name, functions) if functions else 'it defines none'}")
    task = (FunctionClassification if classes else FunctionRegression)(path, name, functions[name], every)
    first, again = (task.draw(8, torch.Generator().manual_seed(0)) for _ in range(2))
    if not (torch.equal(first.inputs, again.inputs) and torch.equal(first.targets, again.targets)):
        raise BadInput(
            f"{task.source} draws different sequences for equal seeds: take all randomness from the generator"
        )
    task.output_size  # noqa: B018 - raises BadInput for impossible classes
    return task


@dataclass(frozen=True, eq=False)
class _Drawn(Task):
    """Sequences drawn by a function."""

    path: Path
    name: str
    function: Draw
    every: bool

    @property
    def source(self) -> str:
        """File and function, for messages."""
        return f"{self.path}:{self.name}"

    @property
    def input_size(self) -> int:
        return self.probe.inputs.shape[-1]

    @functools.cached_property
    def probe(self) -> Batch:
        """The first PROBE sequences."""
        return self.draw(PROBE, torch.Generator().manual_seed(2**40 - 1))

    def sample(self, part: str) -> Batch:
        return self.probe if part == "learn" else self.held_out(part, PROBE)

    def called(self, rows: int, generator: torch.Generator) -> dict[str, np.ndarray]:
        """The arrays that the function returns, checked. Raises BadInput."""
        check("rows", rows, 1)
        try:
            found = self.function(rows, generator)
        except Exception as error:  # user code can fail in any way
            frames = traceback.extract_tb(error.__traceback__)
            line = [frame.lineno for frame in frames if Path(frame.filename).name == self.path.name]
            where = f" (line {line[-1]})" if line else ""
            raise BadInput(f"{self.source} raised {type(error).__name__}: {error}{where}") from error
        if not isinstance(found, tuple) or len(found) not in (2, 3):
            raise BadInput(
                f"{self.source} must return a tuple of inputs, targets and optionally lengths, "
                f"not {type(found).__name__}"
            )
        names = ("inputs", "targets", "lengths")
        arrays = check_arrays(self.source, {name: _array(one) for name, one in zip(names, found, strict=False)})
        if len(arrays["inputs"]) != rows:
            raise BadInput(f"{self.source} returns {len(arrays['inputs'])} sequences where {rows} were asked for")
        return arrays

    def drawn(self, rows: int, generator: torch.Generator, kind: str) -> Batch:
        """A batch of classes or numbers, before the number of classes is known."""
        found = of_arrays(self.source, self.called(rows, generator), kind, self.every)
        return batch(found.inputs, found.targets, found.every)


@dataclass(frozen=True, eq=False)
class FunctionClassification(_Drawn, UserClassification):
    """Classification of sequences drawn by a function; classes are 0, 1, ..."""

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        found = self.drawn(rows, generator, "classes")
        if found.targets.max() >= self.output_size:
            raise BadInput(
                f"{self.source} returned class {int(found.targets.max())}, but no class above {self.output_size - 1} "
                f"in the first {PROBE:,} sequences, which determine the number of classes"
            )
        return found

    @functools.cached_property
    def probe(self) -> Batch:
        """The first PROBE sequences, from which the number of classes is computed."""
        return self.drawn(PROBE, torch.Generator().manual_seed(2**40 - 1), "classes")

    @functools.cached_property
    def output_size(self) -> int:
        least, most = self.probe.targets.min(), self.probe.targets.max()
        if least < 0 or most < 1:
            raise BadInput(f"{self.source} returns classes {int(least)} to {int(most)}; classes must be 0, 1 and so on")
        return int(most) + 1


@dataclass(frozen=True, eq=False)
class FunctionRegression(_Drawn, UserRegression):
    """Regression on sequences drawn by a function."""

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        return self.drawn(rows, generator, "numbers")

    @property
    def unit(self) -> Tensor:
        return torch.ones(self.output_size)

    @property
    def output_size(self) -> int:
        return self.probe.targets.shape[-1]


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
