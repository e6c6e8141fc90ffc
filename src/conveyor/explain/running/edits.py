"""Edits of a run: a value is set, or a line is cut. They become part of the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from conveyor.compiler.graph import Builder, Graph, Node
from conveyor.errors import BadInput
from conveyor.explain.circuit import Circuit, Part

BEFORE = "[t-1]"  # after the name of a state: its old value


@dataclass(frozen=True)
class Edit:
    """Sets the value of a part, or, with a `source`, cuts the line from it to the part.

        Edit(0, "f", 1.0)                                  # layer 0: all forget gates are open at every step
        Edit(1, "C", 0.0, unit=7, first=3, last=3)         # layer 1: unit 7 of C is 0 at step 3
        Edit(0, "f", source="h[t-1]")                      # the forget gate does not read h

    `part` and `source` are indices into `Circuit.parts` or names: of a value that the step computes, of a stream, or of
    an old state, "h[t-1]". A value is set as soon as it is computed or given; `unit`: one element, None for all. The
    reader of a cut line gets zeros. `first` and `last`: the steps, inclusive, from 0; a `last` of None is the end.
    `Edit(**json)` and `edit.data` convert it from and to JSON.
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
        """Whether it applies at a step, counted from 0."""
        return self.first <= step and (self.last is None or step <= self.last)


@dataclass(frozen=True)
class Changes:
    """The edits of one step of a layer. `sets`: (unit, value) by part; `cuts`: the wires that are cut."""

    sets: Mapping[int, tuple[tuple[int | None, float], ...]]
    cuts: frozenset[int]

    @classmethod
    def of(cls, circuit: Circuit, edits: Iterable[Edit]) -> Changes:
        """The changes that edits make to a circuit. Raises BadInput for a part, unit or line that it does not have."""
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
        """The inputs of the kind "edit" of the edited step, see Edited."""
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
    """The index of a part, given by index or name. Raises BadInput if there is none."""
    if isinstance(part, int):
        if not 0 <= part < len(circuit.parts):
            raise BadInput(f"the step has the parts 0 to {len(circuit.parts) - 1}, and no part {part}")
        return part
    known = names(circuit)
    if part not in known:
        raise BadInput(f"the step has no value called {part}: there are {', '.join(known)}")
    return known[part]


def names(circuit: Circuit) -> dict[str, int]:
    """The names of parts: inputs, computed values, and outputs.

    If a step ends in `return new_h, C`, `h` is the part `new_h`. A `C` that it never changes is "C[t-1]".
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
    """A step that can be edited: its `circuit` has further inputs of the kind "edit".

    "set 3" is 1 for the elements of part 3 that are set, and "value 3" has their values; "cut 5" is 1 if wire 5 is cut.
    Parts and wires are those of the original step, whose node i is node `of[i]` of this one.
    """

    circuit: Circuit
    of: tuple[int, ...]


def editable(circuit: Circuit) -> Edited:
    """The step with an edit input for every part and wire."""
    return edited(circuit, range(len(circuit.parts)), range(len(circuit.wires)))


def edited(circuit: Circuit, sets: Collection[int], cuts: Collection[int]) -> Edited:
    """The step with edit inputs for these parts and wires."""
    b, of = Builder(), list[int]()
    wires, parts = _crossings(circuit), {part.node: i for i, part in enumerate(circuit.parts)}

    def edit(name: str, dims: tuple[int, ...]) -> int:
        return b.input("edit", name, dims, rows=False, time=True)

    def read(i: int, j: int) -> int:
        wire = wires.get((i, j))
        return b.pointwise("where", edit(f"cut {wire}", ()), b.const(0.0), of[j]) if wire in cuts else of[j]

    for i, node in enumerate(circuit.graph.nodes):
        inputs = [read(i, j) for j in node.inputs]
        among = [node, *(b.nodes[j] for j in inputs)]  # with an edit, a value of weights alone varies with the step
        like = Node("", rows=any(n.rows for n in among), time=any(n.time for n in among))
        made = b.node(node.op, *inputs, attrs=node.attrs, dims=node.dims, name=node.name, like=like)
        if (part := parts.get(i)) in sets:
            made = b.pointwise("where", edit(f"set {part}", node.dims), edit(f"value {part}", node.dims), made)
        of.append(made)
    outputs = tuple(replace(output, node=of[output.node]) for output in circuit.graph.outputs)
    return Edited(_moved(circuit, Graph(tuple(b.nodes), outputs), of), tuple(of))


def _moved(circuit: Circuit, graph: Graph, of: list[int]) -> Circuit:
    """The circuit with its node indices mapped to another graph."""

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
    """The wire for each pair of a traced node and one of its inputs in another part."""
    wires = {(wire.source, wire.target): i for i, wire in enumerate(circuit.wires)}
    owners = circuit.owners
    return {
        (i, j): wires[owners[j], owners[i]]
        for i, node in enumerate(circuit.graph.nodes)
        for j in node.inputs
        if i in owners and j in owners and (owners[j], owners[i]) in wires
    }
