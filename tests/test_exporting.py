"""Exports in general: what is exported, the proof, and the folder. A format of its own stands for all."""

import json
import os

import pytest
import torch

import conveyor
from cases import CASES, every_cell, extra_inputs
from conveyor.cli import exports
from conveyor.compiler.ops import OPS
from conveyor.errors import BadInput
from conveyor.exporting import proof, write
from conveyor.exporting.format import Format, Ran, Written
from conveyor.language import LanguageModel


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

    def run(self, exported, folder, written, inputs, cuts):
        weights = torch.load(folder / "weights.pt")
        return (self._ran(exported, weights, inputs, lengths) for lengths in cuts)

    def _ran(self, exported, weights, inputs, lengths):
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


def small():
    torch.manual_seed(0)
    return conveyor.GRU(3, 4)


def test_a_wrong_result_is_an_error_and_leaves_nothing(form, tmp_path):
    form.off = 1e-3
    with pytest.raises(proof.Wrong, match=r"output is off by 0\.001"):
        conveyor.export(small(), tmp_path / "out", "torch")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing_and_the_earlier_export_as_it_was(error, form, tmp_path):
    conveyor.export(small(), tmp_path / "out", "torch")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    form.fails = error
    with pytest.raises(type(error)):
        conveyor.export(small(), tmp_path / "out", "torch")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.usefixtures("form")
def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes").write_text("mine")
    for place, why in (("own", "no export"), ("own/notes", "is a file"), ("none/out", "does not exist")):
        with pytest.raises(BadInput, match=why):
            conveyor.export(small(), tmp_path / place, "torch")
    conveyor.export(small(), tmp_path / "out", "torch")
    (tmp_path / "out" / "notes").write_text("mine")
    conveyor.export(small(), tmp_path / "out", "torch")
    assert (tmp_path / "out" / "notes").read_text() == "mine"


def edited(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("mark", ['{"mine": 1}', "[]", "mine", '{"conveyor": "1", "sha256": {"../notes": "mine"}}'])
@pytest.mark.usefixtures("form")
def test_a_folder_with_an_export_json_of_others_is_no_export(mark, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text(mark)
    (tmp_path / "out" / "gru.txt").write_text("mine")
    before = edited(tmp_path / "out")
    with pytest.raises(BadInput, match="no export"):
        conveyor.export(small(), tmp_path / "out", "torch")
    assert edited(tmp_path / "out") == before


@pytest.mark.usefixtures("form")
def test_a_file_that_the_user_has_changed_is_not_replaced(tmp_path):
    """Nor one that is in the way of a new one."""
    conveyor.export(small(), tmp_path / "out", "torch")
    text = tmp_path / "out" / "gru.txt"
    written = text.read_bytes()
    text.write_bytes(b"m" + written[1:])
    before = edited(tmp_path / "out")
    with pytest.raises(BadInput, match=r"gru\.txt was changed"):
        conveyor.export(small(), tmp_path / "out", "torch")
    assert edited(tmp_path / "out") == before
    text.unlink()  # what is not there cannot be lost
    (tmp_path / "out" / "other.txt").write_text("mine")
    before = edited(tmp_path / "out")
    with pytest.raises(BadInput, match=r"other\.txt is in the way"):
        conveyor.export(small(), tmp_path / "out", "torch", name="other")
    assert edited(tmp_path / "out") == before
    conveyor.export(small(), tmp_path / "out", "torch")
    assert text.read_bytes() == written


@pytest.mark.usefixtures("form")
def test_what_an_earlier_export_has_left_goes(tmp_path):
    conveyor.export(small(), tmp_path / "out", "torch")
    (tmp_path / "out" / "notes").write_text("mine")
    conveyor.export(small(), tmp_path / "out", "torch", name="other")
    assert {*os.listdir(tmp_path / "out")} == {"weights.pt", "other.txt", "export.json", "notes"}


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
@pytest.mark.usefixtures("form")
def test_a_folder_is_as_the_umask_has_it(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        conveyor.export(small(), tmp_path / "out", "torch")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode


def test_an_error_without_a_number_keeps_its_cause(form, tmp_path):
    form.fails = OSError("lib.so: failed to map segment from shared object")
    with pytest.raises(OSError, match=r"failed to map segment.*nothing was exported"):
        conveyor.export(small(), tmp_path / "out", "torch")


def test_what_cannot_be_run_here_says_so(form, tmp_path):
    form.why = "there is no torch"
    report = conveyor.export(small(), tmp_path / "out", "torch")
    assert "not run here: there is no torch" in str(report)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["proof"] == {"not_run": "there is no torch"}


@pytest.mark.usefixtures("form")
def test_a_layer_is_exported_as_in_evaluation_and_left_as_it_was(tmp_path):
    rnn = conveyor.LSTM(3, 4, 2, dropout=0.5, dtype=torch.float64)
    rnn.cells[1].eval()
    report = conveyor.export(rnn, tmp_path / "out", "torch", head=torch.nn.Linear(4, 2, dtype=torch.float64))
    assert report.proof.error <= 1e-5
    assert rnn.training
    assert not rnn.cells[1].training
    assert report.data["outputs"] == {"output": [2]}


@pytest.mark.parametrize(
    ("module", "options", "why"),
    [
        (conveyor.GRU(3, 4, bidirectional=True), {}, "no single step"),
        (torch.nn.Linear(3, 4), {}, "neither a layer"),
        (conveyor.GRU(3, 4), {"name": "2nd"}, "begin with a letter"),
        (conveyor.GRU(3, 4), {"colour": 1}, "no option colour"),
        (conveyor.GRU(3, 4), {"inputs": {"y": torch.ones(1)}}, "no y"),
        (conveyor.GRU(3, 4), {"head": torch.nn.Linear(5, 2)}, "reads 5 numbers"),
        (conveyor.GRU(3, 4), {"head": torch.nn.Sequential(torch.nn.Linear(4, 2))}, "not Sequential"),
        (conveyor.GRU(3, 4), {"head": torch.nn.Linear(4, 2).double()}, r"head\.to\(torch\.float32\)"),
        (conveyor.GRU(3, 4).double(), {"head": torch.nn.Linear(4, 2)}, r"head\.to\(torch\.float64\)"),
        (conveyor.GRU(3, 4), {"inputs": {"x": torch.ones(5, 1, 3).numpy()}}, "x must be a tensor, not ndarray"),
        (conveyor.GRU(3, 4), {"inputs": {"x": torch.ones(3)}}, r"x must have the shape \[T, B, \.\.\.\], not \[3\]"),
        (conveyor.GRU(3, 4), {"inputs": torch.ones(5, 1, 3)}, "inputs are tensors by name"),
        (conveyor.GRU(3, 4), {"name": 2}, "begin with a letter"),
        ("gru", {}, "str is neither a layer"),
    ],
)
@pytest.mark.usefixtures("form")
def test_what_cannot_be_exported_is_refused(module, options, why, tmp_path):
    with pytest.raises(BadInput, match=why):
        conveyor.export(module, tmp_path / "out", "torch", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("to", [None, "d", ["c"]])
def test_there_are_no_other_formats(to, tmp_path):
    with pytest.raises(BadInput, match="there is no format"):
        conveyor.export(small(), tmp_path / "out", to)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.usefixtures("form")
def test_hooks_are_refused_by_name(register, tmp_path):
    model = LanguageModel(11, conveyor.zoo.GRU, 4)
    gru, head = small(), torch.nn.Linear(4, 2)
    for module, hooked, name in [
        (gru, gru, "GRU"),
        (model, model.embedding, "embedding"),
        (model, model.rnn, "rnn"),
        (gru, head, "head"),
    ]:
        handle = getattr(hooked, register)(lambda *_: None)
        with pytest.raises(BadInput, match=f"^{name}.* has a forward hook"):
            conveyor.export(module, tmp_path / "out", "torch", head=head if module is gru else None)
        handle.remove()
    conveyor.export(gru, tmp_path / "out", "torch", head=head)


class Curved(conveyor.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h):
        return torch.erf(self.candidate(h, x))


def test_an_operation_that_a_format_lacks_is_named_with_its_line(form, tmp_path, monkeypatch):
    form.operations = frozenset(OPS) - {"erf"}
    monkeypatch.setattr(write, "having", "js has {}".format)
    with pytest.raises(BadInput, match=r"Curved\.step .*test_exporting.py, line \d+: torch has no erf; js has erf"):
        conveyor.export(conveyor.Recurrent(Curved, 3, 4), tmp_path / "out", "torch")


SOURCES = """
import conveyor

net = conveyor.GRU(3, 5)
number = 3


def made():
    return conveyor.LSTM(2, 4)


def broken():
    raise KeyError("x")
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "nets.py").write_text(SOURCES)
    return tmp_path / "nets.py"


def test_the_command_takes_layers_from_files(sources, tmp_path):
    exports.export(f"{sources}:net", tmp_path / "c", inline=False)
    assert (tmp_path / "c" / "gru.bin").is_file()
    exports.export(f"{sources}:made", tmp_path / "onnx", to="onnx")
    exports.export(str(tmp_path / "onnx" / "lstm.onnx"), tmp_path / "js", to="js", inline=True)
    assert not (tmp_path / "js" / "lstm.bin").exists()


def test_the_command_says_what_a_format_has_not(sources, tmp_path):
    for options, part in [
        ({"to": "cc", "weights": "int8"}, "no format cc: did you mean c"),
        ({"to": "cc", "inline": True}, "no format cc"),
        ({"to": "js", "weights": "int8"}, "js has no option weights"),
        ({"to": "onnx", "inline": False}, "onnx has no option inline"),
    ]:
        with pytest.raises(BadInput, match=part):
            exports.export(f"{sources}:broken", tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (":nix", "has no nix: there are net"),
        (":number", "neither a layer nor a function"),
        (":broken", "fails: KeyError"),
        ("", "name the layer in it"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_file(name, part, sources, tmp_path):
    with pytest.raises(BadInput, match=part):
        exports.export(f"{sources}{name}", tmp_path / "out")
    assert not (tmp_path / "out").exists()
