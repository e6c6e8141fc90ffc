"""What a layer is made of: its cells, and the maps of the input for the lowest."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from conveyor.cell import Affine
from conveyor.cell.cell import Cell
from conveyor.layer import foreign


def check(cell: type[Cell], options: dict[str, Any], arguments: list[str]) -> None:
    """Raises TypeError for what is no class of a cell, and for options that neither it nor the layer takes."""
    if isinstance(cell, foreign.Adoption):
        return
    if not (isinstance(cell, type) and issubclass(cell, Cell)):
        cure = ": a module becomes a layer by conveyor.Recurrent.of" if isinstance(cell, nn.Module) else ""
        raise TypeError(f"the cell is a class made from conveyor.Cell, such as conveyor.zoo.LSTM, not {cell!r}{cure}")
    parameters = list(inspect.signature(cell).parameters.values())[2:]
    known = [parameter.name for parameter in parameters]
    unknown = [name for name in options if name not in known]
    if unknown and not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        raise TypeError(
            f"neither the layer nor {cell.__name__} takes {', '.join(unknown)}: the layer takes "
            f"{', '.join(arguments)}, the cell {', '.join(known) or 'no option'}"
        )


def ground(cell: Cell, bias: bool | None) -> nn.ModuleDict:
    """A map of the input for every stream that comes from the layer below, of which the lowest has none."""
    widths = {name: cell.widths[name] for name in cell.below}
    return nn.ModuleDict({name: nn.Linear(cell.input_size, width, bias is not False) for name, width in widths.items()})


def check_bias(bias: Any) -> bool | None:
    """None, or a bool. Raises TypeError for anything else."""
    if bias not in (None, False, True):
        raise TypeError(f"bias is True, False, or None for what the cell has by itself, not {bias!r}")
    return None if bias is None else bool(bias)


def cell(kind: type[Cell], input_size: int, hidden_size: int, bias: bool | None, options: dict[str, Any]) -> Cell:
    """A cell of the kind, with the biases that are asked for."""
    takes_it = bias is not None and "bias" in inspect.signature(kind).parameters
    made = kind(input_size, hidden_size, **(options | {"bias": bias} if takes_it else options))
    maps = [module for module in made.modules() if isinstance(module, Affine)]
    for module in maps if bias is False else ():
        module.bias = None
    if bias is not None and not takes_it and not (any(m.bias is not None for m in maps) if bias else maps):
        raise TypeError(
            f"bias={bias} says nothing to {kind.__name__}, which has no {'bias' if maps else 'affine map'}: leave it "
            "out, or let the cell's __init__ take bias and hand it to its maps, self.affine(..., bias=bias)"
        )
    return made
