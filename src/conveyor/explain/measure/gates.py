"""How far gates are open: the fractions of time that each unit is shut, and open (Karpathy et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.errors import BadInput
from conveyor.explain.measure.record import Layers, read_through, resolve
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained
from conveyor.layer.compilation import compile


@dataclass(frozen=True)
class Saturation:
    """Of each unit of a gate, the fraction of the time that it is near 0 and near 1, [units] each."""

    left: Tensor
    right: Tensor


def gates(cell: Cell) -> tuple[str, ...]:
    """The values of a step that a logistic function gives: they lie between 0 and 1.

        gates(conveyor.zoo.LSTM(4, 8))          # ("f", "i", "o")

    They are found in the equations, so a person's own cell has them too. Raises BadInput where the compiler cannot
    read the step, or does not know the shape of what it takes besides x.
    """
    try:
        graph = compile(cell).traced
    except (CannotCompile, ValueError) as error:
        raise BadInput(f"the gates of {type(cell).__name__} cannot be told from its step: {error}") from error
    return tuple(node.name for node in graph.nodes if node.op == "sigmoid" and node.name)


def saturation(
    model: LanguageModel | Trained, text: str | bytes | Tensor, low: float = 0.1, high: float = 0.9
) -> dict[str, list[Saturation]]:
    """How much of the time each gate is left-saturated (below `low`) and right-saturated (above `high`).

        found = saturation(load(Path("runs/pydoc")), text)
        found["f"][0].right                     # forget gates of the first layer: [units]; 1: a unit that never forgets

    `text`: a text, or numbers of tokens [T]. A unit is a point (left, right) of the plots of Karpathy, Johnson &
    Fei-Fei 2015, "Visualizing and Understanding Recurrent Networks", whose bounds .1 and .9 are. By gate and layer;
    none for a cell without gates. Raises BadInput as `record` and `gates` do.
    """
    reader, tokens, _ = resolve(model, text)
    if tokens.dim() != 1:
        raise BadInput(f"one text is wanted, tokens [T], not {list(tokens.shape)}")
    names = gates(reader.rnn.cell)
    shut: dict[str, Layers] = {}
    wide: dict[str, Layers] = {}
    for places, values in read_through(reader, tokens):
        real = places >= 0
        for name in names:
            pieces = [layer.cpu()[real] for layer in values[name]]  # [tokens, units]
            _add(shut, name, [(piece < low).sum(0) for piece in pieces])
            _add(wide, name, [(piece > high).sum(0) for piece in pieces])
    return {
        name: [Saturation(a / len(tokens), b / len(tokens)) for a, b in zip(shut[name], wide[name], strict=True)]
        for name in names
    }


def _add(sums: dict[str, Layers], name: str, more: Layers) -> None:
    sums[name] = [torch.add(a, b) for a, b in zip(sums[name], more, strict=True)] if name in sums else more
