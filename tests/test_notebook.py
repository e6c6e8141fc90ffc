"""What is shown in a notebook: in a real kernel, and what it is made of."""

import base64
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest
import torch

import conveyor
from cases import CASES, PAPERS
from conveyor import explain, zoo
from conveyor.errors import BadInput
from conveyor.language import LanguageModel
from tiers import quick

EVERY = {name: case for name, case in (CASES | PAPERS).items() if not case.shapes}  # a cell by itself knows no shapes


def picture(shown):
    return base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^\"]+)", shown)[1]).decode()


@pytest.mark.parametrize("name", quick(EVERY, ["lstm", "gru", "own"]))
def test_a_cell_shows_its_diagram_and_equations(name):
    cell = EVERY[name].layer(4, 8).cell
    shown = cell._repr_html_()
    assert picture(shown) == explain.diagram(cell, theme="light").svg
    assert shown.count("<math") == len(explain.equations(explain.Circuit.of(conveyor.compile(cell).traced)))


@pytest.mark.parametrize("layer", [conveyor.LSTM(3, 4), conveyor.Recurrent(zoo.MUT1, 3, 4, num_layers=2)])
def test_a_layer_shows_its_arguments_and_its_cell(layer):
    shown = layer._repr_html_()
    assert repr(layer).splitlines()[0] in shown
    assert picture(shown)


def test_a_compilation_shows_its_stages():
    shown = conveyor.compile(zoo.GRU(3, 4))._repr_html_()
    assert re.findall(r"<summary>(\w+)", shown) == ["graph", "backward", "plan", "source"]
    assert shown.count("<details open>") == 1


class Unknown(conveyor.Cell):
    state = ("h",)

    def step(self, x, h, more):
        return h + more


def test_what_cannot_be_drawn_says_why():
    shown = Unknown(3, 3)._repr_html_()
    assert "not drawn: the shape of more is not known" in shown


def test_values_of_a_layer_are_drawn():
    rnn = conveyor.LSTM(3, 12, num_layers=2, bidirectional=True)
    _, _, values = rnn(torch.randn(20, 2, 3), record=True)
    drawn = explain.plot(values, "f", layer=1, direction=1, row=1, units=[3, -1])
    for line, unit in zip(drawn.axes[0].lines, (3, 11), strict=True):
        assert (torch.from_numpy(line.get_ydata()) == values["f"][1, 1, :, 1, unit].double()).all()
        assert line.get_label() == f"unit {unit}"


def test_a_heat_map_keeps_its_contrast():
    """One unit of a hundred times the others' size does not set the scale, and the title names it."""
    values = {"C": torch.rand(1, 1, 300, 1, 200) - 0.5}
    values["C"][0, 0, 7, 0, 5] = 500
    axes = explain.plot(values, "C").axes[0]
    (image,) = axes.images
    assert image.get_clim() == pytest.approx((-0.5, 0.5), abs=0.02)
    assert "500" in axes.get_title()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"name": "g"}, "no value is called g"),
        ({"name": "f", "layer": 2}, "no layer 2: they are 0 to 1"),
        ({"name": "f", "direction": 1}, "no direction 1"),
        ({"name": "f", "row": 9}, "no row 9"),
        ({"name": "f", "units": [12]}, "no unit 12"),
        ({"name": "f", "units": []}, "no numbers"),
        ({"name": "f", "texts": ["a"]}, "1 texts for 5 steps"),
    ],
)
def test_what_is_not_there_is_named(arguments, part):
    _, _, values = conveyor.LSTM(3, 4, num_layers=2)(torch.randn(5, 1, 3), record=True)
    with pytest.raises(BadInput, match=part):
        explain.plot(values, **arguments)


def test_a_recording_draws_itself():
    recording = explain.record(LanguageModel(7, zoo.GRU, 4), torch.tensor([1, 2, 3, 4]))
    drawn = recording.plot("z", units=[1])
    assert (torch.from_numpy(drawn.axes[0].lines[0].get_ydata()) == recording.values["z"][0][:, 1].double()).all()
    with pytest.raises(BadInput, match="no layer 1"):
        recording.plot("z", layer=1)
    with pytest.raises(BadInput, match="no value called nix"):
        recording.plot("nix")


def test_nothing_of_it_is_imported_without_a_notebook():
    names = "('IPython', 'pygments', 'matplotlib', 'conveyor.explain')"
    code = f"import sys, conveyor; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


KERNEL = """
import conveyor, torch
from conveyor.training import progress
display(conveyor.zoo.LSTM(3, 4))
display(conveyor.compile(conveyor.zoo.LSTM(3, 4)))
curve = progress.for_terminal("row")
curve.begin(0, 3)
for step in range(1, 4):
    curve.stepped(step, 1 / step, 8)
curve.end()
"""


def test_in_a_kernel():
    """A real one, as notebooks start it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(KERNEL)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown = [output["data"].get("text/html", "") for output in notebook.cells[0].outputs if "data" in output]
    assert picture(shown[0])
    assert "<summary>plan" in shown[1]
    assert "the loss over the steps" in shown[-1]
