"""The settings of a training run: name, type, default, bounds and meaning of each in one place.

Each setting is a command-line flag and a key in a TOML file.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from conveyor.errors import BadInput, suggest

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", tuple: "a list of strings"}

OPTIMISERS = ("adamw", "rmsprop", "sgd")


def setting(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    results: bool = False,
) -> Any:
    """A dataclass field for a setting: its default, its meaning and its bounds (`low`, `high` inclusive, `above` not).

    `results`: the setting is used only by `TrainingJob.results`, so it may be changed after the training.
    """
    bounds = {"meaning": meaning, "low": low, "high": high, "above": above, "choices": choices, "results": results}
    return field(default=default, metadata=bounds)


@dataclass(frozen=True)
class TrainingSettings:
    """The settings common to all training jobs; each job adds its own. Raises BadInput for a value out of bounds."""

    steps: int = setting(1_500, "training steps", low=1)
    batch_size: int = setting(32, "sequences per batch, in each process", low=1, high=100_000)
    lr: float = setting(8e-3, "peak learning rate", above=0, high=1e3)
    lr_end: float = setting(0.02, "final learning rate, as a fraction of the peak", low=0, high=1)
    warmup: int = setting(50, "warm-up steps of the learning rate, limited to a tenth of all steps", low=0)
    optimiser: str = setting("adamw", "adamw, rmsprop, or sgd with Nesterov momentum", choices=OPTIMISERS)
    weight_decay: float = setting(0.01, "weight decay, applied to matrices only", low=0, high=1e30)
    clip: float = setting(1.0, "maximum norm of the gradient", above=0)
    evaluate_every: int = setting(250, "steps between validations", low=1)
    save_every: float = setting(60.0, "seconds between checkpoints", low=0)
    seed: int = setting(0, "random seed", low=0, high=2**32 - 1)
    threads: int = setting(1, "PyTorch threads; 1 is best for small models; 0: one per core", low=0, high=1024)
    device: str = setting("auto", "cpu, cuda, cuda:1, ...; auto: cuda if available, else cpu")
    tensorboard: bool = setting(False, "also write TensorBoard events (needs the package tensorboard)")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = _convert(one, getattr(self, one.name), "settings")
            object.__setattr__(self, one.name, value)  # the dataclass is frozen
            _check(one, value)

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "settings") -> Self:
        """Settings from names and values, with defaults for the rest. Raises BadInput for a wrong name or type."""
        known = {one.name: one for one in fields(cls)}
        for name in values:
            if name not in known:
                raise BadInput(f"{source}: no setting is called {name}; {suggest(name, known)}")
        return cls(**{name: _convert(known[name], value, source) for name, value in values.items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a TOML file. Raises BadInput if it cannot be read or has invalid settings."""
        return cls.of(read_toml(path), str(path))

    def to_toml(self) -> str:
        """All settings as TOML, with their meanings as comments."""
        lines = []
        for one in own_first(type(self)):
            value = getattr(self, one.name)
            shown = list(value) if isinstance(value, tuple) else value
            # A JSON value of these types is a valid TOML value, except that TOML requires DEL to be escaped.
            written = json.dumps(shown, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{one.name} = {written}  # {one.metadata['meaning']}\n")
        return "".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All settings as values that TOML and JSON can hold."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises BadInput if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a TOML file: {error}") from error


def own_first(kind: type[TrainingSettings]) -> list[dataclasses.Field[Any]]:
    """The fields of a settings class, its own before the common ones."""
    return sorted(fields(kind), key=lambda one: one.name in TrainingSettings.__dataclass_fields__)


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "TEXT" if name == "text" else f"--{name.replace('_', '-')}"


def _convert(one: dataclasses.Field[Any], value: Any, source: str) -> Any:
    """The value, converted to the type of its setting. Raises BadInput if that would lose information."""
    kind = type(one.default)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if kind is float and type(value) is int and abs(value) < 2**1000:
        return float(value)
    if type(value) is not kind:
        raise BadInput(f"{source}: {one.name} must be {KINDS[kind]}, not {value!r}")
    return value


def _check(one: dataclasses.Field[Any], value: Any) -> None:
    bounds = one.metadata
    name = flag(one.name)
    if bounds["choices"] and value not in bounds["choices"]:
        raise BadInput(f"{name} cannot be {value!r}; {suggest(str(value), bounds['choices'])}")
    if type(value) is int and value >= 2**63:  # the limit of TOML and PyTorch
        raise BadInput(f"{name} is too large: {str(value)[:20]}...")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise BadInput(f"{name} must be a finite number, not {value}")
    if bounds["low"] is not None and not value >= bounds["low"]:
        raise BadInput(f"{name} must be at least {bounds['low']}, not {value}")
    if bounds["high"] is not None and not value <= bounds["high"]:
        raise BadInput(f"{name} must be at most {bounds['high']}, not {value}")
    if bounds["above"] is not None and not value > bounds["above"]:
        raise BadInput(f"{name} must be greater than {bounds['above']}, not {value}")
