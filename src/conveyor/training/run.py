"""A run's folder: what it holds, and how it is written so that nothing is lost.

config.toml        every setting
metrics.jsonl      a line for each logged step and each validation
model.safetensors  the best model so far, with its vocabulary
checkpoint.pt      all that the training needs to go on
loss.png           the loss over the steps, if matplotlib is installed
text.txt           the text, if it came through standard input
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from conveyor.tasks import text
from conveyor.tasks.text import Vocabulary
from conveyor.training.settings import Settings
from conveyor.zoo.find import find

FORMAT = "conveyor run 1"  # in checkpoints and models; another number when they change


class Run:
    """The folder of a run, by its path."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "config.toml"
        self.metrics = folder / "metrics.jsonl"
        self.model = folder / "model.safetensors"
        self.checkpoint = folder / "checkpoint.pt"
        self.plot = folder / "loss.png"
        self.text = folder / "text.txt"

    def exists(self) -> bool:
        return any(path.exists() for path in (self.config, self.checkpoint, self.model))

    def create(self, settings: Settings, force: bool, raw: bytes | None = None) -> None:
        """Makes the folder with its configuration, and the text if it is given.

        With `force`, an earlier run's files are removed.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"{self.folder} is a file: give --out a folder")
        if self.exists() and not force:
            raise BadInput(
                f"{self.folder} already holds a run: go on with it by --resume {self.folder}, "
                "write over it with --force, or name another folder with --out"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.config, self.metrics, self.model, self.checkpoint, self.plot):
            path.unlink(missing_ok=True)
        for events in self.folder.glob("events.out.tfevents.*"):
            events.unlink()
        if raw is not None:
            write(self.text, raw)
        write(self.config, settings.to_toml().encode())

    def settings(self) -> Settings:
        if not self.config.is_file():
            raise BadInput(f"{self.folder} holds no run (it has no config.toml): make one with conveyor train")
        return Settings.read(self.config)

    # metrics

    def log(self, values: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The metrics so far; a last line that a kill cut off is left out."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        whole = []
        for line in lines:
            try:
                whole.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return whole

    def rewind(self, step: int) -> None:
        """Takes back the metrics after `step`: these steps are about to be run again."""
        kept = [json.dumps(values) + "\n" for values in self.history() if values["step"] <= step]
        write(self.metrics, "".join(kept).encode())

    # checkpoint

    def save_checkpoint(self, contents: dict[str, Any]) -> None:
        buffer = io.BytesIO()  # whole in memory first: torch.save hides the reason when a disk is full
        torch.save({"format": FORMAT, **contents}, buffer)
        write(self.checkpoint, buffer.getbuffer())

    def load_checkpoint(self, settings: Settings) -> dict[str, Any]:
        """Raises BadInput if it is missing, damaged, foreign or of another configuration."""
        path = self.checkpoint
        if not path.is_file():
            raise BadInput(f"{self.folder} has no checkpoint.pt to go on from: start it again with --force")
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # PyTorch itself does not look at the checksums
                    raise zipfile.BadZipFile
            with warnings.catch_warnings(action="ignore"):
                contents = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # bytes that are no checkpoint can fail in any way
            raise BadInput(f"{path} is damaged or not a checkpoint: start the run again with --force") from error
        if not isinstance(contents, dict) or contents.get("format") != FORMAT:
            raise BadInput(f"{path} is not a checkpoint of this program: start the run again with --force")
        now, then = settings.to_dict(), contents["settings"]
        changed = [name for name in now if now[name] != then.get(name)]
        if changed:
            listed = ", ".join(f"{name} was {then.get(name)!r}, now {now[name]!r}" for name in changed)
            raise BadInput(
                f"{path} is of another configuration than config.toml: {listed}; change it back, or use --force"
            )
        return contents

    # the best model

    def save_model(self, model: LanguageModel, vocabulary: Vocabulary, digest: str) -> None:
        # All in one entry: several would be in another order in every file.
        description = {"format": FORMAT, "kind": vocabulary.kind, "symbols": vocabulary.symbols, "digest": digest}
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        write(self.model, safetensors.torch.save(tensors, {"conveyor": json.dumps(description)}))

    def load_model(self, device: str = "cpu") -> Trained:
        """The best model. Raises BadInput if the file is missing, damaged or does not fit."""
        settings = self.settings()
        if not self.model.is_file():
            raise BadInput(f"{self.folder} has no model.safetensors: its training ended before the first validation")
        try:
            with safetensors.safe_open(self.model, "pt") as file:
                description = json.loads((file.metadata() or {}).get("conveyor", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise BadInput(f"{self.model} is damaged or not a model: {error}") from error
        if description.get("format") != FORMAT:
            raise BadInput(f"{self.model} is not a model of this program")
        vocabulary = Vocabulary(description["kind"], tuple(description["symbols"]))
        model = build(settings, len(vocabulary))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise BadInput(
                f"{self.model} does not fit config.toml and its cell {settings.cell}: restore what has changed"
            ) from error
        return Trained(model.to(device).eval(), vocabulary, settings, description["digest"])


@dataclass(frozen=True)
class Trained:
    """A model that a run has trained, and what goes with it."""

    model: LanguageModel
    vocabulary: Vocabulary
    settings: Settings
    digest: str  # of the text that it has learnt from

    def tokens(self, sources: Sequence[str] = ()) -> Tensor:
        """The tokens of a text to measure the model on; of its own text, if none is named, the tail held out.

        Raises BadInput if its own text is no longer the one that it has learnt from: the tail would be another.
        """
        raw = text.read(sources or self.settings.text, self.vocabulary.kind)
        if sources:
            return self.vocabulary.encode(raw)
        if digest(raw) != self.digest:
            raise BadInput("the text of this run has changed since the training: name a text to measure the model on")
        return text.split(self.vocabulary.encode(raw), self.settings.held_out)[1]


def digest(raw: bytes) -> str:
    """Tells whether a text is still the same."""
    return hashlib.sha256(raw).hexdigest()


def build(settings: Settings, vocabulary_size: int) -> LanguageModel:
    """The model that the settings describe, with new weights.

    Raises BadInput if it cannot be made, or cannot read a few tokens: a person's own cell can fail in any way.
    """
    cell = find(settings.cell)
    try:
        model = LanguageModel(
            vocabulary_size,
            cell,
            settings.hidden_size,
            settings.num_layers,
            settings.embedding_size,
            settings.tie,
            settings.dropout,
            input_dropout=settings.input_dropout,
            recurrent_dropout=settings.recurrent_dropout,
            zoneout=settings.zoneout,
            learn_initial_state=settings.learn_initial_state,
        )
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, dtype=torch.long))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"no model can be made with --cell {settings.cell} and --hidden-size {settings.hidden_size}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return model.train()


def write(path: Path, data: bytes | memoryview) -> None:
    """Writes the whole file or nothing: beside it, flushed to the disk, then renamed over it."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:  # that of a full disk does not know of which file it is
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself
    finally:
        os.close(folder)
