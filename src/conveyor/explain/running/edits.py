"""Edits of a run: a value that is set, a line that is cut. They are made in the graph, which runs as any does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from conveyor.compiler.graph import Builder, Graph, Node
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit, Part

BEFORE = "[t-1]"  # behind a state's name: its value as it comes in


@dataclass(frozen=True)
class Edit:
    """A part's value is set, or, where there is a `source`, the line from it to the part is cut.

        Edit(0, "f", 1.0)                                  # all of layer 0's forget gate is open, at every step
        Edit(1, "C", 0.0, unit=7, first=3, last=3)         # unit 7 of layer 1 forgets everything at step 3
        Edit(0, "f", source="h[t-1]")                      # the forget gate does not see h

    `part` and `source` are places in `Circuit.parts` or names: of a value that the step computes, of a stream, or of a
    state as it comes in, "h[t-1]". A value is set right after it is computed, or comes in; `unit` is one of its
    numbers, all if none. Along a cut line zeros are read. `first` and `last` are the steps, both included, counted from
    0; no `last` is the end. It is data: `Edit(**json)` and `edit.data` go to a page and back.
    """

    layer: int
    part: int | str
    value: float = 0.0
    unit: int | None = None
    source: int | str | None = None
    first: int = 0
    last: int | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The edit as data for JSON."""
        return asdict(self)

    def acts(self, step: int) -> bool:
        """Whether it acts at a step, counted from 0."""
        return self.first <= step and (self.last is None or step <= self.last)


@dataclass(frozen=True)
class Changes:
    """Edits of one step of a layer: what is set, by part, as (unit, number), and the wires that are cut."""

    sets: Mapping[int, tuple[tuple[int | None, float], ...]]
    cuts: frozenset[int]

    @classmethod
    def of(cls, circuit: Circuit, edits: Iterable[Edit]) -> Changes:
        """Raises BadInput for a part, a unit or a line that the circuit does not have."""
        sets: dict[int, tuple[tuple[int | None, float], ...]] = {}
        cuts = set()
        for edit in edits:
            part = find(circuit, edit.part)
            if edit.source is not None:
                cuts.add(_wire(circuit, find(circuit, edit.source), part))
                continue
            size = circuit.graph.nodes[circuit.parts[part].node].size
            if edit.unit is not None and not 0 <= edit.unit < size:
                raise BadInput(f"{_told(circuit, part)} has the units 0 to {size - 1}, and no unit {edit.unit}")
            sets[part] = (*sets.get(part, ()), (edit.unit, float(edit.value)))
        return cls(sets, frozenset(cuts))

    def given(self, circuit: Circuit) -> dict[tuple[str, str], Tensor]:
        """What the inputs "edit" of the step with these changes are."""
        found = {("edit", f"cut {wire}"): torch.ones(()) for wire in self.cuts}
        for part, pairs in self.sets.items():
            node = circuit.graph.nodes[circuit.parts[part].node]
            chosen, values = torch.zeros(node.size), torch.zeros(node.size, dtype=torch.float64)
            for unit, number in pairs:
                at = slice(None) if unit is None else unit
                chosen[at], values[at] = 1, number
            found["edit", f"set {part}"] = chosen.reshape(node.dims)
            found["edit", f"value {part}"] = values.reshape(node.dims)
        return found


def find(circuit: Circuit, part: int | str) -> int:
    """The place of a part, given that or a name. Raises BadInput if there is none."""
    if isinstance(part, int):
        if not 0 <= part < len(circuit.parts):
            raise BadInput(f"the step has the parts 0 to {len(circuit.parts) - 1}, and no part {part}")
        return part
    known = names(circuit)
    if part not in known:
        raise BadInput(f"the step has no value called {part}: there are {', '.join(known)}")
    return known[part]


def names(circuit: Circuit) -> dict[str, int]:
    """What parts can be called: what comes in, what is computed, and the states as they are handed on.

    So a step may end in `return new_h, C`: `h` is then the part `new_h`, and a `C` that it never changes is "C[t-1]".
    """
    given = {_name(part): i for i, part in enumerate(circuit.parts) if part.name}
    return given | circuit.named | {end.name: end.part for end in circuit.ends}


def _name(part: Part) -> str:
    return part.name + BEFORE if part.kind == "state" else part.name


def _wire(circuit: Circuit, source: int, target: int) -> int:
    for i, wire in enumerate(circuit.wires):
        if (wire.source, wire.target) == (source, target):
            return i
    raise BadInput(f"no line goes from {_told(circuit, source)} to {_told(circuit, target)}")


def _told(circuit: Circuit, part: int) -> str:
    return _name(circuit.parts[part]) or f"part {part}"


@dataclass(frozen=True)
class Edited:
    """A step that can be edited: its `circuit` has inputs of the kind "edit", which say what is changed.

    "set 3" is 1 where an element of part 3 is set, and "value 3" is what to; "cut 5" is 1 if wire 5 is cut. Parts and
    wires are those of the step as it was, and node i of that is node `of[i]` of this.
    """

    circuit: Circuit
    of: tuple[int, ...]


def editable(circuit: Circuit) -> Edited:
    """The step with an edit of every part and every wire among its inputs."""
    return edited(circuit, range(len(circuit.parts)), range(len(circuit.wires)))


def edited(circuit: Circuit, sets: Collection[int], cuts: Collection[int]) -> Edited:
    """The step with edits of these parts and wires among its inputs."""
    b, of = Builder(), list[int]()
    wires, parts = _crossings(circuit), {part.node: i for i, part in enumerate(circuit.parts)}

    def edit(name: str, dims: tuple[int, ...]) -> int:
        return b.input("edit", name, dims, rows=False, time=True)

    def read(i: int, j: int) -> int:
        wire = wires.get((i, j))
        return b.pointwise("where", edit(f"cut {wire}", ()), b.const(0.0), of[j]) if wire in cuts else of[j]

    for i, node in enumerate(circuit.graph.nodes):
        inputs = [read(i, j) for j in node.inputs]
        among = [node, *(b.nodes[j] for j in inputs)]  # what hangs on weights alone has the steps of the edits to it
        like = Node("", rows=any(n.rows for n in among), time=any(n.time for n in among))
        made = b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=like)
        if (part := parts.get(i)) in sets:
            made = b.pointwise("where", edit(f"set {part}", node.dims), edit(f"value {part}", node.dims), made)
        of.append(made)
    outputs = tuple(replace(output, node=of[output.node]) for output in circuit.graph.outputs)
    return Edited(_moved(circuit, Graph(tuple(b.nodes), outputs), of), tuple(of))


def _moved(circuit: Circuit, graph: Graph, of: list[int]) -> Circuit:
    """The circuit with its nodes as they are in another graph."""

    def all_of(nodes: Iterable[int]) -> tuple[int, ...]:
        return tuple(of[i] for i in nodes)

    parts = tuple(
        replace(
            part,
            node=of[part.node],
            nodes=all_of(part.nodes),
            terms=tuple(replace(term, value=of[term.value], weight=of[term.weight]) for term in part.terms),
            biases=all_of(part.biases),
            total=of[part.total] if part.total >= 0 else -1,
            operands=all_of(part.operands),
        )
        for part in circuit.parts
    )
    return replace(circuit, graph=graph, parts=parts)


def _crossings(circuit: Circuit) -> dict[tuple[int, int], int]:
    """For each traced node and each of its inputs that comes by a wire: which wire that is."""
    wires = {(wire.source, wire.target): i for i, wire in enumerate(circuit.wires)}
    owners = circuit.owners
    return {
        (i, j): wires[owners[j], owners[i]]
        for i, node in enumerate(circuit.graph.nodes)
        for j in node.inputs
        if i in owners and j in owners and (owners[j], owners[i]) in wires
    }
