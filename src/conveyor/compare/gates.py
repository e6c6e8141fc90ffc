"""Finds the gates that keep a state, such as the forget gate of an LSTM, in the equations of any cell."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.compiler.composites import learned_maps, weight_name
from conveyor.compiler.graph import Graph
from conveyor.layer.compilation import compile


def open_gates(cell: Cell, by: float) -> None:
    """Adds `by` to the biases of the gates that keep a state, so that it lasts at the start; some cells have none.

    open_gates(zoo.LSTM(4, 8), 1.0)         # b_f += 1: Gers et al. 2000, Jozefowicz et al. 2015
    """
    biases = dict(cell.named_parameters())
    with torch.no_grad():
        for name, sign in keeping(cell).items():
            biases[name].add_(sign * by)


def keeping(cell: Cell) -> dict[str, int]:
    """The biases of gates that a state is multiplied by on its way to itself: 1 where a larger one keeps more, else -1.

    keeping(zoo.LSTM(4, 8)), keeping(zoo.MUT1(4, 8))    # {"forget.bias": 1}, {"update.bias": -1}
    """
    try:
        graph = compile(cell).traced
    except (CannotCompile, ValueError):  # it runs in the loop, or takes more than x
        return {}
    known = dict(cell.named_parameters())
    found: dict[str, int] = {}
    for output in graph.outputs:
        if output.kind == "state":
            for gate in _factors(graph, output.node, graph.inputs("state").get(output.name, -1)):
                found |= {name: sign for name, sign in _biases(graph, gate) if name in known}
    return found


def _factors(graph: Graph, i: int, state: int) -> Iterator[int]:
    """What the state is multiplied by in a sum."""
    node = graph.nodes[i]
    if node.op == "add":
        for term in node.inputs:
            yield from _factors(graph, term, state)
    elif node.op == "mul" and state in node.inputs:
        yield from (j for j in node.inputs if j != state)


def _biases(graph: Graph, i: int) -> Iterator[tuple[str, int]]:
    """Of a gate, σ(...) or 1 - σ(...), the weights that are added as they are, and whether more of them opens it."""
    node, sign = graph.nodes[i], 1
    if node.op == "sub" and graph.nodes[node.inputs[0]].op == "const":
        node, sign = graph.nodes[node.inputs[1]], -1
    if node.op == "sigmoid":
        yield from ((name, sign) for name in _added(graph, node.inputs[0]))


def _added(graph: Graph, i: int) -> Iterator[str]:
    """The biases of the learned maps in a sum."""
    maps = learned_maps(graph)
    if i in maps:
        yield from (weight_name(graph, bias) for bias in maps[i].biases)
    elif graph.nodes[i].op == "add":
        for term in graph.nodes[i].inputs:
            yield from _added(graph, term)
