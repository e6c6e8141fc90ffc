"""Finds the gates that retain a state, such as the forget gate of an LSTM, in the equations of any cell."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from conveyor.cell import Cell
from conveyor.compiler import CannotCompile
from conveyor.compiler.composites import learned_maps, weight_name
from conveyor.compiler.graph import Graph
from conveyor.layer.compilation import compile


def open_gates(cell: Cell, by: float) -> None:
    """Adds `by` to the biases of the gates that retain a state, so that an untrained cell remembers for longer.

        open_gates(zoo.LSTM(4, 8), 1.0)         # b_f += 1: Gers et al. 2000, Jozefowicz et al. 2015

    It does nothing for a cell without such gates.
    """
    biases = dict(cell.named_parameters())
    with torch.no_grad():
        for name, sign in keeping(cell).items():
            biases[name].add_(sign * by)


def keeping(cell: Cell) -> dict[str, int]:
    """The biases of the gates that multiply a state in its own update, by name.

        keeping(zoo.LSTM(4, 8)), keeping(zoo.MUT1(4, 8))    # {"forget.bias": 1}, {"update.bias": -1}

    The value is 1 if a larger bias retains more of the state, and -1 if it retains less.
    """
    try:
        graph = compile(cell).traced
    except (CannotCompile, ValueError):  # no kernel exists, or the step needs more inputs than x
        return {}
    known = dict(cell.named_parameters())
    found: dict[str, int] = {}
    for output in graph.outputs:
        if output.kind == "state":
            for gate in _factors(graph, output.node, graph.inputs("state").get(output.name, -1)):
                found |= {name: sign for name, sign in _biases(graph, gate) if name in known}
    return found


def _factors(graph: Graph, i: int, state: int) -> Iterator[int]:
    """The factors of the state in a sum of products."""
    node = graph.nodes[i]
    if node.op == "add":
        for term in node.inputs:
            yield from _factors(graph, term, state)
    elif node.op == "mul" and state in node.inputs:
        yield from (j for j in node.inputs if j != state)


def _biases(graph: Graph, i: int) -> Iterator[tuple[str, int]]:
    """The biases of a gate σ(...) or 1 - σ(...): name, and 1 if a larger one increases the gate, else -1."""
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
