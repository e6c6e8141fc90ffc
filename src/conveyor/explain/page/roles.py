"""What the parts of a step are for: which states are carried along, what keeps them, adds to them, shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conveyor.explain.circuit import Circuit, Part

GATES = ("sigmoid", "softmax")  # their numbers lie between 0 and 1
CARRIED = ("add", "sub", "mul", "div", "neg", "where", "maximum", "minimum", "slice", "cat")  # no matrix, no squashing


@dataclass(frozen=True)
class Belt:
    """A state that goes from t-1 to t unit by unit. `parts` are on its way, both ends among them, in order."""

    name: str
    first: int
    last: int
    parts: tuple[int, ...]


@dataclass(frozen=True)
class GateUse:
    """A gate multiplies something.

    `role`: "keep": what a belt carries; "write": what goes onto a belt; "show": what of a belt's new value is given;
    "read": a state of t-1 on its way into something new; "scale": anything else. `gate` has numbers between 0 and 1;
    `inverted`: it is 1 minus them that multiply; `through`: the circles on the way; `at` multiplies, `other` is what.
    `belt` by name, where the role is about one.
    """

    role: str
    gate: int
    at: int
    other: int
    inverted: bool
    through: tuple[int, ...]
    belt: str = ""


@dataclass(frozen=True)
class Roles:
    """`candidates`: by belt what is put onto it; `clocks`: circles that choose by the step's number."""

    belts: tuple[Belt, ...]
    uses: tuple[GateUse, ...]
    candidates: dict[str, tuple[int, ...]]
    clocks: tuple[int, ...]

    @classmethod
    def of(cls, circuit: Circuit) -> Roles:
        """The roles in any step, told from its circuit alone.

        roles = Roles.of(Circuit.of(conveyor.compile(conveyor.zoo.LSTM(32, 128)).traced))
        [(use.role, circuit.parts[use.gate].name) for use in roles.uses]    # keep f, write i, show o
        """
        return _Reader(circuit).roles()

    def by(self, *roles: str) -> tuple[GateUse, ...]:
        """The uses of gates in these roles."""
        return tuple(use for use in self.uses if use.role in roles)


class _Reader:
    def __init__(self, circuit: Circuit):
        self.circuit, self.parts = circuit, circuit.parts
        self.below = _closure(circuit, circuit.sources)  # of each part all that it is made of, itself among them
        self.above = _closure(circuit, circuit.targets)

    def roles(self) -> Roles:
        self.belts = tuple(belt for end in self.circuit.ends if (belt := self.belt(end.kind, end.name, end.part)))
        found = (use for gate in range(len(self.parts)) if self.is_gate(gate) for use in self.uses(gate))
        uses = tuple(dict.fromkeys(found))
        candidates = {belt.name: tuple(dict.fromkeys(self.added(belt, uses))) for belt in self.belts}
        clocks = tuple(i for i, part in enumerate(self.parts) if part.op == "where" and self.is_timed(part))
        return Roles(self.belts, uses, candidates, clocks)

    def belt(self, kind: str, name: str, last: int) -> Belt | None:
        first = next((i for i, part in enumerate(self.parts) if part.kind == "state" and part.name == name), None)
        if kind != "state" or first is None or first not in self.below[last]:
            return None
        on, stack = {last}, [last]
        while stack:  # back from the end, along what carries
            for source in self.carriers(stack.pop()):
                if source not in on:
                    on.add(source)
                    stack.append(source)
        way = self.reached(first, on)
        return Belt(name, first, last, tuple(sorted(way))) if last in way else None

    def carriers(self, i: int) -> list[int]:
        """Of what a part reads that which it may carry on: not what decides for a choice, no gate, no number."""
        return [j for j in self.carried(i) if self.parts[j].op in CARRIED or self.parts[j].kind == "state"]

    def carried(self, i: int) -> list[int]:
        """What comes through a part, but for what decides for a choice."""
        part = self.parts[i]
        if part.op not in CARRIED:
            return []
        operands = part.operands[1:] if part.op == "where" else part.operands
        return list(dict.fromkeys(self.circuit.owners[j] for j in operands if j in self.circuit.owners))

    def reached(self, first: int, on: set[int]) -> set[int]:
        """The part of the way back from which the state itself can come."""
        found = {first} & on
        for i in sorted(on):
            if any(source in found for source in self.carriers(i)):
                found.add(i)
        return found

    # -- gates

    def is_gate(self, i: int) -> bool:
        part = self.parts[i]
        return part.op in GATES or (bool(part.name) and self.turned(i) >= 0)

    def turned(self, i: int) -> int:
        """The gate of which a part is 1 minus it, or -1."""
        part = self.parts[i]
        if part.op != "sub" or len(self.circuit.sources(i)) != 1:
            return -1
        (source,) = self.circuit.sources(i)
        one = self.circuit.graph.nodes[part.operands[0]]
        is_one = one.op == "const" and one.attrs[0] == 1
        return source if is_one and self.parts[source].op in GATES else -1

    def uses(self, gate: int) -> Iterable[GateUse]:
        for at in self.circuit.targets(gate):
            if self.parts[at].op == "mul":
                yield from self.use(gate, at, gate, False, ())
            elif self.turned(at) == gate and not self.parts[at].name:
                for further in self.circuit.targets(at):
                    if self.parts[further].op == "mul":
                        yield from self.use(gate, further, at, True, (at,))

    def use(self, gate: int, at: int, via: int, inverted: bool, through: tuple[int, ...]) -> Iterable[GateUse]:
        others = [i for i in self.circuit.sources(at) if i != via]
        if len(others) == 1:
            role, belt = self.role(at, others[0])
            yield GateUse(role, gate, at, others[0], inverted, through, belt)

    def role(self, at: int, other: int) -> tuple[str, str]:
        for belt in self.belts:
            if at in belt.parts:
                return ("keep", belt.name) if other in belt.parts else ("write", belt.name)
        for belt in self.belts:
            if self.joins(at, belt):
                return "write", belt.name
        for belt in self.belts:
            if self.shows(other, belt):
                return "show", belt.name
        ends = {end.part for end in self.circuit.ends if end.kind == "state"}
        if self.is_past(other) and self.above[at] & ends:
            return "read", ""
        return "scale", ""

    def joins(self, at: int, belt: Belt) -> bool:
        """Whether it is carried onto a belt, from beside it."""
        for target in self.circuit.targets(at):
            if at in self.carriers(target) and (target in belt.parts or self.joins(target, belt)):
                return True
        return False

    def shows(self, i: int, belt: Belt) -> bool:
        """Whether it is the belt's new value, or made of it without a learned layer."""
        circles = (j for j in self.circuit.sources(i) if self.parts[i].kind == "op")
        return i == belt.last or any(self.shows(j, belt) for j in circles)

    def is_past(self, i: int) -> bool:
        """Whether it is a state of t-1, or made of such only."""
        given = {self.parts[j].kind for j in self.below[i]} - {"layer", "op", "parameter"}
        return given == {"state"}

    def added(self, belt: Belt, uses: tuple[GateUse, ...]) -> Iterable[int]:
        """What comes onto a belt: by a gate, or as it is."""
        gates = {use.at: use for use in uses if use.role in ("keep", "write") and use.belt == belt.name}
        for i in belt.parts[1:]:
            if self.parts[i].op in ("mul", "div"):
                continue  # what multiplies the belt is not put onto it
            for source in self.carried(i):
                if source not in belt.parts and self.parts[source].kind != "clock":
                    yield from self.origin(source, gates)

    def origin(self, i: int, gates: dict[int, GateUse]) -> Iterable[int]:
        if i in gates:
            yield gates[i].other
        elif not self.parts[i].name and self.parts[i].op in ("add", "sub"):
            for source in self.circuit.sources(i):
                yield from self.origin(source, gates)
        else:
            yield i

    def is_timed(self, part: Part) -> bool:
        """Whether its condition differs from step to step, and not from row to row."""
        condition = self.circuit.graph.nodes[part.operands[0]]
        return condition.time and not condition.rows


def _closure(circuit: Circuit, near: Callable[[int], list[int]]) -> dict[int, set[int]]:
    """Of each part all that is reached by `near`, the part among it."""
    found = {}
    for i in range(len(circuit.parts)):
        seen, stack = {i}, [i]
        while stack:
            for j in near(stack.pop()):
                if j not in seen:
                    seen.add(j)
                    stack.append(j)
        found[i] = seen
    return found
