"""The metrics of a training run: as lines of JSON, as TensorBoard events, and as a plot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from conveyor.training.parallel import Group
from conveyor.training.run import Run, write


class Log:
    """Writes the metrics of each step to metrics.jsonl and, optionally, as TensorBoard events."""

    def __init__(self, run: Run, tensorboard: bool, group: Group, step: int):
        self.run, self.first, self.board = run, group.first, None
        if tensorboard and group.first:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.board = SummaryWriter(str(run.folder), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes the metrics of a step. Does nothing except in the first process."""
        if self.first:
            self.run.log({"step": step, **values})
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()


def plot(history: list[dict[str, Any]], path: Path) -> str:
    """Plots the loss into a PNG file. Returns a message with its path, or with the reason why there is none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no plot of the loss: matplotlib is not installed (pip install matplotlib)"
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "training"), ("held_out_loss", "held out")):
        points = [(values["step"], values[key]) for values in history if key in values]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1 if key == "loss" else 2)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    write(path, picture.getvalue())
    return f"the loss over the steps: {path}"
