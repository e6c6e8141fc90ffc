"""What comes out of a network, as the caller of `conveyor.explain.page` says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conveyor.errors import BadInput, suggest
from conveyor.explain.page.sequences import Given, Series, array, by_channel


@dataclass(frozen=True)
class Classes:
    """One of several classes.

        Classes(["speaker 1", "speaker 2"])                     # judged after the last step
        Classes(["idle", "walking", "running"], at="every")

    The head gives a logit for each name. at: "end" or "every" step. The truth of a series is the number or the name of
    its class; with at="every", one for each step, None where there is none.
    """

    names: Sequence[str]
    at: str = "end"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        _check_names(self.names)
        _check_at(self.at)

    def data(self, _: Given) -> dict[str, Any]:
        """What comes out, for a page."""
        return {"kind": "classes", "names": list(self.names), "at": self.at}

    def truth(self, series: Series) -> Any:
        """The truth of a series, for a page: the number of its class, or of each step. Raises BadInput."""
        if series.truth is None:
            return None
        if self.at == "end":
            return self._number(series.truth)
        given = series.truth.tolist() if hasattr(series.truth, "tolist") else list(series.truth)
        _check_steps(series, len(given))
        return [None if one is None else self._number(one) for one in given]

    def _number(self, given: Any) -> int:
        given = given.item() if hasattr(given, "item") else given
        if isinstance(given, str):
            if given not in self.names:
                raise BadInput(f"the truth is {given}, which is no class: {suggest(given, self.names)}")
            return tuple(self.names).index(given)
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < len(self.names):
            raise BadInput(f"a class is a name, or a number from 0 to {len(self.names) - 1}, not {given!r}")
        return given


@dataclass(frozen=True)
class Numbers:
    """Numbers, such as the next values of a series.

        Numbers(["load"], "kW", mean=310.0, deviation=42.0)     # the head's output × deviation + mean
        Numbers(["temperature"], next=True)                     # what the series itself has one step later

    at: "every" step, or the "end". next: the names are channels of the series, whose units, mean and deviation hold;
    the truth is then the series itself, also where it is drawn anew. Otherwise the truth of a series is [T, names], or
    [names] with at="end", in the units of the output; NaN where it is not known.
    """

    names: Sequence[str]
    units: Sequence[str] | str = ""
    mean: Any = 0.0
    deviation: Any = 1.0
    at: str = "every"
    next: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        _check_names(self.names)
        _check_at(self.at)

    def data(self, given: Given) -> dict[str, Any]:
        """What comes out, for a page. Raises BadInput for channels that the series does not have."""
        count = len(self.names)
        found = {"kind": "numbers", "names": list(self.names), "at": self.at}
        if self.next:
            return {**found, **self._of_channels(given)}
        units = [self.units] * count if isinstance(self.units, str) else list(self.units)
        if len(units) != count:
            raise BadInput(f"there are {count} outputs, but {len(units)} units")
        mean, deviation = by_channel(self.mean, count, "mean"), by_channel(self.deviation, count, "deviation")
        return {**found, "units": units, "mean": mean.tolist(), "deviation": deviation.tolist(), "next": None}

    def _of_channels(self, given: Given) -> dict[str, Any]:
        if not isinstance(given, Series):
            raise BadInput("next=True is for numbers that a series has one step later, not for a text")
        for name in self.names:
            if name not in given.names:
                raise BadInput(f"the series has no channel {name}: {suggest(name, given.names)}")
        at = [given.names.index(name) for name in self.names]
        return {
            "units": [given.units[k] for k in at],
            "mean": given.mean[at].tolist(),
            "deviation": given.deviation[at].tolist(),
            "next": at,
        }

    def truth(self, series: Series) -> Any:
        """The truth of a series, for a page: rows of numbers, or one. Raises BadInput."""
        if series.truth is None or self.next:
            return None
        return _rows(series, series.truth, len(self.names), self.at)


@dataclass(frozen=True)
class Labels:
    """Several things that are each there or not, such as the notes of a chord.

        Labels(["C4", "D4", "E4"])                              # the head gives a logit for each

    The truth of a series is [T, names] of 0 and 1, or [names] with at="end".
    """

    names: Sequence[str]
    at: str = "every"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        _check_names(self.names)
        _check_at(self.at)

    def data(self, _: Given) -> dict[str, Any]:
        """What comes out, for a page."""
        return {"kind": "labels", "names": list(self.names), "at": self.at}

    def truth(self, series: Series) -> Any:
        """The truth of a series, for a page: rows of 0 and 1, or one. Raises BadInput."""
        return None if series.truth is None else _rows(series, series.truth, len(self.names), self.at)


@dataclass(frozen=True)
class NextToken:
    """The next token of a text: the head gives a logit for each symbol."""

    def data(self, given: Given) -> dict[str, Any]:
        """What comes out, for a page. Raises BadInput for a series, which has no tokens."""
        if isinstance(given, Series):
            raise BadInput("the next token is for a text; the next values of a series: Numbers(names, next=True)")
        return {"kind": "token"}

    def truth(self, _: Series) -> None:
        """None: the truth is the text."""


Outcome = Classes | Numbers | Labels | NextToken


def _rows(series: Series, given: Any, count: int, at: str) -> Any:
    """Rows of numbers for JSON, None where there is none."""
    found = array(given, "the truth")
    if at == "end":
        if found.shape not in ((count,), () if count == 1 else (count,)):
            raise BadInput(f"the truth of a series is {count} numbers, not {list(found.shape)}")
        return _plain(found.reshape(1, count))[0]
    found = found[:, None] if found.ndim == 1 and count == 1 else found
    _check_steps(series, len(found) if found.ndim else 0)
    if found.shape != (len(series.values), count):
        raise BadInput(f"the truth of a series is {[len(series.values), count]}, not {list(found.shape)}")
    return _plain(found)


def _plain(rows: np.ndarray) -> list[list[float] | None]:
    return [[float(f"{one:.10g}") for one in row] if np.isfinite(row).all() else None for row in rows.tolist()]


def _check_steps(series: Series, count: int) -> None:
    if count != len(series.values):
        raise BadInput(f"the series has {len(series.values)} steps, but its truth {count}")


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise BadInput("the outputs have no names: give a name for each")


def _check_at(at: str) -> None:
    if at not in ("end", "every"):
        raise BadInput(f'at is "end" or "every", not {at!r}')
