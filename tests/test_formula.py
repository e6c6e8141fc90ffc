"""The equations read back from a cell compute what the cell computes, and are those of its paper."""

import re
import unicodedata
from xml.etree import ElementTree

import pytest
import torch

import conveyor
from cases import CASES, Counted, Fed, Leaky, extra_inputs
from conveyor.explain.circuit import Circuit
from conveyor.explain.difference import changed, gone
from conveyor.explain.formula import equations, subscripts, symbol
from conveyor.zoo import CELLS
from random_cells import sample
from tolerance import TOLERANCE, assert_equal

LSTM = """
f_t = σ(W_f · [h_{t-1}, x_t] + b_f)
i_t = σ(W_i · [h_{t-1}, x_t] + b_i)
C̃_t = tanh(W_C · [h_{t-1}, x_t] + b_C)
C_t = f_t * C_{t-1} + i_t * C̃_t
o_t = σ(W_o · [h_{t-1}, x_t] + b_o)
h_t = o_t * tanh(C_t)
"""
GRU = """
z_t = σ(W_z · [h_{t-1}, x_t])
r_t = σ(W_r · [h_{t-1}, x_t])
h̃_t = tanh(W_h · [r_t * h_{t-1}, x_t])
h_t = (1 − z_t) * h_{t-1} + z_t * h̃_t
"""


class Clashing(conveyor.Cell):
    """A user's own: names that want the same symbols."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, input_size)
        self.a, self.b, self.c = (self.affine("h", "x") for _ in range(3))

    def step(self, x, h):
        u = torch.tanh(self.a(h, x))
        u_tilde = torch.sigmoid(self.b(h, x))
        v2 = u * (u_tilde + x) * torch.sigmoid(u - (u_tilde - h))
        x = torch.tanh(u_tilde * -x - v2)
        twice = torch.tanh(u * h) + x
        return twice * (v2 - torch.tanh(twice)) + torch.relu(self.c(h, x)) * (twice * twice)


class Ticking(conveyor.Cell):
    """A user's own: what is made of the step's number is read at several places."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h, t):
        k = t % 4
        new = torch.tanh(self.candidate(h, x)) * k
        return torch.where(k == 0, new, h + (torch.remainder(new, h) > new) * new)


# What the steps of these make can be said without the shapes of what they see otherwise.
OWN = {"leaky": Leaky, "fed": Fed, "counted": Counted, "clashing": Clashing, "ticking": Ticking}
EVALUATED = {**CELLS, **OWN}


def circuit_of(name):
    return Circuit.of(conveyor.compile(EVALUATED[name](3, 4)).traced)


def lines(circuit):
    return [unicodedata.normalize("NFC", equation.text) for equation in equations(circuit)]


@pytest.mark.parametrize(("name", "wanted"), [("lstm", LSTM), ("gru-reset-before", GRU)], ids=["lstm", "gru"])
def test_the_equations_are_those_of_the_essay(name, wanted):
    assert lines(circuit_of(name)) == [unicodedata.normalize("NFC", line) for line in wanted.split("\n") if line]


@pytest.mark.parametrize("name", EVALUATED)
def test_the_equations_compute_what_the_step_computes(name):
    assert_right(EVALUATED[name](3, 4).double())


def test_the_equations_of_random_cells_compute_what_their_steps_compute():
    """Of those that have no value seen in another shape, and no weight made of others."""
    plain = []
    for kind in sample(60):
        cell = kind(3, 4).double()
        nodes = conveyor.compile(cell, dtype=torch.float64).traced.nodes
        weights_alone = all(node.op in ("input", "const", "permute") for node in nodes if node.shared)
        if weights_alone and all(node.op not in SHAPED for node in nodes if node.rows):
            plain.append(cell)
    assert len(plain) >= 10
    for cell in plain:
        assert_right(cell, {torch.float64: 1e-6})  # numbers are written with six digits


SHAPED = {"reshape", "permute", "expand", "slice", "cat", "pad", "sum", "max", "contract"}


def assert_right(cell, table=TOLERANCE):
    """Each equation is read as a line of Python, with the cell's weights under the names that they have in it."""
    circuit = Circuit.of(conveyor.compile(cell, dtype=torch.float64).traced)
    assert len(set(subscripts(circuit).values())) == len(subscripts(circuit))
    given = {"t": torch.tensor(2)}
    for argument in cell.arguments:
        if argument != "t":
            given[argument] = torch.randn(1, cell.widths[argument], dtype=torch.float64)
    result = cell.step(*(given[argument] for argument in cell.arguments))
    known = weights(cell, circuit) | {"t": torch.tensor(2.0, dtype=torch.float64)}
    for argument, value in given.items():
        if argument != "t":
            time = "" if argument in cell.constant else "t-1" if argument in cell.state else "t"
            known[symbol(argument, time)[0]] = value[0]
    for equation in equations(circuit):
        left, right = equation.text.split(" = ", 1)
        known[left] = evaluate(right, known)
    for state, value in zip(cell.state, (result,) if torch.is_tensor(result) else result, strict=False):
        assert_equal(known[symbol(state, "t")[0]], value[0], state, table)


def weights(cell, circuit):
    """The weights of all layers, and the parameters that a step reads by themselves, by their names in equations."""
    own, nodes, found = dict(cell.named_parameters()), circuit.graph.nodes, {}
    for at, part in enumerate(circuit.parts):
        if part.kind == "parameter":
            found[symbol(part.name.rpartition(".")[2])[0]] = own[part.name]
        if part.kind != "layer":
            continue
        name, full = subscripts(circuit)[at], []
        for term in part.terms:
            node = nodes[term.weight]
            weight = own[nodes[node.inputs[0]].attrs[1]] if node.op == "permute" else own[node.attrs[1]]
            if term.block == "diagonal":
                found[symbol(f"w_{name}_{circuit.parts[circuit.owners[term.value]].name}")[0]] = weight
            else:
                full.append(weight)
        if full:
            found[symbol(f"W_{name}")[0]] = torch.cat(full, 1)
        for count, bias in enumerate(part.biases):
            found[symbol(f"b_{name}" + (f"_{count + 1}" if count else ""))[0]] = own[nodes[bias].attrs[1]]
    return found


class Joined:
    """joined[a, b] is a and b one after the other."""

    def __getitem__(self, values):
        return torch.cat(values)


SYMBOL = re.compile(r"[^\W\d_]++(?:\u00a0\w++)*+[\u0300-\u036f]*+′?+(?:_\{[^}]*\}|_\w++)?+(?!\()")
WORDS = {", else ": ", ", " mod ": " % ", " = ": " == ", "≤": "<=", "≠": "!=", "·": "@", "×": "*", "−": "-", "^": "**"}
FUNCTIONS = {name: getattr(torch, name) for name in "tanh relu cos sin exp log log1p expm1 erf sqrt floor".split()}  # noqa: SIM905
FUNCTIONS |= {"σ": torch.sigmoid, "√": torch.sqrt, "sgn": torch.sign, "max": torch.maximum, "min": torch.minimum}
FUNCTIONS |= {"Σ": lambda value: value.sum(-1, keepdim=True), "size_of": torch.abs}


def chosen(one, condition, other):
    one, condition, other = (torch.as_tensor(value, dtype=torch.float64) for value in (one, condition, other))
    return torch.where(condition.bool(), one, other)


def evaluate(text, known):
    """The right side of an equation, as Python reads it."""
    while " where " in text:  # (a where c, else b) is chosen(a, c, b)
        at = opening = text.index(" where ")
        while text[opening] != "(" or text[opening:at].count("(") <= text[opening:at].count(")"):
            opening -= 1
        text = f"{text[:opening]}chosen{text[opening:at]}, {text[at + 7 :]}"
    for word, python in WORDS.items():
        text = text.replace(word, python)
    text = re.sub(r"\|([^|]*)\|", r"size_of(\1)", text)
    text = re.sub(r"(?<![\w}])\[", "joined[", text).replace("√", "sqrt")
    text = SYMBOL.sub(lambda found: found[0] if found[0] == "joined" else f"known[{found[0]!r}]", text)
    return eval(text, {"known": known, "joined": Joined(), "chosen": chosen, **FUNCTIONS})


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.heavy])
def test_every_cell_has_equations_that_browsers_can_draw(name):
    layer = CASES[name].layer(3, 4)
    constant = layer.cell.constant
    shapes = {n: tuple(v.shape[1 if n in constant else 2 :]) for n, v in extra_inputs(layer, 1, 1).items()}
    check(Circuit.of(conveyor.compile(layer.cell, shapes=shapes).traced))


def test_random_cells_have_equations_that_browsers_can_draw():
    for kind in sample(12):
        cell = kind(3, 4)
        check(Circuit.of(conveyor.compile(cell).traced))


def check(circuit):
    """Every value that the step gives has an equation, and each is said once."""
    found = equations(circuit)
    for end in circuit.ends:
        assert any(end.part in equation.parts for equation in found) or circuit.parts[end.part].kind == "state"
    left = [equation.text.split(" = ")[0] for equation in found]
    assert len(left) == len(set(left))
    for equation in found:
        assert ElementTree.fromstring(equation.mathml).tag.endswith("math")


def test_what_a_variant_does_otherwise():
    lstm = circuit_of("lstm")
    assert [equation.name for equation in changed(circuit_of("lstm-coupled"), lstm)] == ["C"]
    assert gone(circuit_of("lstm-coupled"), lstm) == ("i",)
    assert [equation.name for equation in changed(circuit_of("lstm-peephole"), lstm)] == ["f", "i", "o"]
    assert changed(circuit_of("lstm-np"), lstm) == ()
    assert gone(circuit_of("gru"), lstm) == ("f", "i", "C_tilde", "C", "o")
