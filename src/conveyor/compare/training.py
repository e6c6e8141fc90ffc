"""Trains the trial that a worker has claimed, in its own folder, from its checkpoint if it has one."""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from conveyor.compare import problems
from conveyor.compare.ledger import Claim
from conveyor.compare.outcomes import Outcome
from conveyor.compare.study import ComparisonConfig, cell_folder
from conveyor.compare.trial import Trial, TrialSettings, figures
from conveyor.compare.worker import EXIT_FAILED, EXIT_STOPPED, LOOK
from conveyor.errors import BadInput
from conveyor.training import train
from conveyor.training.progress import Progress
from conveyor.training.run import Run


@dataclass(frozen=True)
class TrialWork:
    """The Work of a comparison: one trial, whose run is stored under `folder`."""

    claim: Claim
    config: ComparisonConfig
    folder: Path

    @property
    def run(self) -> Run:
        """The run of the trial, in the folder task/cell/trial."""
        claim = self.claim
        names = (problems.folder(claim.task), cell_folder(claim.cell), str(claim.key))
        return Run(self.folder.joinpath(*names))

    def do(self) -> int:
        """Trains the trial in the child process. Returns the exit status."""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        return teach(self.settings, self.run)

    @property
    def settings(self) -> TrialSettings:
        """The settings of the training run."""
        claim, config = self.claim, self.config
        made = TrialSettings(
            task=claim.task,
            cell=claim.cell,
            seed=claim.seed,
            steps=config.steps,
            batch_size=config.batch_size,
            evaluate_every=max(1, config.steps // 10),
            parameters=config.parameters,
            device="cpu",
        )
        return replace(made, **claim.settings)

    def failed(self, error: str) -> Outcome:
        """The outcome of a trial that failed with this error."""
        c = self.claim
        return Outcome(c.task, c.cell, c.key.index, c.seed, c.key.repeat, c.settings, None, None, error=error)

    def outcome(self, memory: int, complete: bool) -> Outcome:
        """The outcome, read from the files of the run."""
        run = self.run
        where = str(run.folder.relative_to(self.folder.parent))
        if not complete:
            return replace(self.failed((run.folder / "error.txt").read_text()), folder=where)
        found, history = figures(run), run.history()
        curve = tuple((line["step"], line["held_out_loss"]) for line in history if "held_out_loss" in line)
        return replace(
            self.failed(""),
            value=found["test"],
            validation=found["validation"],
            parameters=found["parameters"],
            seconds=seconds(run),
            memory=memory,
            folder=where,
            curve=curve,
            details=found["details"],
        )


def seconds(run: Run) -> float:
    """The duration of the training, in seconds."""
    return max((line["seconds"] for line in run.history() if "seconds" in line), default=0.0)


def teach(settings: TrialSettings, run: Run) -> int:
    """Trains a trial in its folder, from its checkpoint if there is one. Returns the exit status."""
    with open(run.folder / "log.txt", "a", buffering=1) as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            result = begun(settings, run)
        except OSError:  # not the trial's fault
            raise
        except Exception as error:  # user code can fail in any way; a retry would fail again
            traceback.print_exc()
            said = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
            (run.folder / "error.txt").write_text(said)
            return EXIT_FAILED
    return 0 if result.signal is None else EXIT_STOPPED


def occupied(run: Run) -> bool:
    """Whether another process is training the run."""
    try:
        with run.locked():
            return False
    except BadInput:
        return True


def begun(settings: TrialSettings, run: Run) -> train.Result:
    """Resumes a run with these settings; starts a new one if there is none or it cannot be read."""
    while occupied(run):  # briefly, by the child of a killed worker
        time.sleep(LOOK)
    if run.checkpoint.exists():
        try:
            if run.settings(TrialSettings, Trial.command) == settings:
                return train.resume(Trial, run.folder, Progress())
        except train.Diverged:
            raise
        except BadInput:
            pass
    return train.start(Trial, settings, run.folder, Progress(), force=True)
