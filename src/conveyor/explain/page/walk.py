"""The walk through a step: a scene for each thing that it does, with highlights, explanations and things to try."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.explain.circuit import Circuit
from conveyor.explain.page.phrases import listed
from conveyor.explain.page.roles import Belt, GateUse
from conveyor.explain.page.scenes import Scene, SceneBuilder, with_unique_ids

MARKS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "where": "a choice", "maximum": "max", "minimum": "min"}
CHOICES = {"where", "maximum", "minimum"}  # the value not chosen is lost
KEPT = ("add", "sub", "neg", "slice", "cat")  # operations that lose nothing


def walk(circuit: Circuit) -> list[Scene]:
    """The scenes of a step, in the order of the essay where it applies.

        [scene["id"] for scene in walk(circuit)]        # for an LSTM: belt, keep f, write i, update C, give h

    A scene has `id`, `title`, `says` (sentences with symbols between backquotes), the `parts` and `wires` ("3-6",
    "8-end:C") to highlight, `equations` (indices into `equations(circuit)`), `show` (the part whose values matter) and
    `tries`, edits to try: [{label, part, value, source, once}] holds a part at a value, or with a source cuts the line
    from it; `once`: only at the present step. Every equation is in some scene.
    """
    return _Walk(circuit).scenes()


class _Walk(SceneBuilder):
    def scenes(self) -> list[Scene]:
        main = [self.belt(belt) for belt in self.roles.belts] or [self.loop()]
        main += [self.keep(uses) for uses in _by_gate(self.roles.by("keep"))]
        main += [self.read(uses) for uses in _by_gate(self.roles.by("read"))]
        main += [scene for belt in self.roles.belts for scene in self.write(belt)]
        main += [self.clock()] if self.roles.clocks else []
        main += [self.update(belt) for belt in self.roles.belts]
        main += [self.give(end) for end in self.last()]
        # Each scene adds to `told`, so this list must be built after the scenes above.
        rest = [self.rest(k) for k in range(len(self.equations)) if k not in self.told]
        first = next((k for k, scene in enumerate(main) if scene["id"].startswith(("update", "give"))), len(main))
        early = [scene for scene in rest if scene["show"] < main[first]["show"]] if first < len(main) else rest
        return with_unique_ids([*main[:first], *early, *main[first:], *(scene for scene in rest if scene not in early)])

    def last(self) -> list[int]:
        """The parts of outputs that are not the end of a belt."""
        belts = {belt.last for belt in self.roles.belts}
        ends = dict.fromkeys(end.part for end in self.circuit.ends if end.part not in belts)
        return [part for part in ends if part >= 0 and self.parts[part].kind in ("op", "layer") and self.is_new(part)]

    def is_new(self, part: int) -> bool:
        """Whether no earlier scene has explained its equation."""
        return any(e.part == part and k not in self.told for k, e in enumerate(self.equations))

    # -- the scenes

    def belt(self, belt: Belt) -> Scene:
        name, before = self.words.bare(belt.last, belt.name), self.words.symbol(belt.first)
        marks = [MARKS[op] for op in MARKS if any(self.parts[i].op == op for i in belt.parts)]
        says = [
            f"`{name}` is carried from step to step as on a conveyor belt. On its way it passes only {listed(marks)}, "
            "unit by unit: no matrix, no squashing."
            if marks
            else f"`{name}` is carried from step to step unchanged.",
            self.far(belt),
        ]
        if all(self.parts[i].op in KEPT for i in belt.parts[1:]):
            says.append("No gate multiplies it here: what has been added is never forgotten.")
        wires = [f"{a}-{b}" for a, b in self.between(belt.parts) if a in belt.parts] + self.ends(belt.last)
        label = f"set `{before}` to 0 before this step"
        tries = [{"label": label, "part": belt.first, "value": 0.0, "once": True}]
        return self.scene(f"belt {belt.name}", f"The belt: `{name}`", says, belt.parts, wires, (), belt.last, tries)

    def far(self, belt: Belt) -> str:
        """How far values on a belt can come."""
        gated = {use.at for use in self.roles.by("keep") if use.belt == belt.name}
        ops = {self.parts[i].op for i in belt.parts[1:] if i not in gated}
        if ops & CHOICES:
            return "Where the other value is chosen, the value on the belt is gone; otherwise it is carried on."
        if ops & {"mul", "div"}:
            return "It is multiplied not only by a gate: how far a value can come depends on the other factors, too."
        return "So a value on it can come far unchanged, and so can the gradient on its way back."

    def loop(self) -> Scene:
        """The scene for a step whose states all pass through a layer."""
        states = [i for i, part in enumerate(self.parts) if part.kind == "state" and self.circuit.targets(i)]
        wires = [(i, j) for i in states for j in self.circuit.targets(i)]
        names = listed([f"`{self.words.symbol(i)}`" for i in states])
        says = [
            f"This step has no belt. {names} {'is' if len(states) == 1 else 'are'} read only by learned layers: "
            "multiplied by a matrix and squashed at every step.",
            "A value from many steps ago has passed through as many matrices. That is why it is hard to keep.",
        ]
        label = "cut the line from `{}` to `{}`"
        tries = [
            {"label": label.format(self.words.symbol(i), self.words.symbol(j)), "part": j, "source": i}
            for i, j in wires
            if self.parts[j].name
        ][:2]
        parts, lit = {i for wire in wires for i in wire}, [f"{i}-{j}" for i, j in wires]
        ends = [line for end in self.circuit.ends if end.part in parts for line in self.ends(end.part)]
        show = states[0] if states else self.circuit.ends[0].part
        return self.scene("loop", "No belt: through the layer", says, parts, lit + ends, (), show, tries)

    def keep(self, uses: Sequence[GateUse]) -> Scene:
        gate, name = uses[0].gate, self.words.symbol(uses[0].gate)
        drop = 1.0 if uses[0].inverted else 0.0
        kept = listed([f"`{self.words.symbol(use.other)}`" for use in uses])
        factor = f"1 − {name}" if uses[0].inverted else name
        says = [
            self.words.made(gate),
            f"`{factor}` multiplies {kept}, unit by unit. Where `{name}` is {1 - drop:.0f}, a unit keeps its value; "
            f"where it is {drop:.0f}, the unit forgets it.",
            *self.sees(gate),
        ]
        also = [use for use in self.roles.by("write") if use.gate == gate and use.belt == uses[0].belt]
        if also:
            other = listed([f"`{self.words.symbol(use.other)}`" for use in also])
            says.append(
                f"The same gate decides how much of {other} is added: a unit forgets exactly as much as it takes in."
            )
        title = f"Forget: `{self.words.bare(gate)}`"
        tries = [self.hold(gate, drop, "forget everything"), self.hold(gate, 1 - drop, "keep everything")]
        return self.gate_scene("keep", title, says, [*uses, *also], tries)

    def sees(self, gate: int) -> list[str]:
        """What the gate can react to, in words."""
        kinds = self.made_of(gate)
        if "stream" in kinds:
            return ["In a sentence: when a new subject comes, the old one can be forgotten."]
        if kinds & {"state", "clock"}:
            return []
        return ["It does not see the input: it is learned once for each unit, and is the same at every step."]

    def read(self, uses: Sequence[GateUse]) -> Scene:
        gate, name = uses[0].gate, self.words.symbol(uses[0].gate)
        seen = listed([self.words.described(use.other) for use in uses])
        goal = listed(sorted({f"`{self.words.symbol(i)}`" for use in uses if (i := self.next_named(use.at)) >= 0}))
        what = f" before {goal} reads it" if goal else ""
        says = [
            self.words.made(gate),
            f"`{name}` multiplies {seen}{what}: where it is 0, the new value is computed as if there were no past.",
        ]
        tries = [self.hold(gate, 0.0, "never look back"), self.hold(gate, 1.0, "always look back")]
        return self.gate_scene("read", f"Reading the past: `{self.words.bare(gate)}`", says, uses, tries)

    def write(self, belt: Belt) -> list[Scene]:
        """The scene about what is added to a belt: the gates that no scene has explained yet, and the candidates."""
        name = self.words.symbol(belt.last)
        uses = [use for use in self.roles.by("write") if use.belt == belt.name]
        gates = [one for one in _by_gate(uses) if not self.has(one[0].gate)]
        candidates = [i for i in self.roles.candidates[belt.name] if self.parts[i].kind in ("layer", "op")]
        if not gates and not candidates:
            return []
        says, parts, tries = [], set[int](), []
        for one in gates:
            others = listed([f"`{self.words.symbol(use.other)}`" for use in one])
            says += [self.words.made(one[0].gate), self.admits(one, others, name)]
            tries.append(self.hold(one[0].gate, 1.0 if one[0].inverted else 0.0, "let nothing in"))
        says += [self.words.made(i) for i in candidates] + self.offered(candidates, name)
        if any("stream" in self.made_of(i) for i in (*candidates, *(one[0].gate for one in gates))):
            says.append("In a sentence: the number of a new subject would be written here.")
        tries += [self.hold(i, 0.0, "add nothing") for i in candidates if self.parts[i].name]
        active = {i for use in uses for i in (use.gate, use.at, *use.through)} | set(candidates)
        parts = self.with_equations([*candidates, *(one[0].gate for one in gates)]) | active
        names = [
            f"`{self.words.bare(i)}`" for i in (*(one[0].gate for one in gates), *candidates) if self.parts[i].name
        ]
        title = f"Take in: {listed(list(dict.fromkeys(names)))}" if names else "Take in"
        show = candidates[0] if candidates else gates[0][0].gate
        return [self.active(f"write {belt.name}", title, says, parts, show, tries)]

    def admits(self, uses: Sequence[GateUse], others: str, name: str) -> str:
        gate = self.words.symbol(uses[0].gate)
        factor = f"1 − {gate}" if uses[0].inverted else gate
        return f"`{factor}` multiplies {others}: it decides how much of it is added to `{name}`, unit by unit."

    def offered(self, candidates: list[int], name: str) -> list[str]:
        if not candidates:
            return []
        one = "It is the candidate" if len(candidates) == 1 else "These are the candidates"
        both = all(self.parts[i].op == "tanh" for i in candidates)
        sign = " Values of both signs move a unit up or down." if both else ""
        return [f"{one}: what could be added to `{name}`.{sign}"]

    def clock(self) -> Scene:
        clocks = sorted(
            {i for c in self.roles.clocks for i in self.circuit.sources(c) if self.parts[i].kind == "clock"}
        )
        times = listed([f"`{self.parts[i].label}`" for i in clocks][:4])
        says = [
            f"Here the step number decides, not a learned gate: {times}. A module is updated only when its condition "
            "holds, and otherwise keeps its value.",
            "A slow module keeps its value for long, since it is rarely updated.",
        ]
        parts = {*clocks, *self.roles.clocks}
        wires = [f"{a}-{b}" for a, b in self.between(parts)]
        return self.scene("clock", "Forget by the clock", says, parts, wires, (), self.roles.clocks[0], [])

    def update(self, belt: Belt) -> Scene:
        name, before = self.words.symbol(belt.last, belt.name), self.words.symbol(belt.first)
        says = [f"Now the memory is updated: `{before}` becomes `{name}`."]
        keeps = [use for use in self.roles.by("keep") if use.belt == belt.name]
        if keeps:
            says.append(f"What the gate keeps of `{before}` and what is let in are combined.")
        active = self.with_equations([belt.last]) | set(belt.parts[1:])
        if not any(self.parts[i].kind == "layer" for i in active):
            says.append("Each unit is updated by itself: no unit reads another.")
        label = f"hold all of `{name}` at 0 at this step"
        tries = [{"label": label, "part": belt.last, "value": 0.0, "once": True}]
        return self.active(
            f"update {belt.name}", f"Update: `{self.words.bare(belt.last, belt.name)}`", says, active, belt.last, tries
        )

    def give(self, end: int) -> Scene:
        """The scene about an output that is not a belt, with the gates that show a belt in it."""
        name = self.words.symbol(end)
        shown = self.with_equations([end])
        uses = [use for use in self.roles.by("show") if use.at in shown]
        says = []
        for use in uses:
            says += [
                self.words.made(use.gate),
                f"`{self.words.symbol(use.gate)}` multiplies {self.words.described(use.other)}: it decides which units "
                "are shown now, and which stay hidden on the belt.",
            ]
        if not uses:
            says.append(self.words.made(end))
        says.append(self.goes(end))
        gates = [use.gate for use in uses]
        tries = [self.hold(gate, 0.0, "show nothing") for gate in gates]
        tries += [self.hold(gate, 1.0, "show everything") for gate in gates]
        names = [f"`{self.words.bare(i)}`" for i in (*gates, end) if self.parts[i].name]
        title = f"Output: {listed(names)}" if names else "Output"
        found = self.active(f"give {name}", title, says, shown | self.with_equations(gates), end, tries)
        return found

    def goes(self, end: int) -> str:
        """Where an output goes, in words."""
        kinds = {e.kind for e in self.circuit.ends if e.part == end}
        first = self.circuit.ends[0].part == end
        where = ["to the next step"] if "state" in kinds else []
        where += ["up, to the layer above or to the prediction"] if first or "stream" in kinds else []
        return f"`{self.words.symbol(end)}` goes {listed(where)}."

    def rest(self, k: int) -> Scene:
        """The scene about an equation without a role."""
        part = self.equations[k].part
        says = [self.words.made(part), *([used] if (used := self.words.used(part)) else [])]
        for use in (use for use in self.roles.uses if use.gate == part):
            says.append(
                f"`{self.words.symbol(part)}` is between 0 and 1 and multiplies {self.words.described(use.other)}."
            )
        named = bool(self.parts[part].name)
        tries = [self.hold(part, 0.0, "take it out")] if named else []
        title = f"`{self.words.symbol(part)}`"
        return self.active(f"value {self.equations[k].name}", title, says, self.with_equations([part]), part, tries)


def _by_gate(uses: Iterable[GateUse]) -> list[list[GateUse]]:
    found: dict[int, list[GateUse]] = {}
    for use in uses:
        found.setdefault(use.gate, []).append(use)
    return list(found.values())
