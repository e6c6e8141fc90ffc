"""The state of a training run, saved and restored by checkpoints."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.training.job import TrainingJob
from conveyor.training.parallel import Group


@dataclass
class TrainingState:
    """Everything that changes during a training run."""

    job: TrainingJob
    optimiser: torch.optim.Optimizer
    step: int = 0  # steps done; the position in the data and the learning rate follow from it
    best: float = math.inf  # the lowest validation metric so far
    kept: str = ""  # SHA-256 of the file of the best model

    def snapshot(self, group: Group) -> dict[str, Any]:
        """The contents of a checkpoint, as plain values and tensors. Collective: every process must call it."""
        mine = {"state": _map(self.job.state, lambda tensor: tensor.cpu()), "random": random_state(group.device)}
        return {
            "step": self.step,
            "best": self.best,
            "kept": self.kept,
            "model": self.job.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "processes": group.gather(mine),
        }

    def restore(self, contents: Mapping[str, Any], group: Group) -> None:
        """Restores a snapshot. Raises BadInput if the number of processes differs."""
        processes = contents["processes"]
        if len(processes) != group.world:
            raise BadInput(
                f"this run was trained by {len(processes)} processes, so resume it with the same number: "
                f"torchrun --nproc-per-node={len(processes)} -m conveyor train --resume ..."
            )
        self.step, self.best, self.kept = contents["step"], contents["best"], contents.get("kept", "")
        self.job.model.load_state_dict(contents["model"])
        self.optimiser.load_state_dict(contents["optimiser"])
        self.job.state = _map(processes[group.rank]["state"], lambda tensor: tensor.to(group.device))
        set_random_state(processes[group.rank]["random"], group.device)


def seed(number: int) -> None:
    """Seeds the global generators of Python, NumPy and PyTorch."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of the global generators, as plain values and tensors."""
    _, keys, *rest = np.random.get_state(legacy=True)
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    state |= {"numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest]}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _map(state: Any, function: Any) -> Any:
    if state is None or isinstance(state, Tensor):
        return None if state is None else function(state)
    return tuple(function(tensor) for tensor in state)
