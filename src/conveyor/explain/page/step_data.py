"""What a page says of a step: its parts as people see them, where their weights lie, and its equations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from conveyor.explain.circuit import SEEN_OTHERWISE, Circuit, Part
from conveyor.explain.formula import equations, subscripts, symbol

Bounds = tuple[float, float]


def step_data(circuit: Circuit) -> dict[str, Any]:
    """A step as data. All parts are named by their places in `Circuit.parts`.

    parts      [{kind, name, symbol, label, op, size, flat, bounds, subscript, terms, biases, operands}]
        symbol   "C̃_t", "h_{t-1}"; empty where the step has no name for it
        subscript  of a layer, as its weights are called: "f" of W_f
        flat     whether its value is one row of numbers
        bounds   [low, high] between which every number of it is, if that is known
        terms    of a layer [{part, block, view}], biases [view]; a view is {weight, at, strides}: which of the layer's
                 weights, where in it the view begins, and how far on the next unit is, and of a full block the next
                 input; none where the weights are computed of others
        operands of a circle, in order [{part} | {number}]; what JSON lacks is a text, such as "Infinity"
    ends       [{kind, name, part}], as Circuit.ends
    equations  [{part, parts, name, text, latex, mathml}]
    """
    bounds = _bounds(circuit)
    written = subscripts(circuit)
    parts = [_part(circuit, i, bounds.get(i), written.get(i, "")) for i in range(len(circuit.parts))]
    ends = [{"kind": end.kind, "name": end.name, "part": end.part} for end in circuit.ends]
    formulas = [
        {
            "part": equation.part,
            "parts": list(equation.parts),
            "name": equation.name,
            "text": equation.text,
            "latex": equation.latex,
            "mathml": equation.mathml,
        }
        for equation in equations(circuit)
    ]
    return {"parts": parts, "ends": ends, "equations": formulas}


def _part(circuit: Circuit, i: int, bounds: Bounds | None, subscript: str) -> dict[str, Any]:
    part, nodes = circuit.parts[i], circuit.graph.nodes
    node, owners = nodes[part.node], circuit.owners
    terms = [
        {"part": owners[term.value], "block": term.block, "view": _term(circuit, term.weight, term.block == "full")}
        for term in part.terms
    ]
    operands = [
        {"number": _number(nodes[j].attrs[0])} if nodes[j].op == "const" else {"part": owners[j]} for j in part.operands
    ]
    time = "" if part.kind in ("parameter", "constant", "clock") else "t-1" if part.kind == "state" else "t"
    return {
        "kind": part.kind,
        "name": part.name,
        "symbol": symbol(part.name, time)[0] if part.name else "",
        "label": part.label,
        "op": part.op,
        "size": node.size,
        "flat": len(node.dims) == 1,
        "bounds": list(bounds) if bounds else None,
        "subscript": subscript.replace("_", ","),
        "terms": terms,
        "biases": [_term(circuit, j, False) for j in part.biases],
        "operands": operands,
    }


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else value


def _term(circuit: Circuit, node: int, full: bool) -> dict[str, Any] | None:
    """Of a matrix [inputs, units] the strides by unit and by input, of a vector that by unit."""
    found = _view(circuit, node)
    if found is None or len(found[2]) != (2 if full else 1):
        return None
    weight, at, strides = found
    return {"weight": weight, "at": at, "strides": list(reversed(strides))}


def _view(circuit: Circuit, i: int) -> tuple[int, int, Sequence[int]] | None:
    """The weight whose numbers the node has, where they begin there, and how far apart they are in each dimension."""
    nodes = circuit.graph.nodes
    node = nodes[i]
    if node.op == "input" and node.attrs[0] == "weight":
        steps = [math.prod(node.dims[k + 1 :]) for k in range(len(node.dims))]
        return list(circuit.graph.inputs("weight").values()).index(i), 0, steps
    if node.op not in (*SEEN_OTHERWISE, "slice"):
        return None
    under = _view(circuit, node.inputs[0])
    if under is None:
        return None
    weight, at, strides = under
    if node.op == "permute":
        return weight, at, [strides[k] for k in node.attrs[0]]
    if node.op == "slice":
        dim, start, step = node.attrs
        moved = [stride * step if k == dim else stride for k, stride in enumerate(strides)]
        return weight, at + start * strides[dim], moved
    return under if nodes[node.inputs[0]].dims == node.dims else None


def _bounds(circuit: Circuit) -> dict[int, Bounds]:
    """Between which numbers the parts' values are, as far as that follows from what they are made of."""
    found: dict[int, Bounds] = {}
    nodes, owners = circuit.graph.nodes, circuit.owners
    for i, part in enumerate(circuit.parts):
        given = []
        for j in part.operands:
            number = nodes[j].attrs[0] if nodes[j].op == "const" else None
            given.append(found.get(owners.get(j, -1)) if number is None else (number, number))
        bounds = _of(part, given)
        if bounds is not None and all(map(math.isfinite, bounds)):
            found[i] = bounds
    return found


def _of(part: Part, given: Sequence[Bounds | None]) -> Bounds | None:
    if part.op in ("sigmoid", "softmax"):
        return 0.0, 1.0
    if part.op == "tanh":
        return -1.0, 1.0
    known = [bounds for bounds in given if bounds is not None]
    if len(known) != 2:
        return None
    (a, b), (c, d) = known
    if part.op == "sub":
        return a - d, b - c
    if part.op == "mul":
        corners = [x * y for x in (a, b) for y in (c, d)]
        return min(corners), max(corners)
    return None
