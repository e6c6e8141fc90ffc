"""One trial of a comparison: a cell trained on a task with one configuration of hyperparameters."""

from __future__ import annotations

import functools
import hashlib
import json
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from conveyor.cell import Cell
from conveyor.compare import problems
from conveyor.compare.gates import open_gates
from conveyor.errors import BadInput
from conveyor.layer import Recurrent
from conveyor.tasks import Batch, Task
from conveyor.tasks.task import PARTS
from conveyor.training.job import TrainingJob
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings, setting
from conveyor.training.train import Diverged
from conveyor.zoo.find import find as find_cell

HELD_OUT = 1_000  # the most sequences for validation, and for testing
ROOM = 32  # how many larger sizes are tried for a cell that does not support every size


class Network(nn.Module):
    """One recurrent layer, dropout, and a linear readout.

    `scale` multiplies the initial weight matrices of the cell; `forget_bias` is added to the initial biases of the
    gates that retain a state.
    """

    def __init__(
        self,
        cell: type[Cell],
        task: Task,
        hidden_size: int,
        dropout: float = 0.0,
        scale: float = 1.0,
        forget_bias: float = 0.0,
    ):
        super().__init__()
        self.layer = Recurrent(cell, task.input_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden_size, task.output_size)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(scale)
        if forget_bias:
            open_gates(self.layer.cell, forget_bias)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The outputs, [T, B, task.output_size], for inputs [T, B, task.input_size] and lengths [B]."""
        output, _ = self.layer(inputs, lengths=lengths)
        return self.readout(self.dropout(output))


def count(module: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def units(cell: type[Cell], hidden_size: int) -> int:
    """The smallest size from `hidden_size` on that the cell supports. Raises BadInput if there is none nearby."""
    for more in range(ROOM):
        try:
            Recurrent(cell, 1, hidden_size + more, device="meta")
        except ValueError:
            continue
        return hidden_size + more
    raise BadInput(f"{cell.__name__} cannot have {hidden_size} to {hidden_size + ROOM - 1} units")


def units_for(cell: type[Cell], task: Task, parameters: int) -> int:
    """The number of units for which the network's number of parameters is closest to `parameters`."""

    @functools.cache
    def of(hidden_size: int) -> int:
        with torch.device("meta"):
            return count(Network(cell, task, units(cell, hidden_size)))

    low, high = 1, 2
    while of(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of(middle) < parameters else (low, middle)
    return units(cell, min(low, high, key=lambda size: abs(of(size) - parameters)))


@dataclass(frozen=True)
class TrialSettings(TrainingSettings):
    """The settings of one trial: cell, task and hyperparameters. Raises BadInput for values out of bounds."""

    task: str = setting("adding", "the task, by name or file")
    cell: str = setting("lstm", "the cell: a name or file.py:ClassName")
    hidden_size: int = setting(32, "units, or the next larger number that the cell supports", low=1)
    parameters: int = setting(
        0, "number of parameters of the network, which then determines the units; 0: not fixed", low=0, high=10**9
    )
    dropout: float = setting(0.0, "dropout on the output", low=0, high=1)
    scale: float = setting(1.0, "factor for the initial weight matrices of the cell", above=0)
    forget_bias: float = setting(0.0, "added to the initial biases of the gates that retain a state")


class Trial(TrainingJob):
    """The training job of one trial: a cell on a task."""

    settings_type: ClassVar[type[TrainingSettings]] = TrialSettings
    command = "conveyor compare"
    unit = "sequence"
    plots = False  # the report has plots
    model: Network

    def __init__(self, settings: TrialSettings):
        self.settings, self.began = settings, time.monotonic()
        self.task, cell = problems.find(settings.task), find_cell(settings.cell)
        hidden_size = (
            units_for(cell, self.task, settings.parameters)
            if settings.parameters
            else units(cell, settings.hidden_size)
        )
        self.model = Network(cell, self.task, hidden_size, settings.dropout, settings.scale, settings.forget_bias)
        self.validation, self.test = (self.task.held_out(part, HELD_OUT) for part in PARTS)
        self.digest = hashlib.sha256(self.validation.inputs.numpy().tobytes()).hexdigest()

    def loss(self, step: int) -> tuple[Tensor, int]:
        batch = self.task.draw(
            self.settings.batch_size, torch.Generator().manual_seed((self.settings.seed << 32) + step)
        )
        return self.task.loss(self.outputs(batch), batch), len(batch.lengths)

    def measure(self) -> dict[str, float]:
        return {"validation": self.measured(self.validation)}

    def measured(self, batch: Batch) -> float:
        """The metric of the network on a batch."""
        return self.task.measure(self.outputs(batch), batch)

    def outputs(self, batch: Batch) -> Tensor:
        """The outputs of the network, [T, B, task.output_size]. Raises Diverged if an unmasked one is not finite."""
        found = self.model(batch.inputs, batch.lengths)
        if not found[batch.mask].isfinite().all():
            raise Diverged("an output is not finite; try again with a lower --lr or --clip")
        return found

    def results(self) -> dict[str, bytes]:
        """The figures of the weights that are best on validation, as JSON."""
        figures = {
            "validation": self.measured(self.validation),
            "test": self.measured(self.test),
            "details": self.task.details(self.outputs(self.test), self.test),
            "parameters": count(self.model),
            "hidden_size": self.model.layer.cell.hidden_size,
        }
        return {"figures.json": json.dumps(figures, indent=1).encode()}

    def summary(self, step: int, best: float, run: Run) -> str:
        return f"{self.settings.cell} on {self.settings.task}: {self.task.metric} {best:.4g}"


def try_out(task: str, cell: str) -> None:
    """Tries one training step on two sequences. Raises BadInput with the line of the cell's file if it fails."""
    try:
        made = problems.find(task)
        network, batch = Network(find_cell(cell), made, units(find_cell(cell), 16)), made.draw(2, torch.Generator())
        made.loss(network(batch.inputs, batch.lengths), batch).backward()
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # user code can fail in any way
        file = cell.rpartition(":")[0]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f" (line {frame.lineno})" for frame in frames if Path(frame.filename).name == Path(file).name]
        raise BadInput(f"{cell} fails on {task}: {type(error).__name__}: {error}{''.join(lines[-1:])}") from error


def figures(run: Run) -> dict[str, Any]:
    """The figures of a complete run."""
    return json.loads((run.folder / "results" / "figures.json").read_text())
