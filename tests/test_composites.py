"""A node remembers the call of the step that it was lowered from; what is larger than a node is read from that."""

import pytest
import torch
import torch.nn.functional as F

import conveyor
from cases import CASES
from conveyor import zoo
from conveyor.compiler.composites import composites, is_weight, learned_maps, weight_name
from conveyor.compiler.differentiate import Costs
from conveyor.compiler.graph import Graph, Node, Origin, Output, prune
from conveyor.compiler.pipeline import training
from conveyor.explain.circuit import Circuit
from op_cells import op_cell


def graph_of(expression):
    """The graph of a step that has this value of `a` and `b`, [B, 13] each, as an output."""
    return conveyor.compile(op_cell(expression)(3, 13)).traced


@pytest.mark.parametrize("name", CASES)
def test_every_node_of_a_step_knows_its_module_and_its_call(name):
    layer = CASES[name].layer(3, 5)
    graph = conveyor.compile(layer.cell, shapes=CASES[name].shapes).traced
    modules = dict(layer.cell.named_modules())
    for i, node in enumerate(graph.nodes):
        if node.kind == "input":
            assert node.origin is None
        elif node.origin is not None:  # else the step has made it of nothing, or a result has been brought to all rows
            assert node.origin.module in modules
            assert all(j < i for j in node.origin.inputs)
    assert any(node.origin for node in graph.nodes)


def test_a_map_of_a_cell_in_a_cell_has_its_path():
    origins = {n.origin for n in conveyor.compile(CASES["own, nested"].layer(3, 5).cell).traced.nodes if n.origin}
    assert {"inner.forget", "maps.0", "maps.1"} <= {origin.module for origin in origins}


def test_where_a_node_comes_from_is_no_part_of_what_it_is():
    by_call, by_hand = graph_of("torch.relu(a)"), graph_of("torch.where(a <= 0, 0.0, a)")
    assert by_call == by_hand
    assert hash(by_call) == hash(by_hand)
    (one,) = composites(by_call, {"relu"}).values()
    assert [by_call.nodes[i].name for i in one.inputs] == ["a"]
    assert not composites(by_hand, {"relu"})  # though both have one kernel, each is shown as it is written


def test_of_two_equal_nodes_the_origin_of_the_first_stays():
    graph = graph_of("torch.exp(a - 1) + torch.sub(a, 1.0) * b")
    (difference,) = [node for node in graph.nodes if node.op == "sub"]
    (exp,) = [node for node in graph.nodes if node.op == "exp"]
    assert difference.origin.call == exp.origin.call - 1


@pytest.mark.parametrize(
    "expression", ["torch.softmax(a, -1)", "torch.relu(a)", "F.layer_norm(a, (H,))", "F.gelu(a)", "F.softplus(a)"]
)
def test_a_composite_operation_is_one_call(expression):
    graph = graph_of(expression)
    name = expression.partition("(")[0].partition(".")[2]
    ((last, one),) = composites(graph, {name}).items()
    assert [graph.nodes[j].name for j in one.inputs] == ["a"]
    assert last == one.nodes[-1]
    read = {j for i in one.nodes for j in graph.nodes[i].inputs} - set(one.nodes)
    assert {graph.nodes[j].name for j in read if graph.nodes[j].op != "const"} == {"a"}


def test_a_composite_operation_of_which_more_is_seen_is_no_whole():
    assert composites(graph_of("torch.softmax(a, -1) * a.amax(-1, keepdim=True)"), {"softmax"}) == {}
    assert len(composites(graph_of("torch.softmax(a, -1) * a.sum(-1, keepdim=True)"), {"softmax"})) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "self.m(a) with m = nn.Linear(H, 13)",
        "F.linear(a, self.m.weight, self.m.bias) with m = nn.Linear(H, 13)",
        "a @ self.W + self.c with W = matrix(H, 13); c = matrix(13)",
        "torch.addmm(self.c, a, self.W) with W = matrix(H, 13); c = matrix(13)",
        "self.m(a) with m = self.affine('u', out=13)",
    ],
)
def test_a_learned_map_is_one_however_it_is_written(expression):
    graph = graph_of(expression)
    maps = learned_maps(graph)
    (found,) = [one for one in maps.values() if len(one.terms) == 1 and one.biases and _reads(graph, one) == ["a"]]
    assert found.terms[0].block == "full"
    assert len(found.biases) == 1


def _reads(graph, one):
    return [graph.nodes[term.value].name for term in one.terms]


def test_the_terms_of_a_map():
    graph = conveyor.compile(zoo.PeepholeLSTM(3, 5)).traced
    (sigmoid,) = [node for node in graph.nodes if node.name == "f"]
    found = learned_maps(graph)[sigmoid.inputs[0]]
    blocks = {weight_name(graph, term.weight): term.block for term in found.terms}
    assert blocks == {"forget.weight_C": "diagonal", "forget.weight_h": "full", "forget.weight_x": "full"}
    assert [weight_name(graph, bias) for bias in found.biases] == ["forget.bias"]
    assert set(found.inner) == set(found.nodes) - {sigmoid.inputs[0]}
    apart = learned_maps(graph, lambda part, _: is_weight(graph, part))
    assert max(len(one.terms) for one in apart.values()) == 1


def test_passes_keep_the_module_and_leave_the_call():
    graph = conveyor.compile(zoo.LSTM(3, 5)).traced
    for stage in training(graph, [("weight", name) for name in graph.inputs("weight")], Costs(recompute=24)):
        origins = [node.origin for node in stage.graph.nodes if node.origin]
        assert {"forget", "input", "candidate", "output", ""} == {origin.module for origin in origins}
        assert {origin.call for origin in origins} == {-1}


def test_pruning_renumbers_what_a_call_was_given():
    origin = Origin("", "abs", 0, (1,))
    nodes = (Node("const", attrs=(1.0,)), Node("const", attrs=(2.0,)), Node("abs", (1,), origin=origin))
    kept = prune(Graph(nodes, (Output("once", "y", 2),)))
    assert kept.nodes[1].origin == Origin("", "abs", 0, (0,))
    gone = Node("abs", (1,), origin=Origin("", "abs", 0, (0, 1)))
    assert prune(Graph((*nodes[:2], gone), (Output("once", "y", 2),))).nodes[1].origin == origin.rewritten


def test_what_is_made_of_the_step_number_alone():
    graph = graph_of("torch.where(t % 3 == 0, a, b)")
    assert {graph.nodes[i].op for i in graph.step_values} == {"input", "mod", "eq"}
    (period,) = [n for n in graph_of("torch.cos(self.v * t) * a with v = matrix(H)").nodes if n.op == "cos"]
    assert period.time
    assert not period.rows


def test_the_picture_of_one_cell_is_not_that_of_an_equal_one():
    class Called(conveyor.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.m = self.affine("h", "x")

        def step(self, x, h):
            return F.relu(self.m(h, x))

    class Written(Called):
        def step(self, x, h):
            a = self.m(h, x)
            return torch.where(a <= 0, 0.0, a)

    def kinds(cell):
        return [part.op for part in Circuit.of(conveyor.compile(cell).traced).parts if part.kind in ("layer", "op")]

    assert kinds(Written(3, 5)) == ["", "le", "where"]
    assert kinds(Called(3, 5)) == ["relu"]


def test_a_condition_on_the_step_is_read_through_views():
    graph = graph_of("torch.where(t.reshape(1).expand(1) < 3, a, b)")
    assert [part.label for part in Circuit.of(graph).parts if part.kind == "clock"] == ["t < 3"]
