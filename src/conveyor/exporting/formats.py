"""The formats by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from conveyor.errors import BadInput, suggest
from conveyor.exporting.format import Format

# Where each is; its module has it as FORMAT.
FORMATS = {
    "c": "conveyor.exporting.c",
    "onnx": "conveyor.exporting.onnx",
    "js": "conveyor.exporting.js",
}


def format_of(name: str) -> Format:
    """The format of this name. Raises BadInput if there is none."""
    if not isinstance(name, str) or name not in FORMATS:
        raise BadInput(f"there is no format {name}: {suggest(str(name), FORMATS)}")
    found: Format = importlib.import_module(FORMATS[name]).FORMAT
    return found


def check_options(form: Format, options: dict[str, Any]) -> None:
    """Raises BadInput for an option that the format does not have."""
    known = list(inspect.signature(form.write).parameters)[2:]
    for name in options:
        if name not in known:
            has = suggest(name, known) if known else "it has none"
            raise BadInput(f"the format {form.name} has no option {name}: {has}")


def having(operation: str) -> str:
    """Which formats have an operation, as a phrase."""
    names = [name for name in FORMATS if operation in format_of(name).operations]
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} it" if names else "no format has it"
