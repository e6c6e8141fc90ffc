"""Speech: the 640 utterances of JapaneseVowels (Kudo, Toyama & Shimbo 1999), from the files of the package aeon.

Nine men speak the vowels a and e in succession. Each of 7 to 29 frames has 12 linear prediction coefficients. The test
part is that of the data set; every ninth utterance of its training part is for validation. Each coefficient is scaled
to mean 0 and standard deviation 1 over the training frames.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput

COEFFICIENTS = 12
CHECKED = {  # of aeon 1.6.0: utterances and SHA-256 of each file
    "TRAIN": (270, "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"),
    "TEST": (370, "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"),
}
LEAST = {"TRAIN": 9, "TEST": 1}  # utterances, so that no part is empty
HELP = "pip install 'conveyor[speech]' (600 MB; pip install --no-deps aeon installs only the files, in 35 MB)"


@dataclass(frozen=True)
class Utterance:
    """Two vowels spoken by one man, with 12 normalised coefficients per frame."""

    frames: Tensor  # [T, 12]
    speaker: str  # "1" to "9"


@dataclass(frozen=True)
class Vowels:
    """All utterances, in three parts, with the normalisation of the coefficients."""

    train: tuple[Utterance, ...]
    valid: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    mean: Tensor  # [12], of the coefficients in the files
    deviation: Tensor  # [12]
    digest: str


def read(folder: Path | None = None) -> Vowels:
    """The normalised utterances. Raises BadInput if aeon is missing or its files differ.

    `folder` holds JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, whose checksums are then not verified; by default
    the files in aeon are read.
    """
    place = _folder() if folder is None else folder
    parts, digest = {}, hashlib.sha256()
    for part, (count, checksum) in CHECKED.items():
        path = place / f"JapaneseVowels_{part}.ts"
        data = _bytes(path)
        if folder is None and hashlib.sha256(data).hexdigest() != checksum:
            raise BadInput(f"{path} is not the expected file of {count} utterances: pip install 'aeon==1.6.0'")
        parts[part] = parse(_text(data, path), str(path))
        _check_many(parts[part], LEAST[part], path)
        digest.update(data)
    return _normalised(parts["TRAIN"], parts["TEST"], digest.hexdigest())


def parse(text: str, source: str = "text") -> list[Utterance]:
    """The utterances of a .ts file: one line each after @data, coefficient:coefficient:...:speaker.

    Raises BadInput for a malformed line; `source` names the file in its message.
    """
    _, found, data = text.partition("@data\n")
    if not found:
        raise BadInput(f"{source} is not a .ts file: it has no line @data")
    return [_utterance(line, f"{source}, series {i + 1}") for i, line in enumerate(data.splitlines()) if line.strip()]


def _utterance(line: str, place: str) -> Utterance:
    *rows, speaker = line.split(":")
    try:
        frames = np.array([row.split(",") for row in rows], dtype=np.float64).T
    except ValueError:
        raise BadInput(f"{place}: its dimensions are not numbers, or differ in length") from None
    if frames.ndim != 2 or frames.shape[1] != COEFFICIENTS:
        raise BadInput(f"{place}: {len(rows)} dimensions, not {COEFFICIENTS}")
    if not np.isfinite(frames).all():
        raise BadInput(f"{place}: a number is not finite")
    return Utterance(torch.from_numpy(frames), speaker.strip())


def _normalised(train: Sequence[Utterance], test: Sequence[Utterance], digest: str) -> Vowels:
    valid = train[8::9]
    train = [utterance for i, utterance in enumerate(train) if i % 9 != 8]
    frames = torch.cat([utterance.frames for utterance in train])
    mean, deviation = frames.mean(0), frames.std(0, correction=0)
    for k in torch.nonzero(~(frames != frames[0]).any(0)).flatten().tolist():
        raise BadInput(f"coefficient {k + 1} is the same in every frame, so it cannot be normalised")

    def normal(part: Sequence[Utterance]) -> tuple[Utterance, ...]:
        return tuple(Utterance(((u.frames - mean) / deviation).float(), u.speaker) for u in part)

    return Vowels(normal(train), normal(valid), normal(test), mean, deviation, digest)


def independent(train: Sequence[Tensor], test: Sequence[Tensor]) -> float:
    """Nats per frame of a baseline: each coefficient is normal with its mean and deviation in `train`, [T, 12] each."""
    frames = torch.cat(list(train))
    return float(_nll(torch.cat(list(test)) - frames.mean(0), frames.std(0, correction=0)).mean())


def autoregressive(train: Sequence[Tensor], test: Sequence[Tensor]) -> float:
    """Nats per frame of a baseline: each coefficient is normal around a linear function of its own last value.

    The first frame of each sequence [T, 12] is predicted by `independent`.
    """
    before, after = (torch.cat([frames[cut] for frames in train]) for cut in (slice(-1), slice(1, None)))
    x, y = before - before.mean(0), after - after.mean(0)
    slope = (x * y).sum(0) / (x * x).sum(0)
    start = after.mean(0) - slope * before.mean(0)
    deviation = (y - slope * x).std(0, correction=0)
    rest = sum(float(_nll(frames[1:] - start - slope * frames[:-1], deviation).sum()) for frames in test)
    first = float(independent(train, [frames[:1] for frames in test])) * len(test)
    return (first + rest) / sum(map(len, test))


def _nll(away: Tensor, deviation: Tensor) -> Tensor:
    """-ln p of each frame from its distance to the mean, summed over the coefficients."""
    return (0.5 * (away / deviation) ** 2 + torch.log(deviation * math.sqrt(2 * math.pi))).sum(-1)


def _folder() -> Path:
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise BadInput(f"the utterances come from the package aeon: {HELP}")
    return Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"


def _text(data: bytes, path: Path) -> str:
    """The decoded text, with line breaks as \\n."""
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a .ts file: byte {error.start} is not UTF-8") from error


def _check_many(found: Sequence[Utterance], least: int, path: Path) -> None:
    if len(found) < least:
        raise BadInput(f"{path} has {len(found)} series, but at least {least} are needed")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
