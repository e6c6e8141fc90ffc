"""Whatever the target: a cell that it runs is what its loop is, forward and backward. Here for a toy one in NumPy."""

import pytest
import torch

import conveyor
from both import assert_kernel_is_loop, by_both
from conveyor.targets import CannotBuild, registry
from numpy_target import NumPy
from test_compiler_laws import drawn, every_cell
from tolerance import KERNEL, assert_equal


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(registry, "TARGETS", (NumPy(),))


@every_cell
def test_a_target_runs_every_cell(name):
    assert_kernel_is_loop(*drawn(name, 5, 3, 3, 5))


@every_cell
def test_a_target_runs_every_cell_for_sequences_of_different_lengths(name):
    layer, inputs = drawn(name, 4, 3, 2, 5, bidirectional=True, num_layers=2)
    kernel, loop = by_both(layer, inputs, record=True, lengths=[2, 4, 0])
    for what, value in kernel.items():
        assert_equal(value, loop[what], what, KERNEL)


def test_targets_are_asked_in_order_and_what_none_takes_is_run_by_the_loop(monkeypatch):
    """A target that refuses is passed over; its reason is told where a kernel is asked for."""

    class Refusing(NumPy):
        name = "refusing"

        def refuses(self, request):
            batch = request.tensors[0].shape[1]
            return f"batches of {batch}" if batch > 3 else None

        def build(self, plans, dtype):
            built.append(len(plans))
            return super().build(plans, dtype)

    built = []
    layer, x = conveyor.LSTM(2, 3), torch.randn(4, 5, 2)
    with conveyor.backend("compiled"), torch.no_grad():
        monkeypatch.setattr(registry, "TARGETS", (Refusing(), NumPy()))
        layer(x)
        assert built == []
        layer(x[:, :3])
        assert built == [1]
        monkeypatch.setattr(registry, "TARGETS", (Refusing(),))
        with pytest.raises(conveyor.NotCompiled, match="no kernel is for batches of 5"):
            layer(x)
    with torch.no_grad():
        found = layer(x)[0]  # by torch.nn
        with conveyor.backend("eager"):
            assert_equal(found, layer(x)[0])


def test_a_target_that_cannot_build_is_passed_over(monkeypatch):
    class Broken(NumPy):
        name = "broken"

        def build(self, plans, dtype):
            raise CannotBuild("it has no compiler")

    layer, x = conveyor.LSTM(2, 3), torch.randn(4, 5, 2)
    monkeypatch.setattr(registry, "TARGETS", (Broken(), NumPy()))
    with conveyor.backend("compiled"), torch.no_grad():
        found = layer(x)[0]
    with conveyor.backend("eager"), torch.no_grad():
        assert_equal(found.double(), layer(x)[0].double(), "output", {torch.float64: 1e-6})
    monkeypatch.setattr(registry, "TARGETS", (Broken(),))
    with conveyor.backend("compiled"), pytest.raises(conveyor.NotCompiled, match="it has no compiler"):
        layer(x)
