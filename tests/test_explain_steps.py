"""One step, interpreted node by node and spelled in JavaScript, is the step: of every cell, and of every operation."""

import json
import random

import numpy as np
import pytest
import torch

from cases import CASES, Case, extra_inputs, random_state, tensors
from conveyor import compile, zoo
from conveyor.cell.loop import Scan, take_step
from conveyor.compiler.graph import Builder, Output
from conveyor.compiler.ops import OPS
from conveyor.explain.circuit import Circuit
from conveyor.explain.running.edits import Changes, Edit, editable
from conveyor.explain.running.interpret import interpret
from conveyor.layer.tracing import Signature, traced
from conveyor.targets.js.emit import SPELLING, emit
from conveyor.targets.js.loops import literal
from conveyor.targets.js.memory_map import MemoryMap
from in_a_page import assert_same, page
from op_cells import OPS as SPELLINGS
from op_cells import POSITIVE, SHAPED, op_cell
from random_cells import sample
from tolerance import KERNEL, assert_equal

pytestmark = pytest.mark.xdist_group("explain steps")


def test_an_operation_without_a_spelling_is_no_copy(monkeypatch):
    circuit = Circuit.of(compile(zoo.LSTM(2, 3)).traced)
    assert "Math.tanh" in emit([MemoryMap(circuit)])
    monkeypatch.delitem(SPELLING, "tanh")
    with pytest.raises(KeyError, match="tanh"):
        emit([MemoryMap(circuit)])


class Taken:
    """A cell's step, and what it is given: one row, at a step that is not the first."""

    def __init__(self, layer, dtype=torch.float64, shapes=None, positive=False):
        cell = self.cell = layer.cell
        draw = {name: value[0] if name not in cell.constant else value for name, value in
                extra_inputs(layer, 1, 1, dtype, shapes).items()}  # fmt: skip
        draw["x"] = torch.randn(1, cell.input_size, dtype=dtype)
        draw |= {name: torch.randn(1, cell.widths[name], dtype=dtype) for name in cell.below}
        state = [value[0] for value in tensors(random_state(layer, 1, dtype))]
        if positive:
            draw = {name: value.abs() + 0.5 for name, value in draw.items()}
        constants = {name: draw[name] for name in cell.constant}
        streams = {name: value for name, value in draw.items() if name not in constants}
        scan = Scan(cell, {name: v[None] for name, v in streams.items()}, tuple(state), constants)
        found = traced(cell, Signature.of(scan))
        self.circuit = Circuit.of(found.graph)
        self.given = {**draw, **dict(zip(cell.state, state, strict=True)), "t": torch.tensor(3)}
        kinds = dict.fromkeys(cell.constant, "constant") | dict.fromkeys(cell.state, "state") | {"t": "step"}
        self.inputs = {(kinds.get(name, "stream"), name): value for name, value in self.given.items()}
        self.inputs |= {("weight", name): get() for name, get in found.weights.items()}

    def values(self, edits=()):
        with torch.no_grad():
            return interpret(self.circuit, self.inputs, edits)


def all_steps(dtype):
    """The cells of the literature, a user's own, random ones, and one for every operation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, case in CASES.items():
            yield name, Taken(case.layer(3, 5, dtype=dtype), dtype)
        for i, cell in enumerate(sample()):
            yield f"random {i}", Taken(Case(cell).layer(3, 7, dtype=dtype), dtype)
        for name, spellings in SPELLINGS.items():
            layer = Case(op_cell(spellings[0])).layer(3, 13, dtype=dtype)
            yield name, Taken(layer, dtype, {key: (*size, 13) for key, size in SHAPED.items()}, name in POSITIVE)


def test_a_step_interpreted_is_the_step():
    for name, taken in all_steps(torch.float64):
        with torch.no_grad():
            new, named = take_step(taken.cell, taken.given, record=True)
        values, circuit = taken.values(), taken.circuit
        states = [output.node for output in circuit.graph.outputs if output.kind == "state"]
        for state, node, expected in zip(taken.cell.state, states, new, strict=False):
            assert_equal(values[node], expected, f"{name}: {state}", KERNEL)
        for node, value in zip(circuit.graph.nodes, values, strict=True):
            if node.name in named and node.op != "input":
                expected = named[node.name].double()
                assert_equal(value.reshape(expected.shape), expected, f"{name}: {node.name}", KERNEL)


def some_edits(circuit, draw):
    """A value or two that are set, and a line or two that are cut."""
    places = draw.sample(range(len(circuit.parts)), min(2, len(circuit.parts)))
    wires = draw.sample(circuit.wires, min(2, len(circuit.wires)))
    sets = [Edit(0, part, draw.uniform(0.2, 1), unit=draw.choice([None, 0])) for part in places]
    return [*sets, *(Edit(0, wire.target, source=wire.source) for wire in wires)]


def given_to(taken, places, edits):
    """What the page is to put where, and its edits."""
    puts = [
        [places.at[i].at, taken.inputs[kind, name].flatten().tolist()]
        for kind in ("stream", "state", "constant", "step")
        for name, i in places.graph.inputs(kind).items()
    ]
    weights = [taken.inputs["weight", name].double().flatten().tolist() for name in places.weights]
    at = {name: places.at[i].at for name, i in places.graph.inputs("edit").items()}
    changes = Changes.of(taken.circuit, edits).given(taken.circuit)
    edited = [[at[name], numbers.flatten().tolist()] for (_, name), numbers in changes.items()]
    return {"puts": puts, "weights": weights, "edited": edited}


TAKE = """
const { weights, puts, edited } = data[arguments[0]];
const made = steps[arguments[0]](arithmetic, weights.map((numbers) => Float32Array.from(numbers)));
made.prepare();
const take = (edits) => {
  for (const [at, numbers] of puts) made.kept.set(numbers, at);
  made.edits.fill(0);
  for (const [at, numbers] of edits) made.edits.set(numbers, at);
  made.step();
  return made.kept.slice();
};
const found = [take([]), take(edited), take([])];
const all = new Float32Array(3 * made.kept.length);
found.forEach((some, k) => all.set(some, k * made.kept.length));
return all;
"""


def test_a_step_in_a_page_is_the_step(browser, tmp_path):
    names, taken = zip(*all_steps(torch.float32), strict=True)
    steps, draw = [editable(one.circuit) for one in taken], random.Random(0)
    places = [MemoryMap(step.circuit) for step in steps]
    edits = [some_edits(one.circuit, draw) for one in taken]
    data = [given_to(*three) for three in zip(taken, places, edits, strict=True)]
    file = tmp_path / "page.html"
    file.write_text(page(json.loads(json.dumps(data)), b"", emit(places)), encoding="utf-8")
    browser.open(file)
    for k, (name, one, place, step) in enumerate(zip(names, taken, places, steps, strict=True)):
        runs = browser.numbers(TAKE.replace("arguments[0]", str(k))).reshape(3, -1)
        for run, edited in zip(runs, ((), edits[k], ()), strict=True):
            check(run, place, dict(zip(step.of, one.values(edited), strict=True)), f"{name}, with {edited}")


def check(kept, places, values, what):
    """Every value that is kept is as interpreted."""
    for i, value in values.items():
        place = places.at.get(i)
        if place is not None and place.space == "kept":
            size = places.graph.nodes[i].size
            expected = value.double().numpy().ravel().astype(np.float32)
            assert_same(kept[place.at : place.at + size], expected, f"{what}: {places.graph.nodes[i]}")


# Zeros of both signs, infinities, NaN, the points at which functions have their kinks, and what overflows.
SPECIAL = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1.5, 20, -20, 800, -800, 1e-5]


def test_functions_in_a_page_are_those_of_pytorch_where_they_are_special(browser, tmp_path):
    size, b = len(SPECIAL) ** 2, Builder()
    given = [b.input("stream", name, (size,), True, True) for name in "xyz"]
    made = {name: b.pointwise(name, *given[: OPS[name].arity]) for name in SPELLING}
    graph = b.graph([Output("state", "x", given[0]), *(Output("stream", name, i) for name, i in made.items())])
    circuit = Circuit.of(graph)
    first, second = (torch.tensor(SPECIAL).repeat(len(SPECIAL)), torch.tensor(SPECIAL).repeat_interleave(len(SPECIAL)))
    streams = dict(zip("xyz", (first[None], second[None], -first[None]), strict=True))
    values = interpret(circuit, {("stream", name): value for name, value in streams.items()})
    places = MemoryMap(circuit)
    puts = [[places.at[i].at, streams[name][0]] for name, i in graph.inputs("stream").items()]
    (tmp_path / "page.html").write_text(page([], b"", emit([places])), encoding="utf-8")
    browser.open(tmp_path / "page.html")
    text = ", ".join(f"[{at}, [{', '.join(map(literal, numbers.tolist()))}]]" for at, numbers in puts)
    kept = browser.numbers(
        f"const made = steps[0](arithmetic, []); for (const [at, numbers] of [{text}]) made.kept.set(numbers, at); "
        "made.step(); return made.kept.slice();"
    )
    for output in graph.outputs[1:]:
        at = places.at[output.node].at
        assert_same(kept[at : at + size], values[output.node][0].numpy(), output.name)
