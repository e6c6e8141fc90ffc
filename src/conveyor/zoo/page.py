"""The page of all cells, from the cells: `python -m conveyor.zoo.page > docs/cells.md`."""

import inspect
import textwrap

from conveyor.affine import Affine
from conveyor.cell import Cell
from conveyor.zoo import CELLS

INPUT, HIDDEN = 32, 128  # the sizes that the page's counts are of
HEAD = f"""# The cells

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
    return HEAD + "".join(map(_row, made, made.values())) + "".join(map(_section, made, made.values()))


def _row(name: str, cell: Cell) -> str:
    maps = sum(isinstance(module, Affine) for module in cell.modules())
    numbers = sum(parameter.numel() for parameter in cell.parameters())
    about, states = _about(cell).partition("\n")[0], ", ".join(cell.state)
    return f"| [{name}](#{name}) | {type(cell).__name__} | {states} | {maps} | {numbers:,} | {about} |\n"


def _section(name: str, cell: Cell) -> str:
    step = textwrap.dedent(inspect.getsource(type(cell).step))
    return f"\n## {name}\n\n```text\n{_about(cell)}\n```\n\n```python\n{step}```\n"


def _about(cell: Cell) -> str:
    return inspect.getdoc(type(cell)) or ""


if __name__ == "__main__":
    print(page(), end="")
