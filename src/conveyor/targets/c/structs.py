"""The structs that Python fills and C reads, from their one declaration in a header."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from conveyor.targets.c.build import read

Pointer = ctypes.c_void_p


@cache
def struct(header: Path, name: str) -> Any:
    """The class of a struct whose members are pointers, functions or numbers of the type idx."""
    text = re.sub(r"/\*.*?\*/", "", read(header), flags=re.DOTALL)
    found = re.search(rf"struct {name} \{{([^}}]*)\}};|typedef struct \{{([^}}]*)\}} {name};", text)
    assert found is not None, f"{header.name} declares no struct {name}"
    fields = [field for line in (found[1] or found[2]).split(";") for field in _members(line.strip())]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def _members(line: str) -> Iterator[tuple[str, Any]]:
    functions = re.findall(r"\(\*(\w+)\)\(", line)
    if functions:
        yield from ((name, Pointer) for name in functions)
    elif line.startswith("idx "):
        yield from ((name.strip(), ctypes.c_ssize_t) for name in line[4:].split(","))
    elif line:
        pointer = re.fullmatch(r".*\*(?:const )?(\w+)", line)
        assert pointer is not None, f"a member that Python cannot fill: {line}"
        yield pointer[1], Pointer
