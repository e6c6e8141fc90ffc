"""A layer under torch.export, and what it leaves for other processes."""

import json
import subprocess
import sys

import pytest
import torch

import conveyor
from cases import CASES, extra_inputs
from tolerance import KERNEL, assert_equal


class Model(torch.nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, **further):
        return self.rnn(x, **further)[0]


def targets(exported):
    return [str(node.target) for node in exported.graph.nodes]


@pytest.mark.parametrize("strict", [False, True], ids=["as it runs", "by torch.compile"])
@pytest.mark.parametrize("name", ["gru", "lstm-peephole", "own, with streams", "clockwork"])
def test_the_first_run_of_a_layer_may_be_its_export(name, strict):
    torch._dynamo.reset()
    model, x = Model(CASES[name].layer(3, 6, num_layers=2).double()), torch.randn(4, 2, 3).double()
    further = extra_inputs(model.rnn, 4, 2)
    fresh = torch.export.export(model, (x,), further, strict=strict)
    output = model(x, **further)
    again = torch.export.export(model, (x,), further, strict=strict)
    assert targets(fresh) == targets(again)
    assert not [target for target in targets(fresh) if "autocast" in target or "submod" in target]
    assert any("conveyor" in target for target in targets(fresh))
    assert_equal(fresh.module()(x, **further), output, "output", KERNEL)


class Scaled(conveyor.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")
        self.register_buffer("scale", torch.arange(hidden_size))

    def step(self, x, h):
        return torch.tanh(self.candidate(h, x)) * self.scale


def test_whole_numbers_that_a_cell_holds_are_to_be_seen_before_it_is_exported():
    model, x = Model(conveyor.Recurrent(Scaled, 3, 5).double()), torch.randn(4, 2, 3).double()
    with pytest.raises(ValueError, match="run once before it is exported"):
        torch.export.export(model, (x,))
    output = model(x)
    assert_equal(torch.export.export(model, (x,)).module()(x), output, "output", KERNEL)


LOADED = """
import sys
import torch
import conveyor
x, output, wanted = torch.load(sys.argv[2])
program = torch.export.load(sys.argv[1]).module()
found = program(x)
assert torch.allclose(found, output), found - output
gradients = torch.autograd.grad(found.sum(), list(program.parameters()))
for value, gradient in zip(gradients, wanted, strict=True):
    assert torch.allclose(value, gradient), value - gradient
"""


class Halved(conveyor.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        return 0.5 * torch.tanh(self.candidate(h, x))


class Doubled(Halved):
    def step(self, x, h):
        return 2.0 * torch.tanh(self.candidate(h, x))


def test_a_saved_program_runs_its_own_equations_in_a_process_that_has_others(tmp_path):
    """Those of the cell are not in that process at all; before it, it has had no kernel."""
    models = [Model(conveyor.Recurrent(cell, 3, 5).double()) for cell in (Doubled, Halved)]
    x = torch.randn(4, 2, 3).double()
    for model in models:
        output = model(x)
        gradients = torch.autograd.grad(output.sum(), list(model.parameters()))
        torch.save((x, output.detach(), gradients), tmp_path / "expected.pt")
        torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    subprocess.run([sys.executable, "-c", LOADED, tmp_path / "model.pt2", tmp_path / "expected.pt"], check=True)


def test_an_operator_is_named_by_what_it_computes():
    texts = []
    for cell in (Halved, Doubled, Halved):
        model = Model(conveyor.Recurrent(cell, 3, 5))
        exported = torch.export.export(model, (torch.randn(4, 2, 3),))
        (call,) = [node for node in exported.graph.nodes if "conveyor" in str(node.target)]
        texts.append(next(value for value in call.args if isinstance(value, str)))
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize(
    "change", [lambda text: [0, *text[1:]], lambda text: text[:3], lambda text: [*text[:3], [["no such op"]], []]]
)
def test_a_program_of_another_version_says_so(change):
    exported = torch.export.export(Model(conveyor.Recurrent(Halved, 3, 5)), (torch.randn(4, 2, 3),))
    (call,) = [node for node in exported.graph.nodes if "conveyor" in str(node.target)]
    call.args = tuple(json.dumps(change(json.loads(a))) if isinstance(a, str) else a for a in call.args)
    with pytest.raises(RuntimeError, match=r"another version of conveyor: export it again"):
        exported.module()(torch.randn(4, 2, 3))


def test_an_exported_program_gives_the_gradient_of_an_input_that_needed_none_before():
    """As in a network whose other parts come before the layer."""
    model, x = Model(conveyor.GRU(3, 4).double()), torch.randn(4, 2, 3).double()
    exported = torch.export.export(model, (x,)).module()
    gradients = []
    for run in (exported, model):
        given = x.clone().requires_grad_()
        run(given).pow(2).sum().backward()
        gradients.append(given.grad)
    assert_equal(*gradients, "gradient", KERNEL)


def operator_call(steps=4, batch=2):
    """The text and the tensors with which the operator is called for a GRU."""
    model, x = Model(conveyor.Recurrent(conveyor.zoo.GRU, 3, 4)), torch.randn(steps, batch, 3)
    with torch.no_grad():
        exported = torch.export.export(model, (x,))
    (node,) = (node for node in exported.graph.nodes if "conveyor" in str(node.target))
    cell = model.rnn.cell
    known = {"x": x, "h": torch.zeros(batch, 4)}
    text = node.args[2]
    sources = [tuple(source[:2]) for source in json.loads(text)[3]]
    named = dict(cell.named_parameters())
    return text, [(known[name] if kind != "weight" else named[name]).detach() for kind, name in sources]


def run(text, tensors, steps=4, batch=2):
    return torch.ops.conveyor.forward(tensors, None, text, steps, batch, 0, [False] * len(tensors))


def test_the_operator_refuses_tensors_that_are_not_those_of_its_graph():
    text, tensors = operator_call()
    run(text, tensors)
    for wrong in (torch.zeros(1), tensors[-1].double()):
        with pytest.raises(ValueError, match=r"must be \[.*\] of torch.float32, not \["):
            run(text, [*tensors[:-1], wrong])
    with pytest.raises(ValueError, match=r"x must be \[9, 2, 3\]"):
        run(text, tensors, steps=9)


def test_a_name_in_a_program_of_others_is_no_code(capfd):
    text, tensors = operator_call()
    facts = json.loads(text)
    for node in facts[4]:
        if node[0] != "input":
            node[6] = '*\\\n/ ; { extern int puts(const char*); puts("INJECTED"); } /*'
    run(json.dumps(facts), tensors)
    assert "INJECTED" not in capfd.readouterr().out


def test_a_compiled_model_is_not_differentiated_twice():
    model, x = Model(conveyor.GRU(3, 4)), torch.randn(4, 2, 3, requires_grad=True)
    exported = torch.export.export(model, (x,)).module()
    (gradient,) = torch.autograd.grad(exported(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(gradient.sum(), x)
