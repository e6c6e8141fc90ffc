"""The stages of the compiler as values: they print, they are checked, and an LSTM's plan is the one that was meant."""

from collections import Counter

import pytest
import torch

import conveyor
from cases import PAPERS, QUICK_PAPERS
from conveyor import zoo
from conveyor.compiler import Graph, inference, training
from conveyor.compiler.graph import Node, Output
from conveyor.compiler.program import Gemm, Local, Loop, Outer, Pack
from conveyor.layer.kernels import kernels_of
from conveyor.layer.tracing import Signature, traced
from conveyor.targets.cpu.emit import emit
from conveyor.targets.cpu.plan import plan
from conveyor.targets.registry import TARGETS
from tiers import quick

X, H = 3, 13  # input and hidden size


def stages_of(cell, shapes=None):
    """Inference, and the pair for training with the gradients by all inputs."""
    graph = conveyor.compile(cell, shapes=shapes).traced
    wanted = [(kind, name) for kind in ("stream", "weight") for name in graph.inputs(kind)]
    return inference(graph), *training(graph, wanted, TARGETS[0].costs)


def outline(program):
    """What a plan does in which pass, without the packing of matrices: (over, the stages' kinds)."""
    found = [(one.over, [type(stage) for stage in one.stages if not isinstance(stage, Pack)]) for one in program.passes]
    return [(over, kinds) for over, kinds in found if kinds]


def stages(program, kind):
    return [stage for one in program.passes for stage in one.stages if isinstance(stage, kind)]


def test_every_stage_prints():
    compiled = conveyor.compile(zoo.LSTM(X, H))
    assert "sigmoid" in compiled.graph
    assert "# h" in compiled.graph
    assert "grad forget.weight_h" in compiled.backward
    assert "time, backwards:" in compiled.plan
    assert "void kernel" in compiled.source
    assert all(part in str(compiled) for part in (compiled.graph, compiled.backward, compiled.plan, compiled.source))


def node(op, *inputs, **fields):
    return Node(op, inputs, **fields)


STREAM = node("input", attrs=("stream", "x"), dims=(3,), rows=True, time=True)
BAD = {
    "of 1 values": [STREAM, node("add", 0, dims=(3,), rows=True, time=True)],
    "before one of its inputs": [node("neg", 1, dims=(3,), rows=True, time=True), STREAM],
    "has the shape": [STREAM, node("neg", 0, dims=(-3,), rows=True, time=True)],
    "loses its rows": [STREAM, node("neg", 0, dims=(3,), time=True)],
    "loses its steps": [STREAM, node("neg", 0, dims=(3,), rows=True)],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_graph_that_makes_no_sense_is_refused(reason):
    with pytest.raises(AssertionError, match=reason):
        Graph(tuple(BAD[reason]), ())


def test_an_output_for_the_whole_sequence_does_not_vary_with_the_steps():
    with pytest.raises(AssertionError, match="y is one for all steps, but varies"):
        Graph((STREAM,), (Output("once", "y", 0),))


def test_the_forward_plan_of_an_lstm():
    """One product of all inputs before the loop, one product a step, one loop over the numbers of the state."""
    for stage in stages_of(zoo.LSTM(X, H))[:2]:
        assert outline(stage.program) == [("bulk", [Gemm]), ("time", [Gemm, Loop])]
        of_input, of_state = stages(stage.program, Gemm)
        assert (of_input.width, of_state.width) == (4 * H, 4 * H)  # all gates at once
        assert [size for _, size in of_input.operands] == [X]
        assert [size for _, size in of_state.operands] == [H]
        (loop,) = stages(stage.program, Loop)
        assert Counter(line.op for line in loop.lines if line.op in ("sigmoid", "tanh")) == {"sigmoid": 3, "tanh": 2}


def test_an_lstm_keeps_the_states_and_the_gates_and_these_over_the_products_of_the_input():
    plain, forward, _ = (stage.program for stage in stages_of(zoo.LSTM(X, H)))

    def kept(program):
        inputs = {ref.buffer for key, ref in program.inputs if key.kind == "stream"}
        streams = {i: b for i, b in enumerate(program.buffers) if b.space in ("stream", "history") and i not in inputs}
        return sum(b.width for b in streams.values())

    assert kept(plain) == H + 4 * H  # h, and the products of the input
    assert kept(forward) == 2 * H + 4 * H  # h, C, and the gates where these were
    assert len(forward.saved) == 4
    assert {ref.buffer for _, ref, _ in forward.saved} == {stages(forward, Gemm)[0].target.buffer}


def test_the_backward_plan_of_an_lstm():
    """One loop and one product a step; after it, in one go, the gradients by the weights, biases and inputs."""
    program = stages_of(zoo.LSTM(X, H))[2].program
    assert program.reverse
    (over_time, of_step), (after, sums) = outline(program)
    assert (over_time, of_step) == ("time", [Loop, Gemm])
    assert (after, Counter(sums)) == ("bulk", {Outer: 3, Gemm: 1})
    by_state, by_input = stages(program, Gemm)
    assert (by_state.width, by_input.width) == (H, X)
    assert [size for _, size in by_state.operands] == [4 * H]  # the gradients of all gates side by side
    assert sorted(stage.size for stage in stages(program, Outer)) == [(4 * H, 0), (4 * H, X), (4 * H, H)]
    (loop,) = stages(program, Loop)
    assert Counter(line.op for line in loop.lines if line.op in ("sigmoid", "tanh")) == {"tanh": 1}  # of C, once more


def test_a_product_that_is_thrown_away_in_a_step_is_not_computed_in_it():
    """Not forward, not backward; those of all steps at once are."""
    cell = zoo.ClockworkRNN(X, 12, periods=[1, 4, 6])
    for stage in stages_of(cell):
        conditions = [product.condition for product in stages(stage.program, Gemm) if product.condition]
        assert sorted(first.args for first, _ in conditions) == [("step", 1.0), ("step", 4.0), ("step", 6.0)]
        assert all(
            (first.op, last.op, last.args) == ("mod", "eq", (Local(first.node), 0.0)) for first, last in conditions
        )
        assert all(not isinstance(part, Gemm) or part.condition for _, part in in_loop(stage.program))


def in_loop(program):
    return [(one.over, part) for one in program.passes if one.over == "time" for part in one.stages]


class Watched(zoo.ClockworkRNN):
    """All modules' candidates are given out, so that each is wanted in every step."""

    extra = ("h_tildes",)

    def step(self, x, h, t):
        h_tildes = [torch.tanh(hidden(h[:, -hidden.widths["h"] :], x)) for hidden in self.hidden]
        parts = zip(self.periods, h_tildes, h.split(self.size, -1), strict=True)
        h = torch.cat([torch.where(t % period == 0, new, old) for period, new, old in parts], -1)
        return h, torch.cat(h_tildes, -1)


def test_a_product_that_somebody_sees_is_computed():
    plan = conveyor.compile(Watched(X, 12, periods=[1, 4, 6]), training=False).plan
    assert "if " not in plan
    layer = conveyor.Recurrent(Watched, X, 12, periods=[1, 4, 6])
    x = torch.randn(9, 2, X)
    found = {}
    for name in ("compiled", "eager"):
        with conveyor.backend(name), torch.no_grad():
            found[name] = layer(x)[2]["h_tildes"]
    torch.testing.assert_close(found["compiled"], found["eager"])


every_paper = pytest.mark.parametrize("name", quick(PAPERS, QUICK_PAPERS))


def stages_of_paper(name, *sizes):
    return stages_of(PAPERS[name].layer(*sizes).cell, PAPERS[name].shapes)


@every_paper
def test_the_loop_has_no_product_of_the_input_and_no_sum_over_rows(name):
    for stage in stages_of_paper(name, X, H):
        for part in (part for one in stage.program.passes if one.over == "time" for part in one.stages):
            assert not isinstance(part, Outer)
            read = [ref for ref, _ in part.operands] if isinstance(part, Gemm) else []
            assert all(stage.program.buffers[ref.buffer].name != "stream x" for ref in read)


@every_paper
def test_the_source_of_a_cell_does_not_depend_on_its_sizes(name):
    """As long as none is 1: such a dimension has no loop. (Equal sizes may join loops; no option here has these.)"""
    papers = [stages_of_paper(name, *sizes) for sizes in ((3, 13), (7, 9), (11, 11))]
    texts = [[emit(plan(stage.program)).text for stage in paper] for paper in papers]
    assert texts[0] == texts[1] == texts[2]


def kernel(cell):
    given = (("x", (X,), None), *((state, (H,), None) for state in cell.state))
    with torch.no_grad():
        return kernels_of(traced(cell, Signature(given, (), torch.float32)), TARGETS[0])


def test_equal_graphs_share_one_kernel():
    first, second = zoo.LSTM(X, H), zoo.LSTM(X, H)
    assert conveyor.compile(first).traced == conveyor.compile(second).traced
    assert kernel(first) is kernel(first)
    assert kernel(first) is kernel(second)
    assert kernel(first) is not kernel(zoo.CoupledLSTM(X, H))
