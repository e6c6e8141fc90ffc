"""Our docstrings as Sphinx reads them: what is indented is code, and `Arguments:` is a list of definitions.

Arguments:
    name, other: what it is,
        on further lines, too.
"""

import re
from collections.abc import Iterator

ARGUMENTS = re.compile(r"(Arguments|Attributes):$")
ITEM = re.compile(r"    ([\w, *]+): (.*)")


def escaped(line: str) -> str:
    """The line, in which a word that ends with _ is no link; within backticks it is none anyway."""
    parts = line.split("`")
    parts[::2] = (re.sub(r"(?<=\w)_(?!\w)", r"\\_", part) for part in parts[::2])
    return "`".join(parts)


def converted(lines: list[str]) -> Iterator[str]:
    """The lines in reStructuredText."""
    inside, code, before = False, False, ""
    for line in lines:
        indented = line.startswith("    ")
        if ARGUMENTS.match(line):
            inside = True
            yield from (f"**{line[:-1]}**", "")
        elif inside and (item := ITEM.match(line)):
            yield from (", ".join(f"``{name.strip()}``" for name in item[1].split(",")), f"    {escaped(item[2])}")
        elif inside and indented:
            yield escaped(line[4:])
        else:
            if indented and not code and not before:
                yield from (".. code-block:: python", "")
            inside, code = inside and not line, indented or (code and not line)
            yield line if code else escaped(line)
        before = line.strip()


def process(app, what, name, obj, options, lines):
    """Replaces the lines of one docstring."""
    lines[:] = converted(lines)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
