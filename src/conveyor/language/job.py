"""The training job of a language model: its text, and its loss on a window of the text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.language import model as language
from conveyor.language.model import LanguageModel
from conveyor.language.settings import Settings
from conveyor.layer import State
from conveyor.tasks import text
from conveyor.tasks.text import Rows, Vocabulary
from conveyor.training.job import TrainingJob
from conveyor.training.parallel import Group
from conveyor.training.run import Run, digest
from conveyor.zoo.find import find


@dataclass(frozen=True)
class Data:
    """A tokenised text, as read by one process of a training run."""

    vocabulary: Vocabulary
    rows: Rows
    learnt: int  # number of training tokens
    held_out: Tensor  # [N] token indices
    digest: str
    raw: bytes

    @classmethod
    def of(cls, raw: bytes, settings: Settings, group: Group) -> Data:
        """Tokenises and splits the text. Raises BadInput if it is too short, or differs between the processes."""
        # The word vocabulary comes from the training part; other words become <unk>. Characters have no <unk>.
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


class Language(TrainingJob):
    """Trains a language model on a text. The recurrent state is carried from window to window."""

    settings_type = Settings
    command = "conveyor train"
    alone = False
    unit = "token"

    settings: Settings
    model: LanguageModel
    state: State | None

    def __init__(self, settings: Settings, data: Data):
        super().__init__(settings)
        self.data, self.digest, self.state = data, data.digest, None

    @classmethod
    def resolve(cls, settings: Settings, folder: Path) -> Settings:
        found = [name and (Path(name).is_file() or Path(name).is_dir()) for name in settings.text]
        sources = tuple(str(Path(n).resolve()) if f else n for n, f in zip(settings.text, found, strict=True))
        if any(folder.resolve() in (Path(name), *Path(name).parents) for name in sources):
            raise BadInput(f"{folder} is the folder of the text: choose another folder with --out")
        for source in (*sources, settings.cell):
            if not _is_utf8(source):
                raise BadInput(f"the name {source!r} is not UTF-8, so config.toml cannot hold it: rename the file")
        path, colon, name = settings.cell.rpartition(":")
        cell = f"{Path(path).resolve()}:{name}" if colon and Path(path).exists() else settings.cell
        return replace(settings, text=sources or (text.DEFAULT_CORPUS,), cell=cell)

    @classmethod
    def make(cls, settings: Settings, run: Run, group: Group, contents: dict[str, Any] | None) -> Self:
        if contents is None and "-" in settings.text and group.world > 1:
            raise BadInput("only one process can read standard input: give the text as a file")
        raw = read_text(run, settings) if contents else text.read(settings.text, settings.tokens)
        job = cls(settings, Data.of(raw, settings, group))
        job.check(run, contents)
        job.model = build(settings, len(job.data.vocabulary))
        return job

    def check(self, run: Run, contents: dict[str, Any] | None) -> None:
        if contents is None:
            return
        if self.digest != contents["digest"]:
            raise BadInput(
                f"the text of {run.folder} has changed since its checkpoint: restore it, or start with --force"
            )
        find(self.settings.cell)
        if cell_digest(self.settings) != contents["cell"]:
            raise BadInput(f"{self.settings.cell} has changed since the checkpoint: restore it, or start with --force")

    def describe(self) -> str:
        settings, data = self.settings, self.data
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        note = f"{settings.cell}, {parameters:,} parameters; vocabulary of {len(data.vocabulary)} {settings.tokens}s; "
        note += f"{data.learnt:,} training tokens, {len(data.held_out):,} held out"
        if data.rows.batch_size < settings.batch_size:
            note += f"; the text is short, so the batch has {data.rows.batch_size} rows, not {settings.batch_size}"
        return note

    def first_files(self, run: Run) -> dict[Path, bytes]:
        return {run.text: self.data.raw} if "-" in self.settings.text else {}  # standard input can be read only once

    def loss(self, step: int) -> tuple[Tensor, int]:
        """The cross-entropy on the next window of the text, in nats per token."""
        window = step % self.data.rows.count
        if window == 0:
            self.state = None  # back to the start of the rows
        inputs, targets = (tensor.to(self.device) for tensor in self.data.rows[step])
        scores, state = self.model(inputs, self.state, window * self.settings.window)
        self.state = detach(state)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten()), inputs.numel()

    def measure(self) -> dict[str, float]:
        return {"held_out_loss": language.loss(self.model, self.data.held_out.to(self.device))}

    def tell(self, figures: dict[str, float]) -> str:
        loss = figures["held_out_loss"]
        return f"held-out loss {loss:.4f} nats, {loss / math.log(2):.3f} bits per token"

    def fingerprint(self) -> dict[str, str]:
        return {"digest": self.digest, "cell": cell_digest(self.settings)}

    def description(self) -> dict[str, Any]:
        vocabulary = self.data.vocabulary
        return {"kind": vocabulary.kind, "symbols": vocabulary.symbols, "digest": self.digest}

    def summary(self, step: int, best: float, run: Run) -> str:
        bits = f"{best / math.log(2):.3f} bits"
        done = f"done: {step} steps, best held-out loss {best:.4f} nats ({bits}) per token"
        return f"{done}\ngenerate text with: conveyor generate {run.folder}"


def read_text(run: Run, settings: Settings) -> bytes:
    """The text of a run. Text from standard input is stored in the folder of the run."""
    if "-" in settings.text and run.text.is_file():
        return text.read([str(run.text)], settings.tokens)
    return text.read(settings.text, settings.tokens)


def cell_digest(settings: Settings) -> str:
    """The digest of the file of a user-defined cell; empty for a built-in one."""
    path, colon, _ = settings.cell.rpartition(":")
    return digest(Path(path).read_bytes()) if colon else ""


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def detach(state: State) -> State:
    """The state, detached from the autograd graph; this truncates backpropagation through time."""
    return state.detach() if isinstance(state, Tensor) else tuple(tensor.detach() for tensor in state)


def build(settings: Settings, vocabulary_size: int) -> LanguageModel:
    """The model described by the settings, with new weights.

    Raises BadInput if it cannot be made or fails on a few tokens, since user code can fail in any way.
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
