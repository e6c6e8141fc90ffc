"""Every setting of a training, in one place: its name, type, default, bounds and meaning.

The command line makes a flag of each, a TOML file has a key for each, and a run's folder keeps them all.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from conveyor.errors import BadInput, suggest

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", tuple: "a list of strings"}


def _setting(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    bounds = {"meaning": meaning, "low": low, "high": high, "above": above, "choices": choices}
    return field(default=default, metadata=bounds)


@dataclass(frozen=True)
class Settings:
    """The settings of a training; raises BadInput for a value that is out of bounds."""

    text: tuple[str, ...] = _setting((), "files, folders, corpora or - for standard input; none: the topics of pydoc")
    tokens: str = _setting("char", "what a token is", choices=("char", "byte", "word"))
    vocabulary_size: int = _setting(10_000, "with words: how many, the rest are <unk>", low=2)
    cell: str = _setting("lstm", "the cell: a name (see conveyor cells) or file.py:ClassName")
    hidden_size: int = _setting(192, "units of each layer", low=1)
    num_layers: int = _setting(1, "layers", low=1)
    embedding_size: int = _setting(0, "width of a token's vector; 0: that of the output", low=0)
    tie: bool = _setting(True, "the output uses the embedding's matrix, where the sizes allow")
    dropout: float = _setting(0.1, "dropout on embedding, output and between layers", low=0, high=1)
    input_dropout: float = _setting(0.0, "variational dropout on each layer's input", low=0, high=1)
    recurrent_dropout: float = _setting(0.0, "variational dropout on the recurrent state", low=0, high=1)
    zoneout: float = _setting(0.0, "probability that a unit keeps its old state", low=0, high=1)
    learn_initial_state: bool = _setting(False, "the initial state is a parameter")
    steps: int = _setting(1_500, "steps of the optimiser", low=1)
    batch_size: int = _setting(32, "rows of text read side by side, in each process", low=1)
    window: int = _setting(64, "tokens a step, and how far gradients go back", low=1)
    lr: float = _setting(8e-3, "highest learning rate", above=0, high=1e38)
    lr_end: float = _setting(0.02, "learning rate of the last step, as a fraction of the highest", low=0, high=1)
    warmup: int = _setting(50, "steps over which the learning rate rises from zero, at most a tenth of all", low=0)
    weight_decay: float = _setting(0.01, "weight decay of AdamW, on matrices", low=0)
    clip: float = _setting(1.0, "largest norm of the gradient", above=0)
    held_out: float = _setting(0.1, "the tail of the text that is kept for validation", above=0, high=0.9)
    evaluate_every: int = _setting(250, "steps between validations", low=1)
    save_every: float = _setting(60.0, "seconds between checkpoints", low=0)
    seed: int = _setting(0, "of every random number", low=0, high=2**32 - 1)
    threads: int = _setting(1, "of PyTorch; small models gain nothing by more; 0: one a core", low=0, high=1024)
    device: str = _setting("auto", "cpu, cuda, cuda:1 ...; auto: cuda where there is one")
    tensorboard: bool = _setting(False, "write TensorBoard events too (needs the package tensorboard)")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = _convert(setting, getattr(self, setting.name), "settings")
            object.__setattr__(self, setting.name, value)  # the dataclass is frozen for everyone else
            _check(setting, value)

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "settings") -> Settings:
        """From names and values, such as a TOML file's; the rest are the defaults."""
        known = {setting.name: setting for setting in fields(cls)}
        for name in values:
            if name not in known:
                raise BadInput(f"{source}: no setting is called {name}; {suggest(name, known)}")
        return cls(**{name: _convert(known[name], value, source) for name, value in values.items()})

    @classmethod
    def read(cls, path: Path) -> Settings:
        return cls.of(read_toml(path), str(path))

    def to_toml(self) -> str:
        lines = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            shown = list(value) if isinstance(value, tuple) else value
            # A JSON value of these types is a TOML value, but for DEL, which TOML wants escaped.
            written = json.dumps(shown, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{setting.name} = {written}  # {setting.metadata['meaning']}\n")
        return "".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain values that TOML and JSON know."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a TOML file: {error}") from error


def flag(name: str) -> str:
    return "TEXT" if name == "text" else f"--{name.replace('_', '-')}"


def _convert(setting: dataclasses.Field[Any], value: Any, source: str) -> Any:
    """The value as its setting's type, where nothing is lost by it."""
    kind = type(setting.default)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if kind is float and type(value) is int and abs(value) < 2**1000:
        return float(value)
    if type(value) is not kind:
        raise BadInput(f"{source}: {setting.name} must be {KINDS[kind]}, not {value!r}")
    return value


def _check(setting: dataclasses.Field[Any], value: Any) -> None:
    bounds = setting.metadata
    name = flag(setting.name)
    if bounds["choices"] and value not in bounds["choices"]:
        raise BadInput(f"{name} cannot be {value!r}; {suggest(str(value), bounds['choices'])}")
    if type(value) is int and value >= 2**63:  # what TOML and PyTorch can hold
        raise BadInput(f"{name} is larger than any number that makes sense here: {str(value)[:20]}...")
    if bounds["low"] is not None and not value >= bounds["low"]:
        raise BadInput(f"{name} must be at least {bounds['low']}, not {value}")
    if bounds["high"] is not None and not value <= bounds["high"]:
        raise BadInput(f"{name} must be at most {bounds['high']}, not {value}")
    if bounds["above"] is not None and not value > bounds["above"]:
        raise BadInput(f"{name} must be greater than {bounds['above']}, not {value}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise BadInput(f"{name} must be a finite number, not {value}")
