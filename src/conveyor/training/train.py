"""The training of a language model: the loop in plain sight, and what it takes to be cut off anywhere and go on."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conveyor import language
from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from conveyor.tasks import text
from conveyor.tasks.text import Rows, Vocabulary
from conveyor.training.checkpoint import Training, detach, seed
from conveyor.training.interrupt import signals
from conveyor.training.log import Log, plot
from conveyor.training.parallel import Group, find_device, join
from conveyor.training.progress import Progress
from conveyor.training.run import Run, build, digest, write, write_all
from conveyor.training.settings import Settings
from conveyor.zoo.find import find

LOG_EVERY = 10  # steps


class Diverged(BadInput):
    """The loss or the gradient is no longer a number."""


@dataclass(frozen=True)
class Data:
    """A text, as one process of a training sees it."""

    vocabulary: Vocabulary
    rows: Rows
    learnt: int  # tokens to learn from
    held_out: Tensor
    digest: str
    raw: bytes

    @classmethod
    def of(cls, raw: bytes, settings: Settings, group: Group) -> Data:
        # A character that is only in the held-out tail must have a number, a word that is only there may be <unk>.
        tail = int(len(raw) * settings.held_out) if settings.tokens == "word" else 0
        seen = raw[: len(raw) - tail].decode(errors="ignore").encode() if tail else raw
        vocabulary = Vocabulary.of(seen, settings.tokens, settings.vocabulary_size)
        learnt, held_out = text.split(vocabulary.encode(raw), settings.held_out)
        rows = Rows(learnt, settings.batch_size, settings.window, group.rank, group.world)
        if len(set(group.gather(digest(raw)))) > 1:
            raise BadInput("the processes read different texts: give each of them the same files")
        if len(held_out) < 2:
            raise BadInput("the held-out tail has fewer than two tokens: give more text or a larger --held-out")
        return cls(vocabulary, rows, len(learnt), held_out, digest(raw), raw)


@dataclass(frozen=True)
class Result:
    step: int
    best: float  # validation loss, nats a token
    signal: signal.Signals | None  # what ended it early, if anything did


def start(settings: Settings, folder: Path, progress: Progress, force: bool = False) -> Result:
    """Trains a new model into `folder`. Raises BadInput, before anything is written, for what cannot be trained."""
    run, settings = Run(folder), resolve(settings)
    if any(folder.resolve() in (Path(name), *Path(name).parents) for name in settings.text):
        raise BadInput(f"{folder} is the folder of the text: give --out another, so that the two stay apart")
    run.check_free(force)
    with join(settings.device) as group:
        if "-" in settings.text and group.world > 1:
            raise BadInput("standard input reaches one process only: give the text as a file")
        raw = text.read(settings.text, settings.tokens)
        return train(settings, run, Data.of(raw, settings, group), group, progress)


def resume(folder: Path, progress: Progress) -> Result:
    """Goes on with a run from its checkpoint, as if it had never stopped."""
    run = Run(folder)
    settings = run.settings()
    with join(find_device(settings.device)) as group:
        contents = run.load_checkpoint(settings)
        data = Data.of(run.read_text(settings), settings, group)
        if data.digest != contents["digest"]:
            raise BadInput(f"the text of {folder} has changed since its checkpoint: restore it, or start with --force")
        find(settings.cell)
        if cell_digest(settings) != contents["cell"]:
            raise BadInput(f"{settings.cell} has changed since the checkpoint: restore it, or start with --force")
        return train(settings, run, data, group, progress, contents)


def resolve(settings: Settings) -> Settings:
    """The settings in words that still hold in another folder and on another day.

    Raises BadInput for what cannot be had here.
    """
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise BadInput("--tensorboard needs the package tensorboard: pip install tensorboard")
    found = [name and (Path(name).is_file() or Path(name).is_dir()) for name in settings.text]
    sources = tuple(str(Path(n).resolve()) if f else n for n, f in zip(settings.text, found, strict=True))
    for source in (*sources, settings.cell):
        if not _is_utf8(source):
            raise BadInput(f"the name {source!r} is not UTF-8, so config.toml cannot hold it: rename the file")
    path, colon, name = settings.cell.rpartition(":")
    cell = f"{Path(path).resolve()}:{name}" if colon and Path(path).exists() else settings.cell
    return replace(settings, text=sources or (text.DEFAULT_CORPUS,), cell=cell, device=find_device(settings.device))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def train(
    settings: Settings, run: Run, data: Data, group: Group, progress: Progress, contents: dict[str, Any] | None = None
) -> Result:
    """Runs the steps that are left: all of them, or those after a checkpoint's contents."""
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    seed(settings.seed)
    model = build(settings, len(data.vocabulary)).to(group.device)
    training = Training(model, optimiser(model, settings))
    seed(settings.seed + group.rank)  # the model is the same in every process, the dropout is not
    if contents is not None:
        try:
            training.restore(contents, group)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error) if isinstance(error, BadInput) else "it is of another model"
            raise BadInput(f"{run.checkpoint} does not fit {settings.cell}: {reason}") from error
    progress.note(describe(settings, data, model))
    return Trainer(settings, run, data, group, progress, training, contents is None, training.step).run()


@dataclass
class Trainer:
    """One training in one process."""

    settings: Settings
    folder: Run
    data: Data
    group: Group
    progress: Progress
    training: Training
    new: bool  # no file of the run is written yet
    saved: int  # the step of the last checkpoint

    def run(self) -> Result:
        """All steps that are left, with what they need around them."""
        with signals() as caught:
            with contextlib.ExitStack() as stack:
                if self.group.first:
                    stack.enter_context(self.folder.locked())
                if self.new:
                    self.create()
                self.save()  # the same again, but a disk that is full shows now and not after an hour
                if self.group.first:
                    self.folder.rewind(self.training.step)
                tensorboard = self.settings.tensorboard
                self.loop(caught, stack.enter_context(Log(self.folder, tensorboard, self.group, self.training.step)))
            if self.group.first:
                self.progress.note(plot(self.folder.history(), self.folder.plot))
        return Result(self.training.step, self.training.best, signal.Signals(caught[0]) if caught else None)

    def loop(self, caught: list[int], log: Log) -> None:
        """Steps, with a validation and a checkpoint now and then, until the last or until a signal is caught."""
        training, settings = self.training, self.settings
        saved = began = time.monotonic()
        self.progress.begin(training.step, settings.steps)
        while training.step < settings.steps:
            values = self.step()
            last = training.step == settings.steps
            if training.step % LOG_EVERY == 0 or last:
                log.write(training.step, values | {"seconds": round(time.monotonic() - began, 3)})
            if training.step % settings.evaluate_every == 0 or last:
                log.write(training.step, self.validate())
            # The processes stop and save at the same step, whichever of them was told to.
            late = self.group.first and time.monotonic() - saved >= settings.save_every
            stop, due = self.group.sum(len(caught), late)
            if stop or due or last:
                self.save()
                saved = time.monotonic()
            if stop:
                break
        self.progress.end()

    def step(self) -> dict[str, float]:
        """One step of the optimiser: a window of text forward, back, and the weights moved."""
        training, settings, model = self.training, self.settings, self.training.model
        if training.step % self.data.rows.count == 0:
            training.state = None  # the rows begin anew
        inputs, targets = (tensor.to(self.group.device) for tensor in self.data.rows[training.step])
        scores, state = model(inputs, training.state)
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
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
        training.state = detach(state)
        training.step += 1
        self.progress.stepped(training.step, mean, inputs.numel() * self.group.world)
        return {"loss": mean, "lr": rate, "norm": norm}

    def validate(self) -> dict[str, float]:
        """Measures the held-out text, and keeps the model if it is the best so far."""
        training, loss = self.training, 0.0
        if self.group.first:
            loss = language.loss(training.model, self.data.held_out.to(self.group.device))
        loss = self.group.sum(loss)[0]
        if not math.isfinite(loss):
            raise self.diverged(training.step, f"the held-out loss was {loss}")
        best = loss < training.best
        self.progress.validated(training.step, loss, best)
        if best:
            training.best = loss
            if self.group.first:
                write(self.folder.model, self.model_file())
        return {"held_out_loss": loss}

    def diverged(self, step: int, what: str) -> Diverged:
        kept = f"{self.folder.folder} keeps the checkpoint of step {self.saved}"
        return Diverged(f"at step {step} {what}: stopped, and {kept}; try again with a lower --lr or --clip")

    def create(self) -> None:
        """The run's first files, all or none, so that one that cannot begin costs no other."""
        files = {self.folder.checkpoint: self.checkpoint_file(), self.folder.model: self.model_file()}
        if "-" in self.settings.text:
            files[self.folder.text] = self.data.raw  # standard input comes only once
        if self.group.first:
            self.folder.create(self.settings, files)

    def save(self) -> None:
        if not all(parameter.isfinite().all() for parameter in self.training.model.parameters()):
            raise self.diverged(self.training.step, "a weight was no longer a finite number")
        files = {self.folder.checkpoint: self.checkpoint_file()}
        if self.training.best == math.inf:  # nothing is measured yet, so the latest model is the best
            files[self.folder.model] = self.model_file()
        if self.group.first:
            write_all(files)
        self.saved = self.training.step

    def checkpoint_file(self) -> bytes:
        """Every process must call it, since it holds something of each."""
        extra = {"settings": self.settings.to_dict(), "digest": self.data.digest, "cell": cell_digest(self.settings)}
        return self.folder.checkpoint_file(self.training.snapshot(self.group) | extra)

    def model_file(self) -> bytes:
        return self.folder.model_file(self.training.model, self.data.vocabulary, self.data.digest)


def cell_digest(settings: Settings) -> str:
    """Tells whether the file of a person's own cell is still the same; empty for one that is built in."""
    path, colon, _ = settings.cell.rpartition(":")
    return digest(Path(path).read_bytes()) if colon else ""


def optimiser(model: LanguageModel, settings: Settings) -> torch.optim.Optimizer:
    """AdamW, with weight decay on matrices only."""
    matrices = [p for name, p in model.named_parameters() if p.dim() > 1 and "initial_state" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() <= 1 or "initial_state" in name]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99))


def learning_rate(settings: Settings, step: int) -> float:
    """Rises over `warmup` steps, a tenth of all at most, then falls along half a cosine to `lr_end` of the highest."""
    warmup = min(settings.warmup, settings.steps // 10)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - 1 - warmup)
    return settings.lr * (settings.lr_end + (1 - settings.lr_end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def describe(settings: Settings, data: Data, model: LanguageModel) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    note = f"{settings.cell}, {parameters:,} parameters; {len(data.vocabulary)} kinds of {settings.tokens}; "
    note += f"{data.learnt:,} tokens to learn from, {len(data.held_out):,} held out"
    if data.rows.batch_size < settings.batch_size:
        note += f"; the text is short: {data.rows.batch_size} rows a step, not {settings.batch_size}"
    return note
