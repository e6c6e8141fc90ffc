"""What cannot be compiled: an error that names the cell, the line and the operation; without `backend`, the loop."""

import copy
import inspect
import linecache
import re
import warnings
from pathlib import Path

import pytest
import torch

import conveyor
from both import draw_inputs, results
from cases import CASES
from conveyor import Cell, Recurrent, backend
from conveyor.layer import backends

X = torch.randn(3, 2, 3)


class Plain(Cell):
    state = ("h", "C")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.candidate = self.affine("h", "x")

    def step(self, x, h, C):
        h = torch.tanh(self.candidate(h, x))
        return h, C


class Branches(Plain):
    def step(self, x, h, C):
        if h.sum() > 0:  # here
            h = -h
        return torch.tanh(self.candidate(h, x)), C


class ReadsNumber(Plain):
    def step(self, x, h, C):
        scale = 1 / (1 + h.abs().max().item())  # here
        return torch.tanh(self.candidate(h, x)) * scale, C


class Loops(Plain):
    def step(self, x, h, C):
        while (h.abs() > 1).any():  # here
            h = h / 2
        return torch.tanh(self.candidate(h, x)), C


class Sorts(Plain):
    def step(self, x, h, C):
        h = torch.tanh(self.candidate(h, x))
        h = torch.sort(h, dim=-1).values  # here
        return h, C


class SortsByMethod(Plain):
    def step(self, x, h, C):
        h = torch.tanh(self.candidate(h, x))
        return h.sort(-1)[0], C  # here


class Determines(Plain):
    def step(self, x, h, C):
        D = torch.linalg.det(h.unsqueeze(1) * h.unsqueeze(2) + torch.eye(h.shape[1], dtype=h.dtype))  # here
        return torch.tanh(self.candidate(h, x)) + D[:, None], C


class Convolves(Plain):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.conv = torch.nn.Conv1d(1, 1, 3, padding=1)

    def step(self, x, h, C):
        h = self.conv(h.unsqueeze(1)).squeeze(1)  # here
        return torch.tanh(self.candidate(h, x)), C


class InsideTheCell(Plain):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.inner = Sorts(input_size, hidden_size)

    def step(self, x, h, C):
        return self.inner.step(x, h, C)


REFUSED = {  # the cell, and the operation as it must be named
    "branch": (Branches, "if|bool|branch|value"),
    "number": (ReadsNumber, r"item|value"),
    "loop": (Loops, "while|bool|any|branch|value"),
    "sort": (Sorts, "sort"),
    "sort, a method": (SortsByMethod, "sort"),
    "det": (Determines, "det"),
    "convolution": (Convolves, "conv"),
}
every_refused = pytest.mark.parametrize("name", REFUSED)


def layer_and_inputs(cell, **keywords):
    layer = Recurrent(cell, 3, 5, dtype=torch.float64, **keywords)
    return layer, draw_inputs(layer, 4, 2)


def line_marked(cell):
    """The line of the cell's step that cannot be compiled."""
    lines, first = inspect.getsourcelines(cell)
    return first + next(i for i, line in enumerate(lines) if "# here" in line)


def assert_says_where(message, cell, operation):
    assert cell.__name__ in message
    assert Path(__file__).name in message
    assert re.search(rf"line {line_marked(cell)}\b", message), f"line {line_marked(cell)}: {message}"
    assert re.search(operation, message), message


@every_refused
def test_what_cannot_be_compiled_is_refused_by_cell_line_and_operation(name):
    cell, operation = REFUSED[name]
    layer, inputs = layer_and_inputs(cell)
    with backend("compiled"), pytest.raises(Exception, match=cell.__name__) as caught:
        results(layer, inputs)
    assert_says_where(str(caught.value), cell, operation)


def test_what_cannot_be_compiled_within_an_inner_cell_is_found_there():
    layer, inputs = layer_and_inputs(InsideTheCell)
    with backend("compiled"), pytest.raises(Exception, match="sort") as caught:
        results(layer, inputs)
    assert re.search(rf"line {line_marked(Sorts)}\b", str(caught.value))


@every_refused
def test_what_cannot_be_compiled_runs_by_the_loop_with_one_warning(name, monkeypatch):
    monkeypatch.delenv("CONVEYOR_BACKEND", raising=False)
    cell, operation = REFUSED[name]
    cell = type(cell)(cell.__name__, (cell,), {"__module__": __name__})  # of which nobody has been warned yet
    layer, inputs = layer_and_inputs(cell, num_layers=2, bidirectional=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = results(layer, inputs)
        results(layer, inputs)
    with backend("eager"):
        wanted = results(layer, inputs)
    for what, value in wanted.items():
        assert torch.equal(found[what], value), what
    assert len(told) == 1, [str(warning.message) for warning in told]
    assert_says_where(str(told[0].message), REFUSED[name][0], operation)


class Model(torch.nn.Module):
    """Somebody's own, who is to be pointed to the line that runs the layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]  # a model


# What warns, each with its name behind the line that is to be pointed at.
WARNS = {
    "a layer": lambda layer: layer(X),  # a layer
    "a step": lambda layer: layer.step(X[0]),  # a step
    "a model": lambda layer: Model(layer)(X),
    "a layer in another": lambda layer: torch.nn.Sequential(layer)(X),  # a layer in another
    "a constructor": lambda _: Recurrent(Plain, 3, 4, dropout=0.5),  # a constructor
    "a drop-in": lambda _: conveyor.GRU(3, 4, dropout=0.5),  # a drop-in
}


@pytest.mark.parametrize("what", WARNS)
def test_a_warning_points_at_the_callers_line(what, monkeypatch):
    monkeypatch.delenv("CONVEYOR_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_warned", set())
    with pytest.warns() as told:
        WARNS[what](Recurrent(Sorts, 3, 4))
    (warning,) = told
    assert warning.filename == __file__
    assert linecache.getline(__file__, warning.lineno).endswith(f"# {what}\n")


def test_the_loop_on_request_warns_of_nothing():
    layer, inputs = layer_and_inputs(Sorts)
    with backend("eager"):
        results(layer, inputs)  # every warning is an error here


def test_what_compiles_warns_of_nothing(monkeypatch):
    monkeypatch.delenv("CONVEYOR_BACKEND", raising=False)
    results(*layer_and_inputs(Plain))


WRONG = {
    "too few states": "h",
    "too many states": "h, C, C",
    "another width": "h[:, :1], C",
    "another number of dimensions": "h, C[0]",
    "no tensor": "h, 2.0",
    "nothing": "None",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_step_that_returns_what_it_must_not_is_told_as_by_the_loop(name):
    returned = eval(f"lambda h, C: ({WRONG[name]})")

    class Wrong(Plain):
        def step(self, x, h, C):
            h = torch.tanh(self.candidate(h, x))
            return returned(h, C)

    layer, inputs = layer_and_inputs(Wrong)
    told = []
    for way in ("eager", "compiled"):
        with backend(way), pytest.raises(ValueError, match=r"Wrong\.step .* must return the new \(h, C\)") as caught:
            results(layer, inputs)
        told.append(str(caught.value))
    assert re.search(r"line \d+", told[1])


def test_an_error_of_the_step_itself_is_seen_as_it_is():
    class Fails(Plain):
        def step(self, x, h, C):
            raise KeyError("the step's own")

    layer, inputs = layer_and_inputs(Fails)
    for way in ("compiled", "eager"):
        with backend(way), pytest.raises(KeyError, match="the step's own"):
            results(layer, inputs)


@pytest.mark.parametrize("name", ["lstm", "own"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_weight_of_another_type_is_named(name, kind):
    layer = CASES[name].layer(3, 5, dtype=torch.float64)
    inputs = draw_inputs(layer, 4, 2)
    weight = list(dict(layer.named_parameters()))[-1]
    owner, _, attribute = weight.rpartition(".")
    changed = torch.nn.Parameter(layer.get_parameter(weight).detach().to(kind))
    setattr(layer.get_submodule(owner), attribute, changed)
    with backend("compiled"), pytest.raises((TypeError, ValueError, RuntimeError), match=attribute) as caught:
        layer(inputs["x"])
    assert str(kind) in str(caught.value)
    assert "float64" in str(caught.value)
    assert type(layer.cell).__name__ in str(caught.value)


def test_a_weight_on_another_device_is_named():
    layer = CASES["lstm"].layer(3, 5, dtype=torch.float64)
    inputs = draw_inputs(layer, 4, 2)
    layer.cell.output.bias = torch.nn.Parameter(layer.cell.output.bias.detach().to("meta"))
    with backend("compiled"), pytest.raises((TypeError, ValueError, RuntimeError), match="bias") as caught:
        layer(inputs["x"])
    assert "meta" in str(caught.value)
    assert "LSTM" in str(caught.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_layer_of_a_type_without_kernels_is_refused_by_its_name(kind):
    layer = copy.deepcopy(Recurrent(Plain, 3, 5)).to(kind)
    x = torch.randn(4, 2, 3, dtype=kind)
    with backend("compiled"), pytest.raises((TypeError, ValueError, RuntimeError), match=str(kind)):
        layer(x)


def test_a_block_of_a_backend_ends_with_it_even_by_an_error():
    layer, inputs = layer_and_inputs(Sorts)
    with backend("eager"):
        with pytest.raises(Exception, match="sort"), backend("compiled"):
            results(layer, inputs)
        results(layer, inputs)  # by the loop again, which sorts


def test_a_backend_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="compiled") as caught, backend("complied"):
        pass
    assert "eager" in str(caught.value)
