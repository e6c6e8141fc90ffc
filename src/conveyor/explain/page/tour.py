"""What the guided tour of a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.explain.circuit import Circuit
from conveyor.explain.page.example import example
from conveyor.explain.page.fading import fading
from conveyor.explain.page.variants import BASE, circuit_of, own, variants
from conveyor.explain.page.walk import walk
from conveyor.explain.running.network import Described
from conveyor.language.trained import Trained


def tour(runs: Sequence[Trained], made: Sequence[Described], text: str) -> dict[str, Any]:
    """As data for a page, beside what assemble.py has.

    networks   for each: {walks: the scenes of each step (walk.py), own: what its cells have that an LSTM has not
               (variants.py), for each step, example: the unit of the subject's number (example.py)}
    variants   variants.py; fading: fading.py
    """
    base = circuit_of(BASE)
    networks = [
        {
            "walks": [walk(circuit) for circuit in circuits(described)],
            "own": [own(circuit, base) for circuit in circuits(described)],
            "example": example(run),
        }
        for run, described in zip(runs, made, strict=True)
    ]
    return {"networks": networks, "variants": variants(), "fading": fading(runs[0], text)}


def circuits(described: Described) -> list[Circuit]:
    """Of each step of a network, in the order in which the page has them."""
    found = {level.circuit.graph: level.circuit for level in reversed(described.levels)}
    return list(dict.fromkeys(found[level.circuit.graph] for level in described.levels))
