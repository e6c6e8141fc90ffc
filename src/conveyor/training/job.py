"""What a training trains: a model with its data, its loss and what is shown of it. The loop is in train.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conveyor.errors import BadInput
from conveyor.training.parallel import Group
from conveyor.training.run import Run
from conveyor.training.settings import Common


class Job:
    """A model, the data that it learns from, and its loss.

        class Attend(Job):
            settings_type = AttendSettings
            command = "conveyor run attend"

            def __init__(self, settings): ...               # sets model and digest
            def loss(self, step): ...                       # of this step's batch
            def measure(self): ...                          # on what is held out

        train.start(Attend, AttendSettings(steps=100), Path("runs/attend"), progress)

    `model` is trained; `digest` tells whether the data is still the same when a run goes on; `state` is carried from
    step to step and kept in checkpoints. All that `loss` draws comes from the step's number and from the generators
    that a checkpoint keeps, so that a resumed run is the same to the bit.
    """

    settings_type: ClassVar[type[Common]] = Common
    command: ClassVar[str]  # what a person types to train one
    needs: ClassVar[tuple[str, ...]] = ()  # packages without which the results cannot be shown
    alone: ClassVar[bool] = True  # whether it cannot go over several processes
    plots: ClassVar[bool] = True  # whether its loss is drawn into a picture
    unit: ClassVar[str] = "example"  # what the speed is counted in

    settings: Any
    model: nn.Module
    digest: str
    state: Any = None
    device: torch.device = torch.device("cpu")

    def __init__(self, settings: Any):
        self.settings = settings

    # what the loop calls, in this order

    @classmethod
    def resolve(cls, settings: Any, folder: Path) -> Any:  # noqa: ARG003 - a job may write elsewhere than it reads
        """The settings in words that still hold in another folder and on another day. Raises BadInput."""
        return settings

    @classmethod
    def make(cls, settings: Any, run: Run, group: Group, contents: dict[str, Any] | None) -> Self:  # noqa: ARG003
        """The job with new weights, or, with a checkpoint's contents, one whose data is that of the checkpoint."""
        job = cls(settings)
        job.check(run, contents)
        return job

    def check(self, run: Run, contents: dict[str, Any] | None) -> None:
        """Raises BadInput if what the checkpoint was learnt from is no longer the same."""
        if contents is not None and self.digest != contents["digest"]:
            raise BadInput(
                f"the data of {run.folder} has changed since its checkpoint: restore it, or start with --force"
            )

    def place(self, device: torch.device) -> None:
        """Model and losses are on this device from here on."""
        self.device = device
        self.model.to(device)

    def describe(self) -> str:
        """A line on the model and the data."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return f"{type(self).__name__}, {parameters:,} parameters"

    def first_files(self, run: Run) -> dict[Path, bytes]:
        """What a new run's folder is to hold from the start, besides configuration, checkpoint and model."""
        return {}

    def loss(self, step: int) -> tuple[Tensor, int]:
        """The loss of this step's batch, and of how many units it is the loss."""
        raise NotImplementedError

    def measure(self) -> dict[str, float]:
        """Figures on what is held out, in eval mode, without gradients; the first, the smaller the better, decides."""
        raise NotImplementedError

    def tell(self, figures: dict[str, float]) -> str:
        """The figures in words."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint keeps for `check`."""
        return {"digest": self.digest}

    def description(self) -> dict[str, Any]:
        """What the file of the model says besides its weights."""
        return {"digest": self.digest}

    def results(self) -> dict[str, bytes]:
        """At the end, with the best weights: what the folder `results` of the run is given, by file name."""
        return {}

    def summary(self, step: int, best: float, run: Run) -> str:
        """At the end: what to tell, a few lines."""
        return f"done: {step} steps, best held-out figure {best:.4g}; everything is in {run.folder}"
