"""The embedded Reber grammar: which symbols may come next, the last but one of them as the second was."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Reber(Task):
    """Embedded Reber grammar (Hochreiter & Schmidhuber 1997, experiment 1): B, T or P, a Reber string, T or P, E.

    The T or P before the end is the one after the beginning; where two symbols may come, each comes with probability
    1/2. A string has 9 symbols or more. Inputs are the whole string, one symbol a step; targets, [T, B, 7], are the
    symbols that may come next, judged at every step but the last.

    The loss is the cross-entropy of the symbol that does come next (of the steps but the last), since that is what the
    paper's networks are told. A step is right if no output of a symbol that may not come is as large as that of one
    that may.
    """

    chance: ClassVar[float] = 0.5  # who knows the grammar, and guesses the outer T or P
    input_size: ClassVar[int] = len(SYMBOLS)
    output_size: ClassVar[int] = len(SYMBOLS)

    def draw(self, rows: int, generator: torch.Generator) -> Batch:
        check("rows", rows, 1)
        return self.batch([string(generator) for _ in range(rows)])

    def batch(self, strings: list[str]) -> Batch:
        """These strings side by side. Raises BadInput for one that is not of the grammar."""
        inputs, lengths = one_hot(strings, SYMBOLS), torch.tensor([len(string) for string in strings])
        targets = torch.zeros_like(inputs)
        for row, string in enumerate(strings):
            for step, symbols in enumerate(successors(string)):
                targets[step, row, [SYMBOLS.index(symbol) for symbol in symbols]] = 1
        judged = F.pad(before(lengths)[1:], (0, 0, 0, 1))
        return Batch(inputs, targets, judged, lengths)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        judged = batch.judged[:-1]
        return F.cross_entropy(outputs[:-1][judged], batch.inputs[1:].argmax(-1)[judged])

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (self.legal(outputs, batch) | ~batch.judged).all(0)

    def legal(self, outputs: Tensor, batch: Batch) -> Tensor:
        """At which steps, [T, B], every symbol that may come next has a larger output than every one that may not."""
        may = batch.targets.bool()
        least = outputs.masked_fill(~may, torch.inf).amin(-1)
        most = outputs.masked_fill(may, -torch.inf).amax(-1)
        return least > most

    def outer(self, outputs: Tensor, batch: Batch) -> Tensor:
        """In which rows, [B], the T or P before the end is told rightly: its output is larger than the other's."""
        rows = torch.arange(len(batch.lengths))
        asked = outputs[batch.lengths - 3, rows]  # at the step before the T or P
        came = batch.inputs[batch.lengths - 2, rows, SYMBOLS.index("T")].bool()
        return (asked[:, SYMBOLS.index("T")] > asked[:, SYMBOLS.index("P")]) == came


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
