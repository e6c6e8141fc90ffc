"""What `conveyor explain` shows besides language models: trials of a comparison, and weights out of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conveyor import explain
from conveyor.compare.trial import Trial, TrialSettings
from conveyor.errors import BadInput
from conveyor.explain.page import saved
from conveyor.tasks.task import Batch, ClassificationTask, MultiLabelTask, Task
from conveyor.training.run import Run

Output = explain.Classes | explain.Numbers | explain.Labels
SHOWN = 6  # sequences of the test part
GIVES = ("next", "numbers", "classes", "")


def trial(folders: Sequence[Path]) -> explain.Page:
    """The page of trials of a comparison, on sequences of the test part of their task. Raises BadInput."""
    settings = [Run(folder).settings(TrialSettings, Trial.command) for folder in folders]
    if len({one.task for one in settings}) > 1:
        raise BadInput(
            f"the runs are of different tasks, {' and '.join(one.task for one in settings)}: give one at a time"
        )
    jobs = [Trial(one) for one in settings]
    for folder, job in zip(folders, jobs, strict=True):
        job.model.load_state_dict(Run(folder).read_model()[0])
        job.model.eval()
    task = jobs[0].task
    output, given = of_task(task, task.held_out("test", SHOWN))
    names = [
        f"{one.cell} {folder.name}" if len(folders) > 1 else one.cell
        for folder, one in zip(folders, settings, strict=True)
    ]
    models = {name: job.model for name, job in zip(names, jobs, strict=True)}
    places = {"layer": "layer", "head": "readout"}
    return explain.page(
        models, given, output, **places, check=False, title=f"{' and '.join(names)}: {settings[0].task}"
    )


def of_task(
    task: Task, batch: Batch
) -> tuple[explain.Classes | explain.Numbers | explain.Labels, list[explain.Series]]:
    """What comes out of a network on a task, and sequences of a batch with their truth where it counts."""
    names = [
        f"{'class' if isinstance(task, ClassificationTask) else 'output'} {k + 1}" for k in range(task.output_size)
    ]
    table = getattr(task, "table", None)
    channels = table.inputs if table is not None else [f"input {k + 1}" for k in range(task.input_size)]
    given = []
    for row, length in enumerate(batch.lengths.tolist()):
        targets, counts = batch.targets[:length, row], batch.mask[:length, row]
        if isinstance(task, ClassificationTask):
            truth = [int(target) if count else None for target, count in zip(targets, counts, strict=True)]
        else:
            rows = targets.double().clone()
            rows[~counts] = float("nan")
            truth = rows.reshape(length, -1).tolist()
        given.append(explain.Series(batch.inputs[:length, row], channels, truth=truth, title=f"sequence {row + 1}"))
    if isinstance(task, ClassificationTask):
        return explain.Classes(names, at="every"), given
    if isinstance(task, MultiLabelTask):
        return explain.Labels(names), given
    return explain.Numbers(names), given


@dataclass(frozen=True)
class Columns:
    """What is said of a table: the columns that are read, those that should come out, and as what."""

    data: Path
    inputs: Sequence[str] = ()
    target: Sequence[str] = ()
    gives: str = ""
    normalise: bool = False

    def read(self) -> tuple[explain.Series, explain.Classes | explain.Numbers | None]:
        """The series with its truth, and what comes out. Raises BadInput."""
        gives = self.gives or ("numbers" if self.target else "")
        if gives not in GIVES:
            raise BadInput(f"--gives is {', '.join(filter(None, GIVES))}, not {gives}")
        if gives in ("numbers", "classes") and not self.target:
            raise BadInput(f"--gives {gives} needs --target: the column that holds what should come out")
        aside = () if gives == "next" else self.target
        series, table = saved.series(self.data, self.inputs, aside)
        if self.normalise:
            mean, deviation = saved.moments(series.values)
            series = replace(series, mean=mean, deviation=deviation)
        if gives == "classes":
            truth = [str(cell) for cell in table.column(self.target[0])]
            return replace(series, truth=truth), explain.Classes(saved.classes(table, self.target[0]), at="every")
        if gives == "numbers":
            return replace(series, truth=table.numbers(self.target)), explain.Numbers(self.target)
        return series, explain.Numbers(self.target or series.names, next=True) if gives else None


def weights(file: Path, cell: str, columns: Columns, layer: str = "", head: str = "") -> explain.Page:
    """The page of the weights of a file, on the series of a table. Raises BadInput."""
    series, output = columns.read()
    count = 0 if output is None else len(output.names)
    network = saved.network(file, cell, len(series.names), count, layer, head)
    title = f"{file.name}: {columns.data.name}"
    return explain.page(
        network, series, output, layer=network.rnn, first=network.first, head=network.head, check=False, title=title
    )
