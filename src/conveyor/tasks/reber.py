"""The embedded Reber grammar: which symbols may come next, the last but one of them as the second was.

One string at a time, or a stream of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import Batch, Task, before, check, one_hot

SYMBOLS = "BTPSXVE"
# Reber's automaton between its B and its E: from each state, the symbols that may come and the states they lead to.
INNER = {
    0: {"T": 1, "P": 2},
    1: {"S": 1, "X": 3},
    2: {"T": 2, "V": 4},
    3: {"X": 2, "S": 5},
    4: {"P": 3, "V": 5},
}
INNER_END = 5


class _Grammar(Task):
    """Strings of which every next symbol is to be told, as far as it can be."""

    chance: ClassVar[float] = 0.5  # who knows the grammar, and guesses the outer T or P
    input_size: ClassVar[int] = len(SYMBOLS)
    output_size: ClassVar[int] = len(SYMBOLS)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        mask = batch.mask[:-1]
        return F.cross_entropy(outputs[:-1][mask], batch.inputs[1:].argmax(-1)[mask])

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (self.legal(outputs, batch) | ~batch.mask).all(0)

    def legal(self, outputs: Tensor, batch: Batch) -> Tensor:
        """At which steps, [T, B], every symbol that may come next has a larger output than every one that may not."""
        may = batch.targets.bool()
        least = outputs.masked_fill(~may, torch.inf).amin(-1)
        most = outputs.masked_fill(may, -torch.inf).amax(-1)
        return least > most


@dataclass(frozen=True)
class Reber(_Grammar):
    """Embedded Reber grammar (Hochreiter & Schmidhuber 1997, experiment 1): B, T or P, a Reber string, T or P, E.

    The T or P before the end is the one after the beginning; where two symbols may come, each comes with probability
    1/2. A string has 9 symbols or more. Inputs are the whole string, one symbol a step; targets, [T, B, 7], are the
    symbols that may come next, judged at every step but the last.

    The loss is the cross-entropy of the symbol that does come next (of the steps but the last), since that is what the
    paper's networks are told. A step is right if no output of a symbol that may not come is as large as that of one
    that may.
    """

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch([string(generator) for _ in range(rows)])

    def batch(self, strings: list[str]) -> Batch:
        """These strings side by side. Raises BadInput for one that is not of the grammar."""
        return _batch(strings, [successors(string) for string in strings])

    def outer(self, outputs: Tensor, batch: Batch) -> Tensor:
        """In which rows, [B], the T or P before the end is told rightly: its output is larger than the other's."""
        rows = torch.arange(len(batch.lengths))
        asked = outputs[batch.lengths - 3, rows]  # at the step before the T or P
        came = batch.inputs[batch.lengths - 2, rows, SYMBOLS.index("T")].bool()
        return (asked[:, SYMBOLS.index("T")] > asked[:, SYMBOLS.index("P")]) == came


@dataclass(frozen=True)
class ContinualReber(_Grammar):
    """Continual embedded Reber grammar (Gers, Schmidhuber & Cummins 2000): strings one after the other, in one stream.

    Nothing tells where one ends and the next begins but the grammar, and no state is set back. Judged along the stream:
    the metric is the part of its `strings` in which a step is wrong, as `Reber` says what is; after the E of a string
    the B of the next is to be told. Loss and inputs are those of `Reber`.

    Departures: the paper's streams end at the first error, and go on for 10^6 symbols at most.
    """

    strings: int = 10
    metric: ClassVar[str] = "strings wrong"

    def __post_init__(self) -> None:
        check("the strings of a stream", self.strings, 1)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch([[string(generator) for _ in range(self.strings)] for _ in range(rows)])

    def batch(self, streams: Sequence[Sequence[str]]) -> Batch:
        """These streams side by side, each of strings. Raises BadInput for one that is not of the grammar."""
        nexts = [[symbols for one in stream for symbols in [*successors(one)[:-1], "B"]] for stream in streams]
        return _batch(["".join(stream) for stream in streams], [[*symbols[:-1], ""] for symbols in nexts])

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        number = (batch.inputs[..., SYMBOLS.index("B")].cumsum(0).long() - 1) // 2  # of the string: each has two B
        wrong = (~self.legal(outputs, batch) & batch.mask).long()
        found = torch.zeros(self.strings, wrong.shape[1], dtype=torch.long)
        return float(found.scatter_reduce(0, number, wrong, "amax").float().mean())


def _batch(texts: Sequence[str], nexts: Sequence[Sequence[str]]) -> Batch:
    """Texts side by side, with the symbols that may come next after each of theirs; the last step is not judged."""
    inputs, lengths = one_hot(texts, SYMBOLS), torch.tensor([len(text) for text in texts])
    targets = torch.zeros_like(inputs)
    for row, text in enumerate(nexts):
        for step, symbols in enumerate(text):
            targets[step, row, [SYMBOLS.index(symbol) for symbol in symbols]] = 1
    return Batch(inputs, targets, F.pad(before(lengths)[1:], (0, 0, 0, 1)), lengths)


def string(generator: torch.Generator) -> str:
    """A string of the embedded grammar."""
    coins = iter(torch.randint(2, (64,), generator=generator).tolist())
    outer = "TP"[next(coins)]
    inner, state = "", 0
    while state != INNER_END:
        coin = next(coins, None)
        if coin is None:  # 64 choices are nearly always enough
            coin = int(torch.randint(2, (), generator=generator))
        symbol, state = list(INNER[state].items())[coin]
        inner += symbol
    return f"B{outer}B{inner}E{outer}E"


def successors(string: str) -> list[str]:
    """After each symbol of the string, the symbols that may come next: ["TP", "B", "TP", ..., "E", ""].

    Raises BadInput if the string is not of the grammar.
    """
    outer = string[1:2]
    found, state = ["TP", "B", "TP"], 0
    for symbol in string[3:-3]:
        if symbol not in INNER.get(state, ()):
            raise BadInput(f"{string} is not of the embedded Reber grammar: {symbol} after {string[: len(found)]}")
        state = INNER[state][symbol]
        found.append("E" if state == INNER_END else "".join(INNER[state]))
    if state != INNER_END or outer not in ("T", "P") or (string[:3], string[-3:]) != (f"B{outer}B", f"E{outer}E"):
        raise BadInput(f"{string} is not of the embedded Reber grammar: it is B, T or P, a Reber string, the same, E")
    return [*found, outer, "E", ""]
