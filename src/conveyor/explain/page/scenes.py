"""Building blocks for the scenes of a walk: what is highlighted, explained and offered to try."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from conveyor.explain.circuit import Circuit
from conveyor.explain.formula import equations
from conveyor.explain.page.phrases import Phrases
from conveyor.explain.page.roles import GateUse, Roles

Scene = dict[str, Any]


class SceneBuilder:
    """Builds scenes of one circuit; `told`: the equations that scenes have explained so far."""

    def __init__(self, circuit: Circuit):
        self.circuit, self.parts = circuit, circuit.parts
        self.roles, self.words = Roles.of(circuit), Phrases(circuit)
        self.equations = equations(circuit)
        self.told: set[int] = set()  # indices of equations

    def gate_scene(self, kind: str, title: str, says: list[str], uses: Sequence[GateUse], tries: list[Scene]) -> Scene:
        """A scene about the uses of one gate."""
        gate = uses[0].gate
        active = self.with_equations([gate]) | {i for use in uses for i in (use.gate, use.at, *use.through)}
        return self.active(f"{kind} {self.parts[gate].name or gate}", title, says, active, gate, tries)

    def active(self, id: str, title: str, says: list[str], active: set[int], show: int, tries: list[Scene]) -> Scene:
        """A scene about the `active` parts. It highlights them, their operands, and the lines between."""
        own = [i for i in sorted(active) if self.parts[i].kind in ("layer", "op")]
        lit = {show, *own, *(source for i in own for source in self.circuit.sources(i))}
        wires = [f"{a}-{b}" for a, b in self.between(lit) if b in own]
        wires += [line for i in own for line in self.ends(i) if id.startswith(("update", "give"))]
        told = [k for k, e in enumerate(self.equations) if set(e.parts) <= active]
        return self.scene(id, title, says, lit, wires, told, show, tries)

    def scene(
        self,
        id: str,
        title: str,
        says: list[str],
        parts: Iterable[int],
        wires: list[str],
        told: Iterable[int],
        show: int,
        tries: list[Scene],
    ) -> Scene:
        """A scene as data, see `walk`."""
        self.told |= set(told)
        return {
            "id": id,
            "title": title,
            "says": list(dict.fromkeys(says)),
            "parts": sorted(parts),
            "wires": list(dict.fromkeys(wires)),
            "equations": sorted(told),
            "show": show,
            "tries": tries,
        }

    def hold(self, part: int, value: float, what: str) -> Scene:
        """A try that holds a part at a value; `what`: its effect in words."""
        return {"label": f"hold `{self.words.bare(part)}` at {value:.0f}: {what}", "part": part, "value": value}

    def with_equations(self, parts: Iterable[int]) -> set[int]:
        """These parts, and all parts that their equations write out."""
        return {i for part in parts for i in (part, *(j for e in self.equations if e.part == part for j in e.parts))}

    def made_of(self, part: int) -> set[str]:
        """The kinds of inputs that a value depends on: "stream", "state", "parameter", ..."""
        seen, stack = {part}, [part]
        while stack:
            new = set(self.circuit.sources(stack.pop())) - seen
            seen |= new
            stack += new
        return {self.parts[i].kind for i in seen} - {"layer", "op"}

    def has(self, part: int) -> bool:
        """Whether a scene has explained the equation of a part."""
        return any(e.part == part and k in self.told for k, e in enumerate(self.equations))

    def between(self, parts: Iterable[int]) -> list[tuple[int, int]]:
        """The wires between these parts, as (source, target)."""
        inside = set(parts)
        return [(w.source, w.target) for w in self.circuit.wires if w.source in inside and w.target in inside]

    def ends(self, part: int) -> list[str]:
        """The names of the lines from a part out of the step: "8-end:C"."""
        return [f"{part}-end:{end.name}" for end in self.circuit.ends if end.part == part]

    def next_named(self, at: int) -> int:
        """The nearest named part downstream, or -1."""
        stack = [at]
        while stack:
            i = stack.pop(0)
            if self.parts[i].name:
                return i
            stack += self.circuit.targets(i)
        return -1


def with_unique_ids(scenes: list[Scene]) -> list[Scene]:
    """Numbers scenes with the same id."""
    seen: dict[str, int] = {}
    for scene in scenes:
        seen[scene["id"]] = seen.get(scene["id"], 0) + 1
        if seen[scene["id"]] > 1:
            scene["id"] += f" {seen[scene['id']]}"
    return scenes
