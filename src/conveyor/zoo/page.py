"""The page of all cells, from the cells: `python -m conveyor.zoo.page > docs/cells.md`."""

import inspect
import textwrap

from torch import nn

from conveyor import zoo
from conveyor.affine import Affine
from conveyor.cell import Cell
from conveyor.zoo import CELLS

INPUT, HIDDEN = 32, 128  # the sizes that the page's counts are of
# What has no name of its own on the command line: cells that take more than x, or are nearly another, and networks.
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

Made from the classes in `src/conveyor/zoo/` by `python -m conveyor.zoo.page > docs/cells.md`.

In the equations, σ is the logistic function, `*` multiplies element by element, `·` is a matrix product and `[a, b]`
stands for a and b one after the other. `W · [h, x]` is kept as one block of W for h and one for x, [hidden, hidden] and
[hidden, input]. The first state is the output unless the cell says otherwise. Every initial state is zero where none is
given. Under each docstring stands the step as it is run. Counted are a cell's maps (each with a W, and mostly with a
bias) and the numbers in them for input {INPUT} and hidden {HIDDEN}.

| name | class | states | maps | numbers | |
|---|---|---|---|---|---|
"""


def page() -> str:
    """All cells of `CELLS`, in a table and one by one."""
    made = {name: cell(INPUT, HIDDEN) for name, cell in CELLS.items()}
    rows, sections = (map(part, made, made.values()) for part in (_row, _section))
    further = (_section(kind.__name__, kind) for kind in FURTHER)
    return "".join([HEAD, *rows, FURTHER_HEAD, *map(_item, FURTHER), *sections, *further])


FURTHER_HEAD = """
Further cells, which take more than x or are nearly another, and networks built of cells:

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
