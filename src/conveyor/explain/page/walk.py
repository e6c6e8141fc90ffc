"""The walk through a step, a scene for each thing that it does: what to look at, what to say of it, what to try."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conveyor.explain.circuit import Circuit
from conveyor.explain.page.phrases import listed
from conveyor.explain.page.roles import Belt, GateUse
from conveyor.explain.page.scenes import Scene, SceneBuilder, with_unique_ids

MARKS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "where": "a choice", "maximum": "max", "minimum": "min"}
CHOICES = {"where", "maximum", "minimum"}  # what is not chosen is gone
KEPT = ("add", "sub", "neg", "slice", "cat")  # what drops nothing


def walk(circuit: Circuit) -> list[Scene]:
    """The scenes of a step, in the order of the essay as far as the step has what the essay's has.

        [scene["id"] for scene in walk(circuit)]        # belt, keep f, write i, update C, give h: of an LSTM

    A scene has `id`, `title`, `says` (sentences; a value's symbol stands between backquotes), `parts` and `wires`
    ("3-6", "8-end:C") which are to be lit, `equations` (their places in `equations(circuit)`), `show` (the part whose
    numbers are of interest) and `tries`: what a person may do, [{label, part, value, source, once}]: a part is held at
    a value, or, where there is a source, the line from it is cut; `once`: at the present step only. Every equation is
    in some scene.
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
        """The parts that are handed on or given and are no belt's."""
        belts = {belt.last for belt in self.roles.belts}
        ends = dict.fromkeys(end.part for end in self.circuit.ends if end.part not in belts)
        return [part for part in ends if part >= 0 and self.parts[part].kind in ("op", "layer") and self.is_new(part)]

    def is_new(self, part: int) -> bool:
        """Whether no scene before has told its equation, as a gate that is handed on has been told."""
        return any(e.part == part and k not in self.told for k, e in enumerate(self.equations))

    # -- the scenes

    def belt(self, belt: Belt) -> Scene:
        name, before = self.words.bare(belt.last, belt.name), self.words.symbol(belt.first)
        marks = [MARKS[op] for op in MARKS if any(self.parts[i].op == op for i in belt.parts)]
        says = [
            f"`{name}` is carried from step to step like a load on a belt. On its way it meets only {listed(marks)}, "
            "unit by unit: no matrix, no squashing."
            if marks
            else f"`{name}` is carried from step to step as it is.",
            self.far(belt),
        ]
        if all(self.parts[i].op in KEPT for i in belt.parts[1:]):
            says.append("No gate multiplies it here: nothing that has been added is ever dropped.")
        wires = [f"{a}-{b}" for a, b in self.between(belt.parts) if a in belt.parts] + self.ends(belt.last)
        label = f"empty `{before}` before this step"
        tries = [{"label": label, "part": belt.first, "value": 0.0, "once": True}]
        return self.scene(f"belt {belt.name}", f"The belt: `{name}`", says, belt.parts, wires, (), belt.last, tries)

    def far(self, belt: Belt) -> str:
        """What becomes of a load on its way."""
        gated = {use.at for use in self.roles.by("keep") if use.belt == belt.name}
        ops = {self.parts[i].op for i in belt.parts[1:] if i not in gated}
        if ops & CHOICES:
            return "Where the other value is chosen, what lay on the belt is gone; where it is not, the load goes on."
        if ops & {"mul", "div"}:
            return "What multiplies it on its way is not only a gate: how far a load comes depends on that, too."
        return "So what lies on it can come far without being changed, and so can the gradient on its way back."

    def loop(self) -> Scene:
        """Of a step whose states all go through a layer."""
        states = [i for i, part in enumerate(self.parts) if part.kind == "state" and self.circuit.targets(i)]
        wires = [(i, j) for i in states for j in self.circuit.targets(i)]
        names = listed([f"`{self.words.symbol(i)}`" for i in states])
        says = [
            f"This step has no belt. {names} comes back only through learned layers: at every step it is multiplied by "
            "a matrix and squashed.",
            "What was there many steps ago has been through as many matrices. That is why it is hard to keep.",
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
            f"`{factor}` multiplies {kept}, unit by unit. Where `{name}` is {1 - drop:.0f}, a unit keeps what it has, "
            f"where it is {drop:.0f}, it drops it.",
            *self.sees(gate),
        ]
        also = [use for use in self.roles.by("write") if use.gate == gate and use.belt == uses[0].belt]
        if also:
            other = listed([f"`{self.words.symbol(use.other)}`" for use in also])
            says.append(
                f"The same gate says how much of {other} comes in its place: what goes makes room for what comes."
            )
        title = f"Forget: `{self.words.bare(gate)}`"
        tries = [self.hold(gate, drop, "drop everything"), self.hold(gate, 1 - drop, "keep everything")]
        return self.gate_scene("keep", title, says, [*uses, *also], tries)

    def sees(self, gate: int) -> list[str]:
        """What a gate can react to."""
        kinds = self.made_of(gate)
        if "stream" in kinds:
            return ["In a sentence: when a new subject comes, what was known of the old one can go."]
        if kinds & {"state", "clock"}:
            return []
        return ["It does not see what comes: it is learned once for each unit, and is the same at every step."]

    def read(self, uses: Sequence[GateUse]) -> Scene:
        gate, name = uses[0].gate, self.words.symbol(uses[0].gate)
        seen = listed([self.words.described(use.other) for use in uses])
        goal = listed(sorted({f"`{self.words.symbol(i)}`" for use in uses if (i := self.next_named(use.at)) >= 0}))
        what = f" on its way into {goal}" if goal else ""
        says = [
            self.words.made(gate),
            f"`{name}` multiplies {seen}{what}: where it is 0, the new value is made as if there had been no past.",
        ]
        tries = [self.hold(gate, 0.0, "never look back"), self.hold(gate, 1.0, "always look back")]
        return self.gate_scene("read", f"What is seen of the past: `{self.words.bare(gate)}`", says, uses, tries)

    def write(self, belt: Belt) -> list[Scene]:
        """What comes onto a belt: the gates that let it in, unless they have been told, and the candidates."""
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
        tries += [self.hold(i, 0.0, "offer nothing") for i in candidates if self.parts[i].name]
        active = {i for use in uses for i in (use.gate, use.at, *use.through)} | set(candidates)
        parts = self.with_equations([*candidates, *(one[0].gate for one in gates)]) | active
        names = [
            f"`{self.words.bare(i)}`" for i in (*(one[0].gate for one in gates), *candidates) if self.parts[i].name
        ]
        title = f"Take in: {listed(list(dict.fromkeys(names)))}" if names else "What is taken in"
        show = candidates[0] if candidates else gates[0][0].gate
        return [self.active(f"write {belt.name}", title, says, parts, show, tries)]

    def admits(self, uses: Sequence[GateUse], others: str, name: str) -> str:
        gate = self.words.symbol(uses[0].gate)
        factor = f"1 − {gate}" if uses[0].inverted else gate
        return f"`{factor}` multiplies {others}: it says how much of it comes into `{name}`, unit by unit."

    def offered(self, candidates: list[int], name: str) -> list[str]:
        if not candidates:
            return []
        one = "It is the candidate" if len(candidates) == 1 else "These are the candidates"
        both = all(self.parts[i].op == "tanh" for i in candidates)
        sign = " Numbers of both signs push a unit up or down." if both else ""
        return [f"{one}: what could come into `{name}`.{sign}"]

    def clock(self) -> Scene:
        clocks = sorted(
            {i for c in self.roles.clocks for i in self.circuit.sources(c) if self.parts[i].kind == "clock"}
        )
        times = listed([f"`{self.parts[i].label}`" for i in clocks][:4])
        says = [
            f"Here a clock decides, not a learned gate: {times}. A module is computed anew only when its clock "
            "strikes, and otherwise keeps what it holds.",
            "A slow module keeps for long, since it is seldom touched.",
        ]
        parts = {*clocks, *self.roles.clocks}
        wires = [f"{a}-{b}" for a, b in self.between(parts)]
        return self.scene("clock", "Forget by the clock", says, parts, wires, (), self.roles.clocks[0], [])

    def update(self, belt: Belt) -> Scene:
        name, before = self.words.symbol(belt.last, belt.name), self.words.symbol(belt.first)
        says = [f"What was decided is now done: `{before}` becomes `{name}`."]
        keeps = [use for use in self.roles.by("keep") if use.belt == belt.name]
        if keeps:
            says.append(f"What is left of `{before}` after the gate, and what is let in, are put together.")
        active = self.with_equations([belt.last]) | set(belt.parts[1:])
        if not any(self.parts[i].kind == "layer" for i in active):
            says.append("Each unit goes its own way here: no unit sees another.")
        label = f"hold all of `{name}` at 0 at this step"
        tries = [{"label": label, "part": belt.last, "value": 0.0, "once": True}]
        return self.active(
            f"update {belt.name}", f"Update: `{self.words.bare(belt.last, belt.name)}`", says, active, belt.last, tries
        )

    def give(self, end: int) -> Scene:
        """A state or an output that is no belt's, with the gates that show the belt in it."""
        name = self.words.symbol(end)
        shown = self.with_equations([end])
        uses = [use for use in self.roles.by("show") if use.at in shown]
        says = []
        for use in uses:
            says += [
                self.words.made(use.gate),
                f"`{self.words.symbol(use.gate)}` multiplies {self.words.described(use.other)}: it says which units "
                "are shown now, and which stay on the belt unseen.",
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
        """Where a value that is given goes."""
        kinds = {e.kind for e in self.circuit.ends if e.part == end}
        first = self.circuit.ends[0].part == end
        where = ["to the next step"] if "state" in kinds else []
        where += ["up, to the layer above or to the prediction"] if first or "stream" in kinds else []
        return f"`{self.words.symbol(end)}` goes {listed(where)}."

    def rest(self, k: int) -> Scene:
        """An equation that has no role of its own."""
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
