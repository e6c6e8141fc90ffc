"""Text for language models: sources, tokenisation, and batches for truncated backpropagation through time."""

from __future__ import annotations

import codecs
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest

KINDS = ("char", "byte", "word")
UNKNOWN = "<unk>"
WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s")  # each character is in one match, so joining gives the text


def _pydoc_topics() -> bytes:
    """The topics of Python's language reference, 465 K characters of English prose; included in Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics.values()).encode()


def _standard_library() -> bytes:
    """The sources of Python's standard library, without its tests; included in Python."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    paths = (path for path in sorted(root.rglob("*.py")) if not skipped & set(path.relative_to(root).parts))
    return b"\n".join(path.read_bytes() for path in paths)


def _agreement() -> bytes:
    """20,000 synthetic sentences with subject-verb agreement, one per line, 1.2 M characters.

    Raises BadInput if the package lemminflect, which provides the inflections, is missing.
    """
    from conveyor.tasks.agreement import sentence

    random = Random(0)
    return "\n".join(" ".join(sentence(random)) for _ in range(20_000)).encode()


CORPORA: dict[str, Callable[[], bytes]] = {
    "pydoc": _pydoc_topics,
    "stdlib": _standard_library,
    "agreement": _agreement,
}
DEFAULT_CORPUS = "pydoc"


def read(sources: Sequence[str], kind: str = "char") -> bytes:
    """The concatenated text of files, folders (their text files, by name), named corpora and "-" (standard input).

    Raises BadInput for a source that is missing, unreadable, empty or, unless `kind` is "byte", not UTF-8.
    """
    parts = [_read(source, kind) for source in sources or [DEFAULT_CORPUS]]
    data = b"\n".join(parts)
    if not data.strip():
        raise BadInput(f"the text of {', '.join(sources)} is empty: there is nothing to learn from")
    return data


def _read(source: str, kind: str) -> bytes:
    path = Path(source)
    if not source:
        raise BadInput("a TEXT is an empty string: give a file, a folder, a corpus, or - for standard input")
    if source == "-":
        if sys.stdin is None:
            raise BadInput("the text cannot be read from standard input, which is closed: give a file")
        return _decodable(sys.stdin.buffer.read(), "standard input", kind)
    if path.is_dir():
        return _read_folder(path, kind)
    if path.exists():
        return _decodable(_bytes(path), source, kind)
    if source in CORPORA:
        return CORPORA[source]()
    raise BadInput(f"no file, folder or corpus is called {source}; corpora: {suggest(source, CORPORA)}")


def _read_folder(folder: Path, kind: str) -> bytes:
    """All text files in the folder and below, by name, except hidden files, binary files and training runs."""
    runs = {path.parent for path in folder.rglob("checkpoint.pt")}  # training must not read its own output
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent not in runs)
    shown = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    texts = [data for data in map(_bytes, shown) if kind == "byte" or _is_text(data)]
    if not texts:
        raise BadInput(f"the folder {folder} has no UTF-8 text files")
    return b"\n".join(texts)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _decodable(data: bytes, name: str, kind: str) -> bytes:
    if kind == "byte":
        return data
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name} is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}): "
            "convert it, for example with iconv, or train on bytes with --tokens byte"
        ) from error
    return data


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary of characters, bytes or words.

        vocabulary = Vocabulary.of(b"to be or not to be", "char")
        numbers = vocabulary.encode(b"be")                  # tensor([2, 3])
        "".join(vocabulary.decode(numbers.tolist()))        # "be"

    `kind` is "char", "byte" or "word". Words include the space before them, so that joining them gives the text. A word
    that is not in the vocabulary becomes `<unk>`.
    """

    kind: str
    symbols: tuple[str, ...]

    @classmethod
    def of(cls, data: bytes, kind: str, limit: int = 10_000) -> Vocabulary:
        """The vocabulary of a text: its characters, all 256 bytes, or its `limit` - 1 most frequent words."""
        if kind == "byte":
            return cls(kind, tuple(f"{byte:02x}" for byte in range(256)))
        if kind == "char":
            return cls(kind, tuple(sorted(set(data.decode()))))
        frequent = Counter(WORD.findall(data.decode())).most_common(limit - 1)
        return cls(kind, (UNKNOWN, *(word for word, _ in frequent)))

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def unknown(self) -> int | None:
        """The index of `<unk>`, or None."""
        return 0 if self.kind == "word" else None

    def opening(self) -> str:
        """A token that starts a generated text: a line break, if the vocabulary has it."""
        return "\n" if self.kind == "byte" or "\n" in self.symbols else self.symbols[min(1, len(self) - 1)]

    def encode(self, data: bytes) -> Tensor:
        """The token indices, [N]. Raises BadInput for characters that are not in the vocabulary."""
        if self.kind == "byte":
            return torch.from_numpy(np.frombuffer(data, np.uint8).astype(np.int64))
        text = data.decode()
        if self.kind == "word":
            numbers = {word: number for number, word in enumerate(self.symbols)}
            return torch.tensor([numbers.get(word, 0) for word in WORD.findall(text)], dtype=torch.long)
        known = np.array([ord(symbol) for symbol in self.symbols], np.uint32)  # ascending
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        index = np.searchsorted(known, codes).clip(max=len(known) - 1)
        new = codes[known[index] != codes]
        if len(new):
            characters = sorted(map(chr, set(new.tolist())))
            shown = ", ".join(map(repr, characters[:8])) + (", ..." if len(characters) > 8 else "")
            raise BadInput(
                f"the model never saw {shown} ({len(new)} of {len(codes)} characters): "
                "remove them, or train on a text that has them, or with --tokens byte"
            )
        return torch.from_numpy(index.astype(np.int64))

    def decode(self, numbers: Sequence[int] | Iterator[int]) -> Iterator[str]:
        """The text of each token, in order; bytes are decoded to characters."""
        if self.kind != "byte":
            yield from (self.symbols[number] for number in numbers)
            return
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        yield from (decoder.decode(bytes([number])) for number in numbers)
        yield decoder.decode(b"", final=True)

    def lengths(self, data: bytes) -> Tensor:
        """The number of characters of each token, [N]; for `<unk>`, that of the word it replaces."""
        if self.kind == "byte":  # each character has exactly one byte that is no continuation byte
            return torch.from_numpy((np.frombuffer(data, np.uint8) & 0xC0 != 0x80).astype(np.int64))
        text = data.decode()
        if self.kind == "word":
            return torch.tensor([len(word) for word in WORD.findall(text)], dtype=torch.long)
        return torch.ones(len(text), dtype=torch.long)


def split(tokens: Tensor, held_out: float) -> tuple[Tensor, Tensor]:
    """The training part and the held-out tail; `held_out` is the fraction of the tail."""
    cut = len(tokens) - int(len(tokens) * held_out)
    return tokens[:cut], tokens[cut:]


class Rows:
    """A text as a batch of `batch_size` contiguous rows, read in windows of `window` tokens.

    Each window of a row continues the previous one, so that the state can be carried over. After `count` windows all
    rows start again; the last window may be shorter. Each of `world` processes has its own rows. Raises BadInput for a
    text that is too short.
    """

    def __init__(self, tokens: Tensor, batch_size: int, window: int, rank: int = 0, world: int = 1):
        if len(tokens) < window + 1:
            raise BadInput(
                f"the training text has {len(tokens)} tokens, fewer than one window of {window} + 1: "
                "give more text or a shorter --window"
            )
        self.batch_size = min(batch_size, (len(tokens) - 1) // (window * world))
        if not self.batch_size:
            raise BadInput(f"the text is too short for {world} processes: give more text or a shorter --window")
        rows = self.batch_size * world
        length = (len(tokens) - 1) // rows
        self.window, self.count = window, -(-length // window)
        mine = slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        self.inputs = tokens[: rows * length].view(rows, length)[mine].t()  # [T, B]
        self.targets = tokens[1 : rows * length + 1].view(rows, length)[mine].t()

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """The inputs and targets of a step, [at most window, batch_size] each."""
        start = (step % self.count) * self.window
        return self.inputs[start : start + self.window], self.targets[start : start + self.window]
