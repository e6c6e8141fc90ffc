"""The walk through a step, the roles of its parts, and the variants: what they say is what the step does."""

import json
import re

import pytest
import torch
from hypothesis import given, settings

from cases import Leaky
from conveyor.cell import Cell
from conveyor.explain.circuit import Circuit
from conveyor.explain.difference import changed
from conveyor.explain.formula import equations
from conveyor.explain.page.roles import Roles
from conveyor.explain.page.variants import SHOWN, SIZES, circuit_of, own, variant, variants
from conveyor.explain.page.walk import walk
from conveyor.explain.running.edits import Edit
from conveyor.explain.running.interpret import interpret
from conveyor.layer.compilation import compile
from conveyor.zoo import CELLS
from random_cells import random_cells


class Own(Cell):
    """A person's own cell: two belts, a gate that is shared, a value that has no role, a layer without a name."""

    state = ("y", "slow", "fast")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.keep = self.affine("y", "x")
        self.new = self.affine("y", "x")
        self.mix = self.affine("y")
        self.show = self.affine("slow", "fast")

    def step(self, x, y, slow, fast):
        k = torch.sigmoid(self.keep(y, x))
        n = torch.tanh(self.new(y, x))
        aside = torch.relu(self.mix(y))
        slow = k * slow + (1 - k) * n
        fast = (1 - k) * fast + n + aside
        y = torch.tanh(self.show(slow, fast))
        return y, slow, fast


class Chosen(Cell):
    """A belt that is overwritten where a choice says so, by a value that has no name."""

    state = ("h", "c")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.gate = self.affine("h", "x")
        self.w = torch.nn.Parameter(torch.zeros(hidden_size))

    def step(self, x, h, c):
        k = torch.sigmoid(self.gate(h, x))
        c = torch.where(k > 0.5, c, (k * self.w + k) * (k + self.w))
        h = torch.tanh(c)
        return h, c


ALL = {**CELLS, "own": Own, "leaky": Leaky, "chosen": Chosen}


def traced(kind):
    return Circuit.of(compile(kind(*SIZES)).traced)


def check(circuit):
    """What holds for every walk."""
    scenes = walk(circuit)
    formulas = equations(circuit)
    assert len({scene["id"] for scene in scenes}) == len(scenes)
    assert {k for scene in scenes for k in scene["equations"]} == set(range(len(formulas)))
    wires = {f"{wire.source}-{wire.target}" for wire in circuit.wires}
    wires |= {f"{end.part}-end:{end.name}" for end in circuit.ends}
    seen = set()
    for scene in scenes:
        assert scene["title"]
        assert scene["says"]
        assert all(sentence.count("`") % 2 == 0 and sentence.endswith(".") for sentence in scene["says"])
        assert scene["show"] in scene["parts"]
        assert set(scene["wires"]) <= wires
        for wire in scene["wires"]:  # a line is lit with both its ends
            source, _, target = wire.partition("-")
            assert int(source) in scene["parts"]
            assert target.startswith("end:") or int(target) in scene["parts"]
        for k in scene["equations"]:  # with an equation all that it writes out
            assert set(formulas[k].parts) <= set(scene["parts"])
        for one in scene["tries"]:
            assert "source" not in one or f"{one['source']}-{one['part']}" in wires
        seen |= set(scene["parts"])
    read = {i for wire in circuit.wires for i in (wire.source, wire.target)}
    assert read <= seen


@pytest.mark.parametrize("name", ALL)
def test_a_walk_tells_all_of_a_step(name):
    check(traced(ALL[name]))


@settings(max_examples=12)
@given(random_cells(numbered=True, extra=True))
def test_a_walk_tells_all_of_any_step(kind):
    cell = kind(3, 8)
    shapes = {name: (5,) for name in cell.arguments if name not in cell.widths and name != "t"}
    check(Circuit.of(compile(cell, shapes=shapes).traced))


def ids(name):
    return [scene["id"] for scene in walk(traced(ALL[name]))]


def test_the_order_of_the_essay():
    assert ids("lstm") == ["belt C", "keep f", "write C", "update C", "give h_t"]
    assert ids("gru") == ["belt h", "keep z", "read r", "write h", "update h"]
    assert ids("rnn") == ["loop", "give h_t"]
    assert ids("lstm-original") == ["belt C", "write C", "update C", "give h_t"]  # it has nothing that forgets
    assert ids("clockwork")[:3] == ["belt h", "write h", "clock"]


def test_what_lights_in_the_scenes_of_the_lstm():
    circuit = traced(CELLS["lstm"])
    at = circuit.named | {"h-": 1, "x": 0, "C-": 2}
    keep, write, shown = (6, 7, 10)  # f * C, i * C̃, tanh(C)
    scenes = {scene["id"]: scene for scene in walk(circuit)}
    lit = {name: set(scene["parts"]) for name, scene in scenes.items()}
    assert lit["belt C"] == {at["C-"], keep, at["C"]}
    assert lit["keep f"] == {at["x"], at["h-"], at["f"], at["C-"], keep}
    assert lit["write C"] == {at["x"], at["h-"], at["i"], at["C_tilde"], write}
    assert lit["update C"] == {at["C-"], at["f"], at["i"], at["C_tilde"], keep, write, at["C"]}
    assert lit["give h_t"] == {at["x"], at["h-"], at["C"], at["o"], shown, at["h"]}
    assert set(scenes["belt C"]["wires"]) == {f"{at['C-']}-{keep}", f"{keep}-{at['C']}", f"{at['C']}-end:C"}


def said(name):
    return {scene["id"]: " ".join(scene["says"]) for scene in walk(traced(ALL[name]))}


def test_what_is_said_of_a_belt():
    """Kept for ever is only what nothing multiplies and no choice replaces."""
    dropped = {name: [id for id, says in said(name).items() if "never forgotten" in says] for name in ALL}
    assert {name: ids for name, ids in dropped.items() if ids} == {"lstm-original": ["belt C"], "lstm-nfg": ["belt C"]}
    for name, id in (("chosen", "belt c"), ("clockwork", "belt h")):
        assert "is gone" in said(name)[id]
        assert "can come far" not in said(name)[id]


def test_what_is_said_of_a_gate_that_sees_nothing():
    assert "It does not see the input" in said("leaky")["keep a"]
    assert "a new subject" not in said("leaky")["keep a"]
    assert "a new subject" in said("lstm")["keep f"]


def test_values_without_a_name_are_told_by_what_they_are_made_of():
    circuit = traced(Chosen)
    assert "computed from a value computed" not in " ".join(said("chosen").values())
    assert "from `k_t` and `w`." in " ".join(said("chosen").values())
    conditions = {circuit.owners[part.operands[0]] for part in circuit.parts if part.op == "where"}
    assert not conditions & {i for found in Roles.of(circuit).candidates.values() for i in found}


def uses(name):
    circuit = traced(ALL[name])
    return {(use.role, circuit.parts[use.gate].name, use.inverted, use.belt) for use in Roles.of(circuit).uses}


def test_the_roles_of_gates():
    assert uses("lstm") == {("keep", "f", False, "C"), ("write", "i", False, "C"), ("show", "o", False, "C")}
    assert uses("gru") == {("keep", "z", False, "h"), ("write", "z", True, "h"), ("read", "r", False, "")}
    assert uses("gru-reset-before") == {("keep", "z", True, "h"), ("write", "z", False, "h"), ("read", "r", False, "")}
    assert uses("lstm-coupled") >= {("keep", "f", False, "C"), ("write", "f", True, "C")}
    assert uses("own") == {("keep", "k", False, "slow"), ("write", "k", True, "slow"), ("keep", "k", True, "fast")}
    assert uses("rnn") == set()


def step(circuit, edits, **states):
    """The new states of one step of random weights."""
    torch.manual_seed(3)
    given = {}
    for node in circuit.graph.nodes:
        if node.op == "input":
            kind, name, _ = node.key
            value = torch.randn(1, *node.dims) if node.rows else torch.randn(node.dims)
            given[kind, name] = torch.tensor(1.0) if kind == "step" else value
    for name, value in states.items():
        given["state", name] = torch.full_like(given["state", name], value)
    values = interpret(circuit, given, edits)
    return {end.name: values[circuit.parts[end.part].node] for end in circuit.ends if end.kind == "state"}


@pytest.mark.parametrize("name", ALL)
def test_a_gate_that_keeps_keeps_and_drops(name):
    """Nothing comes onto the belt, and the gate is held: the state is what it was, or nothing of it is left."""
    circuit = traced(ALL[name])
    roles = Roles.of(circuit)
    for use in roles.by("keep"):
        shut = [Edit(0, part, 0.0) for part in roles.candidates[use.belt]]
        keep = 0.0 if use.inverted else 1.0
        for value in (0.7, -0.4):
            kept = step(circuit, [*shut, Edit(0, use.gate, keep)], **{use.belt: value})[use.belt]
            torch.testing.assert_close(kept, torch.full_like(kept, value))
            dropped = step(circuit, [*shut, Edit(0, use.gate, 1 - keep)], **{use.belt: value})[use.belt]
            torch.testing.assert_close(dropped, torch.zeros_like(dropped))


@pytest.mark.parametrize("name", ALL)
def test_a_gate_that_writes_lets_in(name):
    """Shut, its candidate makes no difference to the belt."""
    circuit = traced(ALL[name])
    for use in Roles.of(circuit).by("write"):
        shut = Edit(0, use.gate, 1.0 if use.inverted else 0.0)
        one, other = (step(circuit, [shut, Edit(0, use.other, value)])[use.belt] for value in (0.9, -0.9))
        torch.testing.assert_close(one, other)


# -- the variants


def test_the_variants_in_the_package_are_what_would_be_drawn_now():
    """If not, `python -m conveyor.explain.page.variants` writes them."""
    known = {one["id"]: one for one in variants()}
    assert list(known) == list(SHOWN)
    base = circuit_of("lstm")
    for name in SHOWN:
        circuit = circuit_of(name)
        found, drawn = own(circuit, base), known[name]["svg"]
        assert {int(part) for part in re.findall(r'data-part="(\d+)"', drawn)} == set(range(len(circuit.parts)))
        assert set(" ".join(re.findall(r'data-wire="([^"]*)"', drawn)).split()) == {
            *(f"{wire.source}-{wire.target}" for wire in circuit.wires),
            *(f"{end.part}-end:{end.name}" for end in circuit.ends),
        }
        assert [equation["text"] for equation in known[name]["equations"]] == [e.text for e in equations(circuit)]
        assert [equation["changed"] for equation in known[name]["equations"]] == found["changed"]
        assert {key: known[name][key] for key in ("parts", "wires", "gone")} == {
            key: found[key] for key in ("parts", "wires", "gone")
        }
    assert len(json.dumps(variants())) < 400_000


@pytest.mark.parametrize("name", ["lstm", "gru-reset-before"])
@pytest.mark.usefixtures("as_users_have_them")
def test_a_drawing_in_the_package_is_what_would_be_drawn_now(name):
    """Of cells that are quickly laid out the whole entry; what changes another's drawing changes theirs too."""
    known = next(one for one in variants() if one["id"] == name)
    assert variant(name, circuit_of("lstm")) == known


@pytest.mark.parametrize("name", CELLS)
def test_what_lights_of_a_variant_is_in_what_changed(name):
    circuit, base = circuit_of(name), circuit_of("lstm")
    found = own(circuit, base)
    inside = {i for equation in changed(circuit, base) for i in equation.parts}
    assert set(found["parts"]) <= inside
    assert {wire.partition("-")[2] for wire in found["wires"]} <= {str(part) for part in found["parts"]}
    assert bool(found["parts"]) == any(found["changed"])


def test_what_changed_against_the_lstm():
    base = circuit_of("lstm")
    circuit = circuit_of("lstm-peephole-full")
    at = circuit.named
    found = own(circuit, base)
    assert found["parts"] == sorted([at["f"], at["i"], at["o"]])
    assert set(found["wires"]) == {f"2-{at['f']}", f"2-{at['i']}", f"{at['C']}-{at['o']}"}  # the peepholes
    assert found["gone"] == []
    coupled = circuit_of("lstm-coupled")
    assert own(coupled, base)["gone"] == ["i"]
    assert coupled.named["f"] not in own(coupled, base)["parts"]
    assert own(base, base)["parts"] == []
