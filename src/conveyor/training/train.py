"""The training loop. It can be interrupted at any point and resumed."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conveyor.errors import BadInput
from conveyor.training.checkpoint import TrainingState, seed
from conveyor.training.interrupt import signals
from conveyor.training.job import TrainingJob
from conveyor.training.log import Log, plot
from conveyor.training.memory import enough
from conveyor.training.parallel import Group, find_device, join
from conveyor.training.progress import Progress
from conveyor.training.run import Run, digest, write, write_all
from conveyor.training.settings import TrainingSettings

LOG_EVERY = 10  # steps


class Diverged(BadInput):
    """The loss, the gradient or a weight is no longer finite."""


@dataclass(frozen=True)
class Result:
    """How a training run ended."""

    step: int
    best: float  # the lowest validation metric
    signal: signal.Signals | None  # the signal that stopped it early, if any
    summary: str  # text for the user; empty if the run was stopped


def start(
    kind: type[TrainingJob], settings: TrainingSettings, folder: Path, progress: Progress, force: bool = False
) -> Result:
    """Trains a new model; the run is stored in `folder`. Raises BadInput before anything is written."""
    check_needs(kind, settings)
    run = Run(folder)
    settings = kind.resolve(replace(settings, device=find_device(settings.device)), folder)
    run.check_free(force)
    with join(settings.device) as group:
        return train(kind, settings, run, group, progress)


def resume(kind: type[TrainingJob], folder: Path, progress: Progress) -> Result:
    """Resumes a run from its checkpoint, with the same result as without interruption.

    Raises BadInput if the folder holds no run of this job, or its files are missing, damaged or changed.
    """
    run = Run(folder)
    settings = run.settings(kind.settings_type, kind.command)
    check_needs(kind, settings)
    with join(find_device(settings.device)) as group:
        return train(kind, settings, run, group, progress, run.load_checkpoint(settings))


def check_needs(kind: type[TrainingJob], settings: TrainingSettings) -> None:
    """Raises BadInput if a required package cannot be imported."""
    needs = (*kind.needs, *["tensorboard"] * settings.tensorboard)
    wrong = {name: why for name in needs if (why := unusable(name)) is not None}
    if wrong:
        what = "--tensorboard" if list(wrong) == ["tensorboard"] else kind.command
        name, why = next(iter(wrong.items()))
        again = "--force-reinstall " if any(wrong.values()) else ""
        raise BadInput(f"{what} needs the package {name}{why}: pip install {again}{' '.join(wrong)}")


def unusable(name: str) -> str | None:
    """Why a package cannot be imported: "" if it is not installed; None if it can be imported."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation can fail in any way
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        return "" if absent else f", which cannot be imported ({error})"
    return None


def train(
    kind: type[TrainingJob],
    settings: TrainingSettings,
    run: Run,
    group: Group,
    progress: Progress,
    contents: dict[str, Any] | None = None,
) -> Result:
    """Trains from the start, or from the contents of a checkpoint."""
    with enough("make the model or --batch-size smaller"):
        try:
            training = make(kind, settings, run, group, contents)
        except KeyboardInterrupt:
            progress.note("stopped before the first step; nothing was written")
            raise
        progress.note(training.job.describe())
        unwritten = contents.get("unwritten", []) if contents else []
        return Trainer(settings, run, group, progress, training, contents is None, training.step, unwritten).run()


def make(
    kind: type[TrainingJob], settings: TrainingSettings, run: Run, group: Group, contents: dict[str, Any] | None
) -> TrainingState:
    """The state before the first step, or the state of a checkpoint. Raises BadInput if it cannot be made."""
    if kind.alone and group.world > 1:
        raise BadInput(f"{kind.command} does not support several processes: start it without torchrun")
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    seed(settings.seed)
    try:
        job = kind.make(settings, run, group, contents)
        job.place(group.device)
    except (ValueError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{kind.command} cannot run with these settings: {error}") from error
    training = TrainingState(job, optimiser(job.model, settings))
    seed(settings.seed + group.rank)  # equal weights in every process, but different dropout
    if contents is not None:
        try:
            training.restore(contents, group)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error) if isinstance(error, BadInput) else "it belongs to another model"
            raise BadInput(f"{run.checkpoint} does not fit config.toml: {reason}") from error
        check_model(run, training, contents["settings"]["steps"])
    return training


def check_model(run: Run, training: TrainingState, steps: int) -> None:
    """Raises BadInput if the file of the best model does not belong to this run.

    If the process was killed between writing a better model and its checkpoint, the file may be newer than the
    checkpoint. The remaining steps write it again.
    """
    tensors, description = run.read_model()
    here, wanted = ({k: v.shape for k, v in held.items()} for held in (tensors, training.job.model.state_dict()))
    later = training.step < steps and description.get("step", 0) > training.step
    if here != wanted or (training.kept and not later and digest(run.model.read_bytes()) != training.kept):
        raise BadInput(f"{run.model} does not belong to the checkpoint of this run: restore it, or start with --force")


@dataclass
class Trainer:
    """The training loop of one process."""

    settings: TrainingSettings
    folder: Run
    group: Group
    progress: Progress
    training: TrainingState
    new: bool  # whether no file of the run has been written yet
    saved: int  # the step of the last checkpoint
    unwritten: list[dict[str, Any]] = field(default_factory=list)  # metrics not written because the disk was full

    def run(self) -> Result:
        """Runs the remaining steps with signal handlers, lock and log."""
        with contextlib.ExitStack() as stack:
            with signals() as caught:
                if self.group.first:
                    stack.enter_context(self.folder.locked())
                if self.new:
                    self.create()
                self.save()  # also on resuming, so that a full disk is detected at once
                if self.group.first:
                    self.folder.rewind(self.training.step, self.unwritten)
                if self.unwritten:  # they are in the log now
                    self.unwritten = []
                    self.save()
                with Log(self.folder, self.settings.tensorboard, self.group, self.training.step) as log:
                    self.loop(caught, log)
                if self.group.first and self.training.job.plots:
                    self.progress.note(plot(self.folder.history(), self.folder.plot))
            ended = signal.Signals(caught[0]) if caught else None
            summary = self.finish() if self.group.first and ended is None else ""
        return Result(self.training.step, self.training.best, ended, summary)

    def loop(self, caught: list[int], log: Log) -> None:
        """Runs steps, validations and checkpoints until the last step or a signal."""
        training, settings = self.training, self.settings
        saved = began = time.monotonic()
        self.progress.begin(training.step, settings.steps)
        while training.step < settings.steps:
            values = self.step()
            found: list[dict[str, float]] = []
            last = training.step == settings.steps
            if training.step % LOG_EVERY == 0 or last:
                found.append(values | {"seconds": round(time.monotonic() - began, 3)})
            if training.step % settings.evaluate_every == 0 or last:
                found.append(self.validate())
            self.note(log, found)
            # All processes stop and save at the same step, no matter which of them received the signal.
            late = self.group.first and time.monotonic() - saved >= settings.save_every
            stop, due = self.group.sum(len(caught), late)
            if stop or due or last:
                self.save()
                saved = time.monotonic()
            if stop:
                break
        self.progress.end()

    def note(self, log: Log, found: list[dict[str, float]]) -> None:
        """Logs metrics. On a full disk they are saved in a checkpoint, if possible, and the error is raised."""
        try:
            for values in found:
                log.write(self.training.step, values)
        except OSError:
            self.unwritten = [{"step": self.training.step, **values} for values in found]
            if self.group.world == 1:  # saving is collective, but the other processes have no error
                with contextlib.suppress(OSError):
                    self.save()
            raise

    def step(self) -> dict[str, float]:
        """One step: loss, gradients, clipping, optimiser."""
        training, settings, model = self.training, self.settings, self.training.job.model
        loss, amount = training.job.loss(training.step)
        training.optimiser.zero_grad()
        loss.backward()
        self.group.average_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip).item()
        mean = self.group.sum(loss.item())[0] / self.group.world
        if not math.isfinite(mean) or not math.isfinite(norm):
            raise self.diverged(training.step + 1, f"the loss was {mean} and the gradient's norm {norm}")
        rate = learning_rate(settings, training.step)
        for parameters in training.optimiser.param_groups:
            parameters["lr"] = rate
        training.optimiser.step()
        training.step += 1
        self.progress.stepped(training.step, mean, amount * self.group.world)
        return {"loss": mean, "lr": rate, "norm": norm}

    def validate(self) -> dict[str, float]:
        """Validates the model and saves it if it is the best so far. Returns the metrics."""
        training, job = self.training, self.training.job
        figures: dict[str, float] = {}
        if self.group.first:
            with torch.no_grad():
                job.model.eval()
                figures = job.measure()
                job.model.train()
        (loss,) = self.group.sum(next(iter(figures.values()), 0.0))
        if not math.isfinite(loss):
            raise self.diverged(training.step, f"the held-out loss was {loss}")
        best = loss < training.best
        if self.group.first:
            self.progress.validated(training.step, job.tell(figures), best)
        if best:
            training.best = loss
            if self.group.first:
                write(self.folder.model, self.model_file())
        return {"held_out_loss": loss, **figures}

    def finish(self) -> str:
        """Writes the results of the best model. Returns the summary for the user."""
        job = self.training.job
        check_model(self.folder, self.training, self.settings.steps)
        job.model.load_state_dict(self.folder.read_model()[0])
        again = f"{job.command} --resume {self.folder.folder}"
        sizes = [one.name for one in fields(self.settings) if one.metadata["results"] and type(one.default) is int]
        smaller = f"make {' or '.join(sizes) or 'the model'} smaller in {self.folder.config}"
        try:
            with torch.no_grad(), enough(f"the model is trained and saved; {smaller}, then {again}"):
                job.model.eval()
                files = job.results()
        except KeyboardInterrupt:
            self.progress.note(f"the model is trained and saved, but its results are missing; write them with: {again}")
            raise
        self.folder.show(files)
        return job.summary(self.training.step, self.training.best, self.folder)

    def diverged(self, step: int, what: str) -> Diverged:
        """The error for a training run that has diverged."""
        kept = f"{self.folder.folder} has the checkpoint of step {self.saved}"
        return Diverged(f"at step {step} {what}: stopped; {kept}; try again with a lower --lr or --clip")

    def create(self) -> None:
        """Writes the first files of the run, all or none, so that a failed start does not destroy an earlier run."""
        files = {self.folder.model: self.model_file()}  # first, since the checkpoint holds its digest
        files[self.folder.checkpoint] = self.checkpoint_file()
        if self.group.first:
            self.folder.create(
                self.training.job.command, self.settings, files | self.training.job.first_files(self.folder)
            )

    def save(self) -> None:
        """Writes a checkpoint. Raises Diverged if a weight is not finite."""
        if not all(parameter.isfinite().all() for parameter in self.training.job.model.parameters()):
            raise self.diverged(self.training.step, "a weight was not finite")
        files = {}
        if self.training.best == math.inf:  # until the first validation, the latest model is the best
            files[self.folder.model] = self.model_file()
        files[self.folder.checkpoint] = self.checkpoint_file()
        if self.group.first:
            write_all(files)
        self.saved = self.training.step

    def checkpoint_file(self) -> bytes:
        """The bytes of a checkpoint. Collective: every process must call it."""
        extra = {"settings": self.settings.to_dict(), "unwritten": self.unwritten, **self.training.job.fingerprint()}
        return self.folder.checkpoint_file(self.training.snapshot(self.group) | extra)

    def model_file(self) -> bytes:
        """The bytes of the current model, which becomes the best one."""
        description = {**self.training.job.description(), "step": self.training.step}
        file = self.folder.model_file(self.training.job.model, description)
        self.training.kept = digest(file)
        return file


def optimiser(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser, with weight decay on matrices only.

    Its moments are allocated at the start, so that all checkpoints have the same size.
    """
    matrices = [p for name, p in model.named_parameters() if p.dim() > 1 and "initial_state" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() <= 1 or "initial_state" in name]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    made, moments = OPTIMISERS[settings.optimiser](groups, settings.lr)
    for parameter in (*matrices, *others):
        made.state[parameter] = {name: torch.zeros_like(parameter, requires_grad=False) for name in moments}
        if settings.optimiser != "sgd":
            made.state[parameter]["step"] = torch.tensor(0.0)
    return made


Groups = list[dict[str, Any]]


def adamw(groups: Groups, lr: float) -> tuple[torch.optim.Optimizer, tuple[str, ...]]:
    """AdamW with betas 0.9 and 0.99."""
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99)), ("exp_avg", "exp_avg_sq")


def rmsprop(groups: Groups, lr: float) -> tuple[torch.optim.Optimizer, tuple[str, ...]]:
    """RMSprop with PyTorch's defaults."""
    return torch.optim.RMSprop(groups, lr=lr), ("square_avg",)


def sgd(groups: Groups, lr: float) -> tuple[torch.optim.Optimizer, tuple[str, ...]]:
    """SGD with Nesterov momentum 0.9."""
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True), ("momentum_buffer",)


# Each returns the optimiser and the names of the moments that it keeps for each parameter.
OPTIMISERS = {"adamw": adamw, "rmsprop": rmsprop, "sgd": sgd}


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Linear warm-up over `warmup` steps, at most a tenth of all steps, then cosine decay to `lr * lr_end`."""
    warmup = min(settings.warmup, settings.steps // 10)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - 1 - warmup)
    return settings.lr * (settings.lr_end + (1 - settings.lr_end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)
