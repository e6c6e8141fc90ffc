"""The variants of the essay: diagram and equations of each cell, and its differences from the LSTM.

Pages read them from web/variants.json, which `python -m conveyor.explain.page.variants` writes: laying out eight
diagrams takes ten seconds, and the result never changes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from conveyor.explain.circuit import Circuit
from conveyor.explain.difference import changed, gone
from conveyor.explain.drawing.diagram import draw
from conveyor.explain.formula import equations, symbol
from conveyor.explain.page import bundle
from conveyor.layer.compilation import compile
from conveyor.zoo import CELLS

SIZES = (4, 8)  # eight units give each period of a clockwork a module
BASE = "lstm"
FILE = Path(__file__).parent / "web" / "variants.json"
# In the order of the essay, followed by cells that it does not mention.
SHOWN = {
    "lstm": "The LSTM",
    "lstm-peephole-full": "Peepholes",
    "lstm-coupled": "Coupled gates",
    "gru-reset-before": "GRU",
    "lstm-depth-gated": "Depth gate",
    "clockwork": "Clockwork",
    "lstm-original": "The first LSTM",
    "mut1": "Found by search",
}


def variants() -> list[dict[str, Any]]:
    """The variants as data for a page: the result of `computed` that is stored in the package."""
    return json.loads(bundle.read(FILE.name))


def computed(names: Iterable[str] = tuple(SHOWN)) -> list[dict[str, Any]]:
    """Computes the variants.

    [{id, title, about, svg, equations: [{name, mathml, text, changed}], parts, wires, gone}]
    `parts` and `wires` are those that the LSTM does not have; `gone` are the symbols of values of the LSTM that this
    cell does not have.
    """
    base = circuit_of(BASE)
    return [variant(name, base) for name in names]


def circuit_of(name: str) -> Circuit:
    """The circuit of a cell of the zoo, by name."""
    return Circuit.of(compile(CELLS[name](*SIZES)).traced)


def variant(name: str, base: Circuit) -> dict[str, Any]:
    """One entry of `computed`."""
    circuit = circuit_of(name)
    about = (inspect.getdoc(CELLS[name]) or "").partition("\n")[0]
    return {"id": name, "title": SHOWN.get(name, name), "about": about, **against(circuit, base, SHOWN.get(name, name))}


def against(circuit: Circuit, base: Circuit, title: str) -> dict[str, Any]:
    """The diagram and equations of a cell, and its differences from the base."""
    found = own(circuit, base)
    written = [
        {"name": e.name, "mathml": e.mathml, "text": e.text, "changed": is_changed}
        for e, is_changed in zip(equations(circuit), found.pop("changed"), strict=True)
    ]
    return {"svg": draw(circuit, title).inline, "equations": written, **found}


def own(circuit: Circuit, base: Circuit) -> dict[str, Any]:
    """The differences of a cell from the base: {changed: for each equation, parts, wires, gone}."""
    new = {equation.text for equation in changed(circuit, base)}
    parts, wires = difference(circuit, base)
    lost = [symbol(name)[0] for name in gone(circuit, base)]
    return {"changed": [e.text in new for e in equations(circuit)], "parts": parts, "wires": wires, "gone": lost}


def difference(circuit: Circuit, base: Circuit) -> tuple[list[int], list[str]]:
    """The parts of changed equations that the base does not have, and the wires by which they read something new.

    For example, the LSTM with peepholes has other gates and wires from C to them, while h and x are read as before.
    With coupled gates, f multiplies C as before, and the rest of the sum is new.
    """
    known = {_spelled(base, i) for i in range(len(base.parts))}
    by_name = {part.name: _read(base, i) for i, part in enumerate(base.parts) if part.name in base.named}
    parts, wires = set[int](), set[str]()
    for i in {i for equation in changed(circuit, base) for i in equation.parts}:
        if _spelled(circuit, i) not in known:
            parts.add(i)
            before = by_name.get(circuit.parts[i].name, frozenset())
            wires |= {f"{j}-{i}" for j in circuit.sources(i) if _called(circuit, j) not in before}
    return sorted(parts), sorted(wires)


def _spelled(circuit: Circuit, i: int) -> Hashable:
    """The identity of a part by operation and operands, equal in two cells whatever the order of their steps."""
    part = circuit.parts[i]
    return part.kind, part.name, part.label, _read(circuit, i)


def _read(circuit: Circuit, i: int) -> frozenset[Hashable]:
    return frozenset(_called(circuit, j) for j in circuit.sources(i))


def _called(circuit: Circuit, i: int) -> Hashable:
    """The identity of a part as an operand: its name, or its operation."""
    part = circuit.parts[i]
    return (part.kind == "state", part.name) if part.name else _spelled(circuit, i)


def as_text(found: list[dict[str, Any]]) -> str:
    """The content of variants.json."""
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(computed()), encoding="utf-8")
