"""The interface of a training job: a model with its data, loss, metrics and results. The loop is in train.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conveyor.errors import BadInput
from conveyor.training.parallel import Group
from conveyor.training.run import Run
from conveyor.training.settings import TrainingSettings


class TrainingJob:
    """Base class of training jobs: a model, its data and its loss.

        class Attend(TrainingJob):
            settings_type = AttendSettings
            command = "conveyor run attend"

            def __init__(self, settings): ...               # sets model and digest
            def loss(self, step): ...                       # on this step's batch
            def measure(self): ...                          # on the validation data

        train.start(Attend, AttendSettings(steps=100), Path("runs/attend"), progress)

    `digest` identifies the data, which must not change before a run is resumed. `state` is carried from step to step
    and saved in checkpoints. `loss` must take its randomness from the step number and the global generators of Python,
    NumPy and PyTorch, so that a resumed run is bit-identical to an uninterrupted one.
    """

    settings_type: ClassVar[type[TrainingSettings]] = TrainingSettings
    command: ClassVar[str]  # the command that runs the job
    needs: ClassVar[tuple[str, ...]] = ()  # packages that the results need, checked at the start
    alone: ClassVar[bool] = True  # whether only one process is supported
    plots: ClassVar[bool] = True  # whether the loss is plotted
    unit: ClassVar[str] = "example"  # of the speed: units per second

    settings: Any
    model: nn.Module
    digest: str
    state: Any = None
    device: torch.device = torch.device("cpu")

    def __init__(self, settings: Any):
        self.settings = settings

    # called by the loop, in this order

    @classmethod
    def resolve(cls, settings: Any, folder: Path) -> Any:  # noqa: ARG003 - for subclasses
        """The settings to store, with absolute paths and defaults filled in. Raises BadInput."""
        return settings

    @classmethod
    def make(cls, settings: Any, run: Run, group: Group, contents: dict[str, Any] | None) -> Self:  # noqa: ARG003
        """The job with new weights. With the contents of a checkpoint, the data is checked against it."""
        job = cls(settings)
        job.check(run, contents)
        return job

    def check(self, run: Run, contents: dict[str, Any] | None) -> None:
        """Raises BadInput if the data has changed since the checkpoint."""
        if contents is not None and self.digest != contents["digest"]:
            raise BadInput(
                f"the data of {run.folder} has changed since its checkpoint: restore it, or start with --force"
            )

    def place(self, device: torch.device) -> None:
        """Moves the model to the device, where losses are computed from now on."""
        self.device = device
        self.model.to(device)

    def describe(self) -> str:
        """A line that describes the model and the data."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return f"{type(self).__name__}, {parameters:,} parameters"

    def first_files(self, run: Run) -> dict[Path, bytes]:
        """The files of a new run besides configuration, checkpoint and model."""
        return {}

    def loss(self, step: int) -> tuple[Tensor, int]:
        """The loss on the batch of this step, a scalar, and the number of units in the batch."""
        raise NotImplementedError

    def measure(self) -> dict[str, float]:
        """The validation metrics by name, in eval mode. The first selects the best model; lower is better."""
        raise NotImplementedError

    def tell(self, figures: dict[str, float]) -> str:
        """The validation metrics as text."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())

    def fingerprint(self) -> dict[str, str]:
        """The values that a checkpoint stores for `check`."""
        return {"digest": self.digest}

    def description(self) -> dict[str, Any]:
        """The metadata in the model file."""
        return {"digest": self.digest}

    def results(self) -> dict[str, bytes]:
        """Files for the folder `results`, by name. Called at the end, with the best weights loaded."""
        return {}

    def summary(self, step: int, best: float, run: Run) -> str:
        """A few lines printed at the end of the training run."""
        return f"done: {step} steps, best held-out figure {best:.4g}; everything is in {run.folder}"
