"""Answers the queries of a page about the training text of a model: slices, and passages similar to a span."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isfinite
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.record import record, token_texts
from conveyor.explain.measure.similar import AROUND, Pattern, find_similar, pattern
from conveyor.language.trained import Trained

MOST, MOST_UNITS = 2_000, 64  # the most tokens of a slice, and units of a search
LONGEST, SPAN = 20_000, 200  # the most tokens of a text, and of a span in it
BEFORE = 100  # tokens that are read before a passage, so that its values are nearly those in the whole text


class Corpus:
    """The text of one run. Every answer is JSON for a page; invalid queries raise BadInput."""

    def __init__(self, trained: Trained):
        self.trained = trained
        self.searching = Lock()  # one search at a time, since each uses the whole machine

    @cached_property
    def tokens(self) -> Tensor:
        """The whole text; the held-out part is at its end. Raises BadInput if the text of the run has changed."""
        return self.trained.vocabulary.encode(self.trained.own_text())

    def slice(self, start: int, count: int) -> dict[str, Any]:
        """A slice of the text: {start, total, tokens: [their texts]}."""
        start, count = checked_int("start", start, 0, len(self.tokens)), checked_int("count", count, 1, MOST)
        return {"start": start, "total": len(self.tokens), "tokens": self.texts(start, start + count)}

    def texts(self, start: int, end: int) -> list[str]:
        """The texts of the tokens [start, end)."""
        return list(token_texts(self.tokens[start:end], self.trained.vocabulary))

    def similar(
        self, text: str, first: int, last: int, value: str, layer: int, units: Sequence[int], top: int = 12
    ) -> dict[str, Any]:
        """The passages of the text in which units behave as in a span, tokens [first, last), of another text.

        {total, span: [[by unit] by token], matches: [{start, score, at, length, tokens, values: [[by unit] by token]}]}
        The most similar come first. `tokens` include surroundings, in which the passage starts at `at`. Values are
        computed from 100 tokens earlier on, and null if not finite. At most 64 units.
        """
        read = self.encode(text)
        span = checked_int("first", first, 0, len(read) - 1), checked_int("last", last, 1, len(read))
        if not 0 < span[1] - span[0] <= SPAN:
            raise BadInput(f"a span has 1 to {SPAN} tokens: choose fewer")
        if not (isinstance(value, str) and isinstance(units, list) and units):
            raise BadInput("no unit is chosen: choose one at least")
        if len(units) > MOST_UNITS:
            raise BadInput(f"at most {MOST_UNITS} units can be searched for at once, not {len(units)}")
        chosen = [checked_int("a unit", unit, 0, 1 << 20) for unit in units]
        layer = checked_int("layer", layer, 0, self.trained.model.rnn.num_layers - 1)
        with self.searching:
            looked_for = pattern(self.trained.model, read, span, value, layer, chosen=chosen)
            wanted = looked_for.activations[:, chosen]
            if not bool(wanted.isfinite().all()):
                raise BadInput(f"{value} is not finite throughout the span: choose other units or another span")
            matches = find_similar(
                self.trained.model, self.tokens, looked_for, by="near", top=checked_int("top", top, 1, 50)
            )
            matches = [match for match in matches if isfinite(match.score)]
            values = self.values(looked_for, [match.start for match in matches])
        return {
            "total": len(self.tokens),
            "span": rounded(wanted),
            "matches": [
                {
                    "start": match.start,
                    "score": round(match.score, 4),
                    "at": min(AROUND, match.start),
                    "length": match.end - match.start,
                    "tokens": self.texts(max(0, match.start - AROUND), match.end + AROUND),
                    "values": rounded(found),
                }
                for match, found in zip(matches, values, strict=True)
            ],
        }

    def encode(self, text: str) -> Tensor:
        """The tokens of a text [T]. Raises BadInput if it is empty or too long."""
        if not isinstance(text, str) or len(text) > 8 * LONGEST:
            raise BadInput(f"the text is too long: at most {LONGEST:,} tokens")
        known = set(self.trained.vocabulary.symbols)
        if self.trained.vocabulary.kind == "char":  # like the page, which leaves out unknown characters
            text = "".join(character for character in text if character in known)
        tokens = self.trained.vocabulary.encode(text.encode(errors="replace"))
        if not 0 < len(tokens) <= LONGEST:
            raise BadInput(f"a text of 1 to {LONGEST:,} tokens is expected, not of {len(tokens):,}")
        return tokens

    def values(self, looked_for: Pattern, starts: Sequence[int]) -> list[Tensor]:
        """The values of the chosen units around passages, [tokens, units] each."""
        if not starts:
            return []
        ends = [min(len(self.tokens), start + len(looked_for.activations) + AROUND) for start in starts]
        begins = [max(0, start - AROUND - BEFORE) for start in starts]
        rows = [self.tokens[begin:end] for begin, end in zip(begins, ends, strict=True)]
        found = record(self.trained.model, torch.nn.utils.rnn.pad_sequence(rows)).values[looked_for.value]
        chosen = found[looked_for.layer].flatten(2)[..., list(looked_for.chosen)]  # [T, matches, units]
        return [
            chosen[max(0, start - AROUND) - begin : end - begin, row]
            for row, (start, begin, end) in enumerate(zip(starts, begins, ends, strict=True))
        ]


def checked_int(name: str, value: Any, low: int, high: int) -> int:
    """The value, if it is an integer within bounds. Raises BadInput."""
    if type(value) is not int or not low <= value <= high:
        raise BadInput(f"{name} is a whole number from {low} to {high}, not {str(value)[:40]}")
    return value


def rounded(values: Tensor) -> list[list[float | None]]:
    """Rounded values for JSON, None where not finite."""
    return [[round(number, 4) if isfinite(number) else None for number in row] for row in values.double().tolist()]
