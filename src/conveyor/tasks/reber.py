"""The embedded Reber grammar: predict the symbols that may come next, in single strings or in a stream of strings.

The last symbol but one of a string equals the second, which takes memory.
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
# Reber's automaton between its B and its E: for each state, the possible symbols and the states they lead to.
INNER = {
    0: {"T": 1, "P": 2},
    1: {"S": 1, "X": 3},
    2: {"T": 2, "V": 4},
    3: {"X": 2, "S": 5},
    4: {"P": 3, "V": 5},
}
INNER_END = 5


class _Grammar(Task):
    """Base class: predict the symbols that may come next."""

    chance: ClassVar[float] = 0.5  # of a model that knows the grammar but guesses the outer T or P
    input_size: ClassVar[int] = len(SYMBOLS)
    output_size: ClassVar[int] = len(SYMBOLS)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        mask = batch.mask[:-1]
        return F.cross_entropy(outputs[:-1][mask], batch.inputs[1:].argmax(-1)[mask])

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (self.legal(outputs, batch) | ~batch.mask).all(0)

    def legal(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Whether, at each step, every possible next symbol has a larger output than every impossible one, [T, B]."""
        may = batch.targets.bool()
        least = outputs.masked_fill(~may, torch.inf).amin(-1)
        most = outputs.masked_fill(may, -torch.inf).amax(-1)
        return least > most


@dataclass(frozen=True)
class Reber(_Grammar):
    """Embedded Reber grammar (Hochreiter & Schmidhuber 1997, experiment 1): B, T or P, a Reber string, T or P, E.

    The T or P before the final E equals the one after the first B. Where two symbols are possible, each has probability
    1/2. A string has at least 9 symbols. The inputs are the whole string, one symbol per step. The targets, [T, B, 7],
    are the sets of possible next symbols; every step but the last counts.

    The loss is the cross-entropy of the actual next symbol, which is the training target of the paper. A step is
    correct if every possible symbol has a larger output than every impossible one.
    """

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch([string(generator) for _ in range(rows)])

    def batch(self, strings: list[str]) -> Batch:
        """These strings as one batch. Raises BadInput for a string that is not of the grammar."""
        return _batch(strings, [successors(string) for string in strings])

    def outer(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Whether the T or P before the final E is predicted correctly, that is, has the larger output, [B]."""
        rows = torch.arange(len(batch.lengths))
        asked = outputs[batch.lengths - 3, rows]  # at the step before the T or P
        came = batch.inputs[batch.lengths - 2, rows, SYMBOLS.index("T")].bool()
        return (asked[:, SYMBOLS.index("T")] > asked[:, SYMBOLS.index("P")]) == came


@dataclass(frozen=True)
class ContinualReber(_Grammar):
    """Continual embedded Reber grammar (Gers, Schmidhuber & Cummins 2000): strings in one stream, without a separator.

    Only the grammar shows where a string ends, and the state is never reset. The metric is the fraction of the stream's
    `strings` with an incorrect step, as defined in `Reber`; after the E of a string, the B of the next is predicted.
    Loss and inputs are as in `Reber`.

    Departures from the paper: its streams end at the first error, after at most 10^6 symbols.
    """

    strings: int = 10
    metric: ClassVar[str] = "string error rate"

    def __post_init__(self) -> None:
        check("the strings of a stream", self.strings, 1)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch([[string(generator) for _ in range(self.strings)] for _ in range(rows)])

    def batch(self, streams: Sequence[Sequence[str]]) -> Batch:
        """These streams, each a list of strings, as one batch. Raises BadInput for a string not of the grammar."""
        nexts = [[symbols for one in stream for symbols in [*successors(one)[:-1], "B"]] for stream in streams]
        return _batch(["".join(stream) for stream in streams], [[*symbols[:-1], ""] for symbols in nexts])

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        number = (batch.inputs[..., SYMBOLS.index("B")].cumsum(0).long() - 1) // 2  # which string; each has two B
        wrong = (~self.legal(outputs, batch) & batch.mask).long()
        found = torch.zeros(self.strings, wrong.shape[1], dtype=torch.long)
        return float(found.scatter_reduce(0, number, wrong, "amax").float().mean())


def _batch(texts: Sequence[str], nexts: Sequence[Sequence[str]]) -> Batch:
    """A batch of texts, with the possible next symbols after each symbol; the last step does not count."""
    inputs, lengths = one_hot(texts, SYMBOLS), torch.tensor([len(text) for text in texts])
    targets = torch.zeros_like(inputs)
    for row, text in enumerate(nexts):
        for step, symbols in enumerate(text):
            targets[step, row, [SYMBOLS.index(symbol) for symbol in symbols]] = 1
    return Batch(inputs, targets, F.pad(before(lengths)[1:], (0, 0, 0, 1)), lengths)


def string(generator: torch.Generator) -> str:
    """A random string of the embedded grammar."""
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
    """The possible next symbols after each symbol of the string: ["TP", "B", "TP", ..., "E", ""].

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
        raise BadInput(
            f"{string} is not of the embedded Reber grammar: B, T or P, a Reber string, the same T or P, and E"
        )
    return [*found, outer, "E", ""]
