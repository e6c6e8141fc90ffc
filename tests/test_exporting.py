"""Exports in general: what is exported, the proof, and the folder. A format of its own stands for all."""

import json
import os

import pytest
import torch

import conveyor
from cases import CASES, every_cell, extra_inputs
from conveyor.compiler.ops import OPS
from conveyor.exporting import write
from conveyor.exporting.format import Format, Ran, Written


class Torch(Format):
    """Its file holds the weights, and what it runs is the graph, an operation of PyTorch for each node."""

    name = "torch"
    operations = frozenset(OPS)
    off = 0.0  # by how much it is wrong
    why = None
    fails = None

    def write(self, exported, folder, *, note="none"):
        torch.save(dict(exported.weights), folder / "weights.pt")
        (folder / f"{exported.name}.txt").write_text(str(exported.graph))
        if self.fails is not None:
            raise self.fails
        return Written(facts={"note": note})

    def obstacle(self, exported, folder):
        return self.why

    def run(self, exported, folder, inputs, lengths):
        weights = torch.load(folder / "weights.pt")
        state, outputs = dict(exported.initial), {name: [] for name in exported.outputs}
        for at in range(sum(lengths)):
            values = _step(exported, weights, inputs, state, at)
            for output in exported.graph.outputs:
                into = state if output.kind == "state" else {}
                into[output.name] = values[output.node][0]
                if output.kind != "state":
                    outputs[output.name].append(into[output.name])
        outputs = {name: torch.stack(each) for name, each in outputs.items()}
        outputs["output"] = outputs["output"] + self.off
        return Ran(outputs, state, 1e-6)


def _step(exported, weights, inputs, state, at):
    """The value of each node."""
    stream = {name: inputs[name][at] for name in exported.streams}
    if exported.embedding is not None:
        stream["x"] = exported.embedding[stream["x"]]
    given = {"weight": weights, "state": state, "step": {"t": torch.tensor(at)}, "stream": stream, "constant": inputs}
    values = []
    for node in exported.graph.nodes:
        if node.op == "input":
            values.append(given[node.key.kind][node.key.name][None].float())
        else:
            values.append(OPS[node.op].value(node, [values[j] for j in node.inputs]).float())
    return values


@pytest.fixture
def form(monkeypatch):
    made = Torch()
    monkeypatch.setattr(write, "format_of", {"torch": made}.get)
    return made


def layer_of(name, **keywords):
    torch.manual_seed(0)
    return CASES[name].layer(3, 5, num_layers=2, **keywords)


@pytest.mark.usefixtures("form")
@every_cell
def test_every_cell_is_exported(name, tmp_path):
    rnn = layer_of(name)
    found = conveyor.export(rnn, tmp_path / "out", to="torch", inputs=extra_inputs(rnn, 4, 2, torch.float32))
    assert found.proof.error <= 1e-5
    data = json.loads((tmp_path / "out" / "export.json").read_text())
    assert data["proof"]["largest_error"] == found.proof.error
    assert data["files"] == {n: os.path.getsize(tmp_path / "out" / n) for n in data["files"]}
    assert data["bytes"] == sum(data["files"].values())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*data["files"], "export.json"}
    assert os.listdir(tmp_path) == ["out"]
