"""Generates the page of all cells: `python -m conveyor.zoo.page > docs/reference/cells.md`."""

import inspect
import textwrap

from torch import nn

from conveyor import zoo
from conveyor.cell import Affine, Cell
from conveyor.zoo import CELLS

INPUT, HIDDEN = 32, 128  # the sizes for which parameters are counted
# Without a name on the command line: cells with more inputs than x, close variants of other cells, and networks.
FURTHER: list[type[nn.Module]] = [
    zoo.ProjectedLSTM,
    zoo.CoupledDepthGatedLSTM,
    zoo.GateOutsideGridLSTM,
    zoo.DepthLSTM,
    zoo.ImageGridLSTM,
    zoo.ConditionedLSTM,
    zoo.SoftAttention,
    zoo.HardAttention,
    zoo.Decoder,
    zoo.Captioner,
    zoo.Translator,
    zoo.DRAW,
    zoo.AttentiveDRAW,
    zoo.DrawNetwork,
    zoo.VRNNCell,
    zoo.VRNN,
    zoo.STORNCell,
    zoo.STORN,
]
HEAD = f"""# The cells and networks

Generated from the classes in `src/conveyor/zoo/` by `python -m conveyor.zoo.page > docs/reference/cells.md`.

In the equations, σ is the logistic function, `*` is the elementwise product, `·` is the matrix product and `[a, b]` is
the concatenation of a and b. The W of `W · [h, x]` is stored as one block for h, [hidden, hidden], and one for x,
[hidden, input]. The first state is the output unless the cell says otherwise. Initial states are zero unless given.
Each docstring is followed by the step as it runs. The table has the number of a cell's affine maps (each with a W, and
most with a bias) and of its parameters for input {INPUT} and hidden {HIDDEN}.

| name | class | states | maps | parameters | |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The text of the page: all cells of `CELLS` in a table and one by one, then FURTHER."""
    made = {name: cell(INPUT, HIDDEN) for name, cell in CELLS.items()}
    rows, sections = (map(part, made, made.values()) for part in (_row, _section))
    further = (_section(kind.__name__, kind) for kind in FURTHER)
    return "".join([HEAD, *rows, FURTHER_HEAD, *map(_item, FURTHER), *sections, *further])


FURTHER_HEAD = """
Further cells, with more inputs than x or closely related to another cell, and networks built from cells:

"""


def _item(kind: type[nn.Module]) -> str:
    return f"- [{kind.__name__}](#{kind.__name__.lower()}): {_about(kind).partition(chr(10))[0]}\n"


def _row(name: str, cell: Cell) -> str:
    maps = sum(isinstance(module, Affine) for module in cell.modules())
    numbers = sum(parameter.numel() for parameter in cell.parameters())
    about, states = _about(type(cell)).partition("\n")[0], ", ".join(cell.state)
    return f"| [{name}](#{name}) | {type(cell).__name__} | {states} | {maps} | {numbers:,} | {about} |\n"


def _section(name: str, what: Cell | type[nn.Module]) -> str:
    kind = what if isinstance(what, type) else type(what)
    text = f"\n## {name}\n\n```text\n{_about(kind)}\n```\n"
    if issubclass(kind, Cell):
        text += f"\n```python\n{textwrap.dedent(inspect.getsource(kind.step))}```\n"
    return text


def _about(kind: type[nn.Module]) -> str:
    return inspect.getdoc(kind) or ""


if __name__ == "__main__":
    print(page(), end="")
