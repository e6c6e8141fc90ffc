"""Data-parallel training in several processes of torchrun, or in one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from conveyor.errors import BadInput


@dataclass(frozen=True)
class Group:
    """This process in its data-parallel group; `world` is the number of processes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Replaces the gradients by their mean over the processes."""
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if self.world > 1:
            flat = parameters_to_vector(gradients)  # one message, not one for each parameter
            dist.all_reduce(flat)
            vector_to_parameters(flat / self.world, gradients)

    def sum(self, *values: float) -> list[float]:
        """The sum of each value over the processes."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Waits until all processes have called this."""
        if self.world > 1:
            dist.barrier()


def find_device(name: str) -> str:
    """The name itself; for "auto", cuda if there is a GPU, else cpu. Raises BadInput for a missing device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # depending on the device
        raise BadInput(
            f"there is no device {name} here: set device (--device, or in the run's config.toml) to cpu or another "
            "device that PyTorch finds"
        ) from error
    return name


@contextmanager
def join(device: str) -> Iterator[Group]:
    """The group from the environment of torchrun, connected while the block runs."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if device == "cuda" and world > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    group = Group(int(os.environ.get("RANK", "0")), world, torch.device(device))
    if world == 1:
        yield group
        return
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    # The first step of an optimiser imports this module. If a group exists by then, the module keeps a reference to it,
    # and its threads outlive the interpreter and abort the process.
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if group.device.type == "cuda" else "gloo")
    try:
        yield group
        group.wait()  # a process that leaves before the others are done breaks their connections
    finally:
        dist.destroy_process_group()
