"""The folder of a run, whose files are written atomically.

config.toml        every setting
metrics.jsonl      a line for each logged step and each validation
model.safetensors  the best model so far, with its vocabulary
checkpoint.pt      everything needed to resume
loss.png           the loss over the steps, if matplotlib is installed
text.txt           a text from standard input
results/           results of the job, such as figures; .written lists the files written by runs
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from conveyor.errors import BadInput
from conveyor.training.settings import TrainingSettings

MADE_BY = "# made by: "  # first line of config.toml, followed by the command
FORMAT = "conveyor run 1"  # version of the files of checkpoints and models
FREE = {"device", "threads", "save_every", "tensorboard"}  # settings that may be changed before a run is resumed


Settings = TypeVar("Settings", bound=TrainingSettings)


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
        self.results = folder / "results"
        self.listed = self.results / ".written"

    def check_free(self, force: bool) -> None:
        """Raises BadInput if the folder cannot hold a new run: it has files of the user, or a run without `force`."""
        for path in (self.folder, *self.folder.parents):
            if os.path.lexists(path) and not path.is_dir():
                raise BadInput(f"--out {self.folder} cannot be a folder: {path} is a file")
        if self.maker():
            if not force:
                raise BadInput(
                    f"{self.folder} already holds a run: resume it with --resume {self.folder}, "
                    "overwrite it with --force, or choose another folder with --out"
                )
            return
        own = (self.config, self.checkpoint, self.model, self.metrics, self.plot, self.text, self.results)
        taken = [path.name for path in own if os.path.lexists(path)]
        if taken:  # files of the user, which --force must not overwrite
            raise BadInput(f"{self.folder} already holds {', '.join(taken)}, but no run: choose another with --out")

    def create(self, command: str, settings: TrainingSettings, files: dict[Path, bytes]) -> None:
        """Writes the configuration and the first files of a run, then deletes the files of an earlier run."""
        head = f"{MADE_BY}{command}\n"
        write_all({**files, self.config: (head + settings.to_toml()).encode()})
        shown = [self.results / name for name in self.written()]
        for path in (self.metrics, self.plot, *self.folder.glob("events.out.tfevents.*"), *shown, self.listed):
            path.unlink(missing_ok=True)

    def maker(self) -> str:
        """The command that made the run; empty if the folder holds no run."""
        if not self.config.is_file():
            return ""
        with self.config.open("rb") as file:
            first = file.readline().decode(errors="replace").strip()
        return first.removeprefix(MADE_BY) if first.startswith(MADE_BY) else ""

    # results

    def show(self, files: Mapping[str, bytes]) -> None:
        """Writes results. Their names are listed first, to distinguish them from files of the user."""
        if files:
            self.results.mkdir(exist_ok=True)
            names = "\n".join(sorted({*self.written(), *files}))
            write_all({self.listed: names.encode(), **{self.results / name: data for name, data in files.items()}})

    def written(self) -> list[str]:
        """The names of the results written by runs."""
        names = self.listed.read_text(encoding="utf-8").split("\n") if self.listed.is_file() else []
        return [name for name in names if name and Path(name).name == name]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder and holds the lock of the run. Raises BadInput if another process holds the lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput(f"another process is training {self.folder}: wait for it, or stop it") from error
            yield
        finally:
            os.close(folder)  # releases the lock

    def settings(self, kind: type[Settings], command: str) -> Settings:
        """The settings in config.toml. Raises BadInput if the folder holds no run of this command."""
        if not self.config.is_file():
            raise BadInput(f"{self.folder} holds no run (it has no config.toml): start one with {command}")
        maker = self.maker()
        if maker and maker != command:
            raise BadInput(
                f"{self.folder} holds a run made by {maker}, not by {command}: resume it with {maker} --resume"
            )
        return kind.read(self.config)

    # metrics

    def log(self, values: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:  # the error of a full disk does not name the file
            raise OSError(error.errno, error.strerror, str(self.metrics)) from error

    def history(self) -> list[dict[str, Any]]:
        """The metrics so far, without a last line that is incomplete because the process was killed."""
        lines = self.metrics.read_bytes().splitlines() if self.metrics.exists() else []
        whole = []
        for line in lines:
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(values, dict) or type(values.get("step")) is not int:
                break
            if not all(isinstance(value, int | float) for value in values.values()):
                break
            whole.append(values)
        return whole

    def rewind(self, step: int, unwritten: list[dict[str, Any]]) -> None:
        """Deletes the metrics after `step`, which will be computed again, and appends those not yet written."""
        kept = [values for values in self.history() if values["step"] <= step - bool(unwritten)]
        write(self.metrics, "".join(json.dumps(values) + "\n" for values in [*kept, *unwritten]).encode())

    # checkpoint

    def checkpoint_file(self, contents: dict[str, Any]) -> bytes:
        """The bytes of checkpoint.pt."""
        buffer = io.BytesIO()  # in memory first: torch.save hides the error of a full disk
        torch.save({"format": FORMAT, **contents}, buffer)
        return buffer.getvalue()

    def load_checkpoint(self, settings: TrainingSettings) -> dict[str, Any]:
        """The contents of checkpoint.pt. Raises BadInput if it is missing, damaged or from another configuration."""
        path = self.checkpoint
        if not path.is_file():
            raise BadInput(f"{self.folder} has no checkpoint.pt to resume from: start the run again with --force")
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # PyTorch does not verify the checksums
                    raise zipfile.BadZipFile
            with warnings.catch_warnings(action="ignore"):
                contents = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files can fail in any way
            raise BadInput(f"{path} is damaged or not a checkpoint: start the run again with --force") from error
        if not isinstance(contents, dict) or contents.get("format") != FORMAT:
            raise BadInput(f"{path} is not a checkpoint of this program: start the run again with --force")
        now, then = settings.to_dict(), contents["settings"]
        free = FREE | {one.name for one in fields(settings) if one.metadata["results"]}
        changed = [name for name in now if now[name] != then.get(name) and name not in free]
        if changed:
            listed = ", ".join(f"{name} was {then.get(name)!r}, now {now[name]!r}" for name in changed)
            raise BadInput(
                f"{path} has a different configuration from config.toml: {listed}; change it back, or use --force"
            )
        return contents

    # the best model

    def model_file(self, model: nn.Module, description: Mapping[str, Any]) -> bytes:
        """The bytes of model.safetensors: the weights, with the description as metadata."""
        # A single metadata entry, since the order of several would vary between files.
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        return safetensors.torch.save(tensors, {"conveyor": json.dumps({"format": FORMAT, **description})})

    def read_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The best weights by name, and the description. Raises BadInput if the file is missing or damaged."""
        if not self.model.is_file():
            raise BadInput(f"{self.folder} has no model.safetensors: restore it, or train again with --force")
        try:
            with safetensors.safe_open(self.model, "pt") as file:
                description = json.loads((file.metadata() or {}).get("conveyor", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise BadInput(f"{self.model} is damaged or not a model: {error}") from error
        if description.get("format") != FORMAT:
            raise BadInput(f"{self.model} is not a model of this program")
        return tensors, description


def digest(raw: bytes) -> str:
    """The SHA-256 of the data, in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def write(path: Path, data: bytes | memoryview) -> None:
    """Writes a file atomically."""
    write_all({path: data})


def write_all(files: Mapping[Path, bytes | memoryview]) -> None:
    """Writes files of one folder atomically: under temporary names, flushed to disk, then renamed."""
    beside = {path: path.with_name(path.name + ".tmp") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            with beside[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            beside[path].replace(path)
    except OSError as error:  # the error of a full disk does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        for left in beside.values():
            left.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new names themselves
    finally:
        os.close(folder)
