"""The data of the guided tour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from conveyor.explain.circuit import Circuit
from conveyor.explain.page.gradient_decay import gradient_decay
from conveyor.explain.page.variants import BASE, circuit_of, own, variants
from conveyor.explain.page.walk import walk
from conveyor.explain.running.model import Model
from conveyor.explain.running.network import Described


def tour(made: Sequence[tuple[Described, dict[str, Any] | None]], first: Model, inputs: Tensor) -> dict[str, Any]:
    """The data of the tour as JSON, of networks, each with what example.py found in it.

    networks   [{walks: the scenes of each step (walk.py), own: the differences of each step from the LSTM
               (variants.py), example: the unit that follows the subject's number (example.py)}]
    variants   see variants.py
    gradient_decay   of the `inputs` that the first network reads first, see gradient_decay.py
    """
    base = circuit_of(BASE)
    networks = [
        {
            "walks": [walk(circuit) for circuit in circuits(described)],
            "own": [own(circuit, base) for circuit in circuits(described)],
            "example": example,
        }
        for described, example in made
    ]
    return {"networks": networks, "variants": variants(), "gradient_decay": gradient_decay(first, inputs)}


def circuits(described: Described) -> list[Circuit]:
    """The circuits of the steps of a network, in the order of the page."""
    found = {layer.circuit.graph: layer.circuit for layer in reversed(described.layers)}
    return list(dict.fromkeys(found[layer.circuit.graph] for layer in described.layers))
