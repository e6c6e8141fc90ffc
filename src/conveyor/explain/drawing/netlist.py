"""The netlist of a diagram: the items to place (parts, points where lines merge, ends) and the links between them.

Placing and routing them is the problem of circuit boards, and the names here are those of that field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from conveyor.explain.circuit import Circuit
from conveyor.explain.drawing.errors import CannotDraw

SIDES = 2  # operands that enter a layer at its sides; all others come from below on one line
ENTRANCES = 3  # operands that enter a circle on separate lines; more are merged into one line


@dataclass(frozen=True)
class Item:
    """Something to place: a part, a join of lines, or an end.

    `kind` is that of the part, or "join" (where lines merge), "handed" (a state for the next step), "given" (an output
    at the top). `part` is the index of the part in the circuit; for an end, of the part whose value leaves; -1 for a
    join.
    """

    kind: str
    part: int = -1
    name: str = ""


@dataclass
class Link:
    """An edge between two items. `port` is "main" or "side" for a layer, else ""; `wires` are those of its values."""

    source: int
    target: int
    port: str = ""
    wires: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Belt:
    """A state that passes from t-1 to t through circles only: the essay's conveyor belt, drawn as one straight row.

    `was`, `circles` and `becomes` are items.
    """

    was: int
    circles: tuple[int, ...]
    becomes: int

    @property
    def stations(self) -> tuple[int, ...]:
        """All items of the belt, from left to right."""
        return (self.was, *self.circles, self.becomes)


@dataclass
class Netlist:
    """What is drawn: items and links. `belts`: see Belt; `lanes`: the items of other states, (of t-1 or -1, of t)."""

    items: list[Item]
    links: list[Link]
    belts: list[Belt]
    lanes: list[tuple[int, int]]

    def of(self, *kinds: str) -> list[int]:
        """The items of these kinds."""
        return [i for i, item in enumerate(self.items) if item.kind in kinds]

    def nets(self) -> dict[int, list[Link]]:
        """The links by their source: a net, whose links share one branching line."""
        found: dict[int, list[Link]] = defaultdict(list)
        for link in self.links:
            found[link.source].append(link)
        return dict(found)


def netlist(circuit: Circuit) -> Netlist:
    """The netlist of a circuit."""
    return _NetlistBuilder(circuit).make()


class _NetlistBuilder:
    def __init__(self, circuit: Circuit):
        self.circuit = circuit
        self.items = [Item(part.kind, i, part.name) for i, part in enumerate(circuit.parts)]
        self.links: dict[tuple[int, int], Link] = {}
        self.merged: dict[tuple[int, ...], int] = {}  # the joins so far, by the items that they merge

    def make(self) -> Netlist:
        for at in range(len(self.circuit.parts)):
            self.inputs(at)
        handed = {end.name: self.end(end.name, "handed", end.part) for end in self.of_kind("state")}
        for k, name in enumerate(handed):
            if k == 0:  # the first state is the output, too
                self.end(name, "given", self.items[handed[name]].part)
        for end in self.of_kind("stream"):
            self.end(end.name, "given", end.part)
        self.spread_wires()
        belts, lanes = self.belts(handed)
        return Netlist(self.items, list(self.links.values()), belts, lanes)

    def of_kind(self, kind: str) -> Iterable:
        return [end for end in self.circuit.ends if end.kind == kind]

    def link(self, source: int, target: int, port: str = "") -> Link:
        return self.links.setdefault((source, target), Link(source, target, port))

    def end(self, name: str, kind: str, part: int) -> int:
        self.items.append(Item(kind, part, name))
        self.link(part, len(self.items) - 1).wires.add(f"{part}-end:{name}")
        return len(self.items) - 1

    def inputs(self, at: int) -> None:
        wires = [wire for wire in self.circuit.wires if wire.target == at]
        if self.circuit.parts[at].kind != "layer":
            sources = [wire.source for wire in wires]
            for source in [self.join(sources)] if len(sources) > ENTRANCES else sources:
                self.link(source, at)
            return
        full = [wire.source for wire in wires if wire.block == "full"]
        others = [wire.source for wire in wires if wire.block != "full"]
        if not full:
            full, others = others[:1], others[1:]
        if len(others) > SIDES:
            full, others = full + others, []
        self.link(self.join(full), at, "main")
        for source in others:
            self.link(source, at, "side")

    def join(self, sources: list[int]) -> int:
        """The item whose line carries all these values: they merge one after the other, states first."""
        ranks = {"state": 0, "stream": 1, "constant": 2}
        order = sorted(set(sources), key=lambda i: (ranks.get(self.items[i].kind, 3), self.rank_of(i)))
        at = order[0]
        for n in range(2, len(order) + 1):
            key = tuple(order[:n])
            if key not in self.merged:
                self.items.append(Item("join"))
                self.merged[key] = len(self.items) - 1
                self.link(at, self.merged[key])
                self.link(order[n - 1], self.merged[key])
            at = self.merged[key]
        return at

    def rank_of(self, i: int) -> int:
        """The sort key of an item among its kind: x is the first stream, the output the first state."""
        return -1 if self.items[i].name in ("x", *self.circuit.graph.states[:1]) else i

    def spread_wires(self) -> None:
        """Assigns to each link the wires that run along it, through joins to all layers that read the merged line."""
        into = defaultdict(list)
        for link in self.links.values():
            into[link.target].append(link)

        def mark(target: int, wire: str, source: int) -> bool:
            """Marks the path from `source` to `target`, backwards; returns whether there is one."""
            found = False
            for link in into[target]:
                through = self.items[link.source].kind == "join" and mark(link.source, wire, source)
                if link.source == source or through:
                    link.wires.add(wire)
                    found = True
            return found

        for wire in self.circuit.wires:
            if not mark(wire.target, f"{wire.source}-{wire.target}", wire.source):
                raise CannotDraw(f"no path from {wire.source} to {wire.target}")

    def belts(self, handed: dict[str, int]) -> tuple[list[Belt], list[tuple[int, int]]]:
        belts, lanes, taken = [], [], set[int]()
        was = {item.name: i for i, item in enumerate(self.items) if item.kind == "state"}
        for name in self.circuit.graph.states:
            end = handed[name]
            if name not in was:  # nothing reads the old state
                lanes.append((-1, end))
                continue
            path = self.path(was[name], self.items[end].part, taken)
            if path is None:
                lanes.append((was[name], end))
            else:
                taken.update(path)
                belts.append(Belt(was[name], path, end))
        return belts, lanes

    def path(self, start: int, goal: int, taken: set[int]) -> tuple[int, ...] | None:
        """The shortest path of circles from a state of t-1 to its new value that shares no circle with another belt."""
        paths: list[tuple[int, ...]] = [()]
        seen = {start}
        for path in paths:
            at = path[-1] if path else start
            if at == goal:
                return path
            for wire in self.circuit.wires:
                to = wire.target
                new = wire.source == at and to not in seen | taken and (at, to) in self.links
                if new and self.circuit.parts[to].kind == "op":
                    seen.add(to)
                    paths.append((*path, to))
        return None
