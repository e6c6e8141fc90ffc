"""Saturation of gates: the fractions of time that each unit is closed and open (Karpathy et al. 2015)."""

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
    """The fractions of time that each unit of a gate is near 0 (`left`) and near 1 (`right`), [units] each."""

    left: Tensor
    right: Tensor


def gates(cell: Cell) -> tuple[str, ...]:
    """The names of the gates of a step: the values computed by a sigmoid, which lie between 0 and 1.

        gates(conveyor.zoo.LSTM(4, 8))          # ("f", "i", "o")

    They are found in the traced step, so this works for your own cells too. Raises BadInput if the step cannot be
    traced, or the shape of an argument is not known.
    """
    try:
        graph = compile(cell).traced
    except (CannotCompile, ValueError) as error:
        raise BadInput(f"the gates of {type(cell).__name__} cannot be told from its step: {error}") from error
    return tuple(node.name for node in graph.nodes if node.op == "sigmoid" and node.name)


def saturation(
    model: LanguageModel | Trained, text: str | bytes | Tensor, low: float = 0.1, high: float = 0.9
) -> dict[str, list[Saturation]]:
    """The fractions of time that each gate is left-saturated (below `low`) and right-saturated (above `high`).

        found = saturation(load(Path("runs/pydoc")), text)
        found["f"][0].right                     # forget gates of the first layer: [units]; 1: a unit that never forgets

    `text`: a text, or token numbers [T]. Returns a Saturation per layer, by gate; {} for a cell without gates.
    A unit is a point (left, right) in the plots of Karpathy, Johnson & Fei-Fei 2015, "Visualizing and Understanding
    Recurrent Networks", which also has the bounds 0.1 and 0.9. Raises BadInput as `record` and `gates` do.
    """
    reader, tokens, _ = resolve(model, text)
    if tokens.dim() != 1:
        raise BadInput(f"one text is expected, tokens [T], not {list(tokens.shape)}")
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
