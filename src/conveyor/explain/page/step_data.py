"""The data of a step for a page: parts, views of their weights, and equations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from conveyor.explain.circuit import SEEN_OTHERWISE, Circuit, Part
from conveyor.explain.formula import equations, subscripts, symbol

Bounds = tuple[float, float]


def step_data(circuit: Circuit) -> dict[str, Any]:
    """A step as JSON. Parts are indices into `Circuit.parts`.

    parts      [{kind, name, symbol, label, op, size, flat, bounds, subscript, terms, biases, operands}]
        symbol   "C̃_t", "h_{t-1}"; "" if it has no name
        subscript  of the weights of a layer: "f" for W_f
        flat     whether its value is a vector
        bounds   [low, high] of its elements, if known
        terms    [{part, block, view}] of a layer, biases [view]; a view is {weight, at, strides}: the index of the
                 weight, the offset in it, and the strides by unit and, for a full block, by input; null if the
                 weights are computed
        operands [{part} | {number}] of a circle, in order; infinities and NaN are strings, such as "Infinity"
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
    """The view of a matrix [inputs, units], with strides by unit and by input, or of a vector, with that by unit."""
    found = _view(circuit, node)
    if found is None or len(found[2]) != (2 if full else 1):
        return None
    weight, at, strides = found
    return {"weight": weight, "at": at, "strides": list(reversed(strides))}


def _view(circuit: Circuit, i: int) -> tuple[int, int, Sequence[int]] | None:
    """The weight that a node is a view of, the offset in it, and the strides; None if it is no view."""
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
    """Bounds of the values of parts, as far as they follow from their operations."""
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
