"""Finds cells by name."""

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from conveyor.cell import Cell
from conveyor.errors import BadInput, suggest
from conveyor.zoo import CELLS


def find(name: str) -> type[Cell]:
    """The class of a cell: by its name in `CELLS`, or `file.py:ClassName` for a user's own.

        find("gru"), find("leaky.py:Leaky")

    Raises BadInput if there is no such cell, or the file cannot be imported.
    """
    path, separator, cls = name.rpartition(":")
    if separator and path.endswith(".py"):
        return _load(Path(path), cls)
    if name.endswith(".py"):
        raise BadInput(f"{name} is a file: name the class in it, {name}:ClassName")
    if name not in CELLS:
        raise BadInput(f"no cell is called {name}: {suggest(name, CELLS)}; write your own as file.py:ClassName")
    return CELLS[name]


def create(name: str, input_size: int, hidden_size: int) -> Cell:
    """An instance of the cell that `find` finds by this name. Raises BadInput."""
    kind = find(name)
    try:
        return kind(input_size, hidden_size)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name}: {error}") from error
    except Exception as error:  # a user's own cell can fail in any way
        raise BadInput(f"{name} cannot be created: {type(error).__name__}: {error}") from error


def imported(path: Path) -> dict[str, Any]:
    """What a user's file defines, by name. Raises BadInput if there is no such file, or it fails."""
    if not path.is_file():
        raise BadInput(f"the file {path} does not exist")
    module_name = f"conveyor_cell_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that the cell can be pickled and its source found
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's own file can fail in any way
        raise BadInput(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return vars(module)


def _load(path: Path, name: str) -> type[Cell]:
    cells = {
        key: value
        for key, value in imported(path).items()
        if inspect.isclass(value) and issubclass(value, Cell) and value is not Cell
    }
    if name not in cells:
        raise BadInput(f"{path} has no cell called {name}: {suggest(name, cells) if cells else 'there are none in it'}")
    return cells[name]
