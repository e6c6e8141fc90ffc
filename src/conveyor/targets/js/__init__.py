"""A step in JavaScript, for pages and exports.

memory_map.py   where its values lie, and when they are computed
emit.py         the step as a module      loops.py   loops, indices and literals
arithmetic.js   the functions that it calls      vocabulary.js   text as tokens
"""

from importlib import resources


def source(name: str) -> str:
    """One of the modules in JavaScript that are here. Raises OSError."""
    return (resources.files("conveyor.targets.js") / name).read_text(encoding="utf-8")
