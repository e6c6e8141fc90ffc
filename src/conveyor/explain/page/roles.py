"""The roles of the parts of a step: which states are belts, and which gates keep, write and show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conveyor.explain.circuit import Circuit, Part

GATES = ("sigmoid", "softmax")  # functions with values between 0 and 1
CARRIED = ("add", "sub", "mul", "div", "neg", "where", "maximum", "minimum", "slice", "cat")  # allowed on a belt


@dataclass(frozen=True)
class Belt:
    """A state that passes from t-1 to t elementwise: the conveyor belt of the essay.

    `first` is the state of t-1, `last` the new one; `parts` are all parts between, including both, in order.
    """

    name: str
    first: int
    last: int
    parts: tuple[int, ...]


@dataclass(frozen=True)
class GateUse:
    """The use of a gate as a factor.

    `role`: what it multiplies: "keep": the value on a belt; "write": a value that goes onto a belt; "show": the new
    value of a belt, for the output; "read": a state of t-1 for a new value; "scale": anything else. `gate`: a part with
    values between 0 and 1; `inverted`: 1 minus the gate is the factor; `through`: the circles between; `at`: the
    multiplication; `other`: the other operand; `belt`: the name of the belt, if the role has one.
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
    """The belts, the uses of gates, the `candidates` that are added to each belt, and the `clocks`: choices by the step
    number.
    """

    belts: tuple[Belt, ...]
    uses: tuple[GateUse, ...]
    candidates: dict[str, tuple[int, ...]]
    clocks: tuple[int, ...]

    @classmethod
    def of(cls, circuit: Circuit) -> Roles:
        """The roles of the parts of any step, derived from its circuit.

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
        self.below = _closure(circuit, circuit.sources)  # the ancestors of each part, including itself
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
        while stack:  # back from the end, along carried values
            for source in self.carriers(stack.pop()):
                if source not in on:
                    on.add(source)
                    stack.append(source)
        way = self.reached(first, on)
        return Belt(name, first, last, tuple(sorted(way))) if last in way else None

    def carriers(self, i: int) -> list[int]:
        """The operands of a part that may carry a belt: no condition, gate or constant."""
        return [j for j in self.carried(i) if self.parts[j].op in CARRIED or self.parts[j].kind == "state"]

    def carried(self, i: int) -> list[int]:
        """The operands of a part, without the condition of a choice."""
        part = self.parts[i]
        if part.op not in CARRIED:
            return []
        operands = part.operands[1:] if part.op == "where" else part.operands
        return list(dict.fromkeys(self.circuit.owners[j] for j in operands if j in self.circuit.owners))

    def reached(self, first: int, on: set[int]) -> set[int]:
        """The parts of `on` that the state reaches."""
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
        """The gate g, if a part is 1 - g, else -1."""
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
        """Whether a part is carried onto a belt without being on it."""
        for target in self.circuit.targets(at):
            if at in self.carriers(target) and (target in belt.parts or self.joins(target, belt)):
                return True
        return False

    def shows(self, i: int, belt: Belt) -> bool:
        """Whether a part is the new value of a belt, or computed from it without a learned layer."""
        circles = (j for j in self.circuit.sources(i) if self.parts[i].kind == "op")
        return i == belt.last or any(self.shows(j, belt) for j in circles)

    def is_past(self, i: int) -> bool:
        """Whether a part is a state of t-1, or depends only on such states."""
        given = {self.parts[j].kind for j in self.below[i]} - {"layer", "op", "parameter"}
        return given == {"state"}

    def added(self, belt: Belt, uses: tuple[GateUse, ...]) -> Iterable[int]:
        """The parts that are added to a belt, with or without a gate."""
        gates = {use.at: use for use in uses if use.role in ("keep", "write") and use.belt == belt.name}
        for i in belt.parts[1:]:
            if self.parts[i].op in ("mul", "div"):
                continue  # a factor of the belt is not added to it
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
        """Whether its condition varies with the step, and not between rows."""
        condition = self.circuit.graph.nodes[part.operands[0]]
        return condition.time and not condition.rows


def _closure(circuit: Circuit, near: Callable[[int], list[int]]) -> dict[int, set[int]]:
    """For each part, all parts that `near` reaches from it, including itself."""
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
