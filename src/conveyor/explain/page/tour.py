"""What the guided tour of a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.explain.circuit import Circuit
from conveyor.explain.page.example import example
from conveyor.explain.page.gradient_decay import gradient_decay
from conveyor.explain.page.variants import BASE, circuit_of, own, variants
from conveyor.explain.page.walk import walk
from conveyor.explain.running.network import Described
from conveyor.language.trained import Trained


def tour(runs: Sequence[Trained], made: Sequence[Described], text: str) -> dict[str, Any]:
    """As data for a page, beside what assemble.py has.

    networks   for each: {walks: the scenes of each step (walk.py), own: what its cells have that an LSTM has not
               (variants.py), for each step, example: the unit of the subject's number (example.py)}
    variants   variants.py; gradient_decay: gradient_decay.py
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
    return {"networks": networks, "variants": variants(), "gradient_decay": gradient_decay(runs[0], text)}


def circuits(described: Described) -> list[Circuit]:
    """Of each step of a network, in the order in which the page has them."""
    found = {layer.circuit.graph: layer.circuit for layer in reversed(described.layers)}
    return list(dict.fromkeys(found[layer.circuit.graph] for layer in described.layers))
