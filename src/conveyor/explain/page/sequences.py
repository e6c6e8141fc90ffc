"""What a network reads, as the caller of `conveyor.explain.page` says it: series of numbers, or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.text import WORD, Vocabulary

CURVES = 12  # channels that are drawn as curves by default; more are a picture, with a row for each
LONGEST = 5_000  # steps that a page runs, see runner.js
GAP = "a network needs a number at every step: fill the gaps first, or cut the series there"


@dataclass(frozen=True)
class Series:
    """A series of numbers, what its channels are, and what should come out.

        Series(temperature, ["temperature"], "°F", mean=52.0, deviation=8.5)
        Series(frames, truth="speaker 3", title="an utterance")

    Arguments:
        values: [T, channels], or [T] for one channel, in the units that are shown. The network reads
            (values - mean) / deviation.
        names, units: of the channels; one unit can stand for all.
        mean, deviation: one number, or one for each channel.
        truth: what should come out, as the kind of output has it; None if it is not known.
        title: what the page calls it.
        steps: names of the steps, such as hours.
        shown: "curves"; "frames" as a picture with a row for each channel, such as of music; "": by their number.

    Raises BadInput for numbers that are missing or not finite, and for names and sizes that do not fit.
    """

    values: Any
    names: Sequence[str] = ()
    units: Sequence[str] | str = ""
    mean: Any = 0.0
    deviation: Any = 1.0
    truth: Any = None
    title: str = ""
    steps: Sequence[Any] = ()
    shown: str = ""

    def __post_init__(self) -> None:
        values = array(self.values, "the values of a series")
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or not values.size:
            raise BadInput(f"a series is [T, channels], with one step at least, not {list(values.shape)}")
        count = values.shape[1]
        names = tuple(map(str, self.names)) or tuple(f"input {k + 1}" for k in range(count))
        units = (self.units,) * count if isinstance(self.units, str) else tuple(self.units)
        for what, given in (("names", names), ("units", units)):
            if len(given) != count:
                raise BadInput(f"the series has {count} channels, but {len(given)} {what}: {', '.join(given)}")
        if len(set(names)) < count:
            raise BadInput(f"two channels are called {next(name for name in names if names.count(name) > 1)}")
        if self.steps and len(self.steps) != len(values):
            raise BadInput(f"the series has {len(values)} steps, but {len(self.steps)} names of steps")
        for t, k in np.argwhere(~np.isfinite(values))[:1].tolist():
            raise BadInput(f"{names[k]} is {values[t, k]} at step {t + 1} of {len(values)}: {GAP}")
        mean, deviation = (by_channel(getattr(self, name), count, name) for name in ("mean", "deviation"))
        if (deviation <= 0).any():
            raise BadInput("a deviation is 0 or negative: leave out a channel that never changes, or give 1")
        if self.shown not in ("", "curves", "frames"):
            raise BadInput(f'shown is "curves", "frames" or "", not {self.shown!r}')
        checked = {"values": values, "names": names, "units": units, "mean": mean, "deviation": deviation}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def inputs(self) -> Tensor:
        """What the network reads, [T, channels]."""
        return torch.from_numpy((self.values - self.mean) / self.deviation).float()

    @property
    def reads(self) -> dict[str, Any]:
        """What the network reads, for a page: all but the values."""
        return {
            "kind": "series",
            "channels": [{"name": n, "unit": u} for n, u in zip(self.names, self.units, strict=True)],
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "shown": self.shown or ("curves" if len(self.names) <= CURVES else "frames"),
        }

    @property
    def data(self) -> dict[str, Any]:
        """The values, for a page."""
        numbers = [float(f"{value:.10g}") for value in self.values.ravel().tolist()]
        return {"title": self.title, "values": numbers, "names": [*map(str, self.steps)] or None}


@dataclass(frozen=True)
class Text:
    """A text, and the text of each token that the network knows.

        Text("to be or not to be", characters)                  # characters[number]: "a"
        Text("to be or not", words, kind="word")                # words[0]: "<unk>", words[1]: " be"

    symbols: the tokens in the order of their numbers, or a `Vocabulary`. kind: "char"; "word", where words include the
    space before them and the token 0 stands for those that are not known; or "byte".

    Raises BadInput for characters that are not among the symbols.
    """

    text: str
    symbols: Sequence[str] | Vocabulary
    kind: str = "char"
    title: str = ""

    def __post_init__(self) -> None:
        vocabulary = (
            self.symbols if isinstance(self.symbols, Vocabulary) else Vocabulary(self.kind, tuple(self.symbols))
        )
        object.__setattr__(self, "symbols", vocabulary)
        if vocabulary.kind not in ("char", "word", "byte"):
            raise BadInput(f'a text is read by "char", "word" or "byte", not by {vocabulary.kind!r}')
        if vocabulary.kind == "char":
            if wide := next((one for one in vocabulary.symbols if len(one) != 1), None):
                raise BadInput(f'{wide!r} is not one character: for tokens that are longer, kind="word"')
            if new := sorted(set(self.text) - set(vocabulary.symbols)):
                raise BadInput(f"the symbols have no {', '.join(map(repr, new[:8]))}: take them out of the text")
        if not len(self.inputs):
            raise BadInput("the text is empty: give some of it")

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens that the network knows."""
        assert isinstance(self.symbols, Vocabulary)
        return self.symbols

    @property
    def inputs(self) -> Tensor:
        """The tokens, [T]."""
        known = {symbol: number for number, symbol in enumerate(self.vocabulary.symbols)}
        if self.vocabulary.kind == "byte":
            return torch.tensor(list(self.text.encode()))
        pieces = WORD.findall(self.text) if self.vocabulary.kind == "word" else self.text
        return torch.tensor([known.get(piece, 0) for piece in pieces])

    @property
    def reads(self) -> dict[str, Any]:
        """What the network reads, for a page."""
        return {
            "kind": "text",
            "vocabulary": {"kind": self.vocabulary.kind, "symbols": list(self.vocabulary.symbols)},
        }


Given = Series | Text


def sequences(inputs: Any) -> list[Given]:
    """What the caller gave, one or several, as series of the same channels or one text. Raises BadInput."""
    each = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not each:
        raise BadInput("there is no input: give a Series, a Text, or numbers [T, channels]")
    made = [one if isinstance(one, Given) else Series(one) for one in each]
    first = made[0]
    if isinstance(first, Text):
        if len(made) > 1:
            raise BadInput("a page of text has one text: others can be typed in it")
        return made
    found: list[Given] = []
    for k, one in enumerate(made):
        if not isinstance(one, Series) or one.names != first.names:
            said = ", ".join(one.names) if isinstance(one, Series) else "text"
            raise BadInput(f"the series have the channels {', '.join(first.names)}, but number {k + 1} has {said}")
        if len(one.values) > LONGEST:
            raise BadInput(
                f"a page runs {LONGEST:,} steps at most, and this series has {len(one.values):,}: give a part of it, "
                f"values[-{LONGEST}:]"
            )
        found.append(one if one.title or len(made) == 1 else replace(one, title=f"example {k + 1}"))
    return found


def array(given: Any, what: str) -> np.ndarray:
    """Numbers as an array of float64. Raises BadInput, which calls them `what`."""
    given = given.detach().cpu().double().numpy() if isinstance(given, Tensor) else given
    try:
        return np.array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} must be numbers: {error}") from None


def by_channel(given: Any, count: int, name: str) -> np.ndarray:
    """One number for each channel, [count]. Raises BadInput."""
    found = array(given, f"the {name}")
    if found.shape not in ((), (1,), (count,)) or not np.isfinite(found).all():
        raise BadInput(f"the {name} must be one finite number, or {count}, one for each channel, not {given}")
    return np.broadcast_to(found, (count,)).copy()
