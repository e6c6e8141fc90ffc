"""The implementations of a layer that are timed against each other."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from conveyor import zoo
from conveyor.bench.plan import Shape
from conveyor.cell import Cell
from conveyor.errors import BadInput, suggest
from conveyor.layer import Recurrent
from conveyor.layer.backends import backend
from conveyor.nn import GRU, LSTM, RNN
from conveyor.zoo.find import find


@dataclass
class Work:
    """The computation to time: one layer on one input, in training also the gradients of the parameters.

    `gradient` is the gradient of the loss with respect to the output. The gradient of the input is not computed.
    """

    layer: Recurrent
    x: Tensor  # [T, B, I]
    gradient: Tensor | None  # [T, B, width of the output]
    extra_inputs: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def make(cls, cell: type[Cell], shape: Shape, training: bool) -> Work:
        """The work at one shape, with reproducible random tensors. Raises ValueError if a stream's width is unknown."""
        torch.manual_seed(0)
        layer = Recurrent(cell, shape.inputs, shape.hidden).train(training)
        further = [name for name in cell.arguments if name not in ("x", "t", *cell.state, *cell.below)]
        unknown = [name for name in further if name not in layer.cell.widths]
        if unknown:
            raise ValueError(
                f"the width of {', '.join(unknown)} is not known: pass it to Cell.__init__ by name, "
                f"super().__init__(input_size, hidden_size, {unknown[0]}=...)"
            )
        steps_rows = (shape.steps, shape.batch)
        extra_inputs = {
            name: torch.randn(*(steps_rows[1:] if name in cell.constant else steps_rows), layer.cell.widths[name])
            for name in further
        }
        gradient = torch.randn(*steps_rows, layer.output_size) if training else None
        return cls(layer, torch.randn(*steps_rows, shape.inputs), gradient, extra_inputs)

    @property
    def cell(self) -> type[Cell]:
        """The class of the cell."""
        return type(self.layer.cell)


Run = Callable[[], Any]  # runs the computation once and returns the output, [T, B, width]


@dataclass
class TorchRun:
    """Runs the work by a PyTorch module; `backend` is set for a layer of this library."""

    module: nn.Module
    work: Work
    backend: str | None = None

    def forward(self) -> Tensor:
        with backend(self.backend) if self.backend else nullcontext():
            return self.module(self.work.x, **self.work.extra_inputs)[0]

    def __call__(self) -> Tensor:
        if self.work.gradient is None:
            with torch.inference_mode():
                return self.forward()
        self.module.zero_grad()
        output = self.forward()
        output.backward(self.work.gradient)
        return output


def kernel(work: Work) -> Run:
    """Our compiled kernel."""
    return TorchRun(work.layer, work, "compiled")


def eager(work: Work) -> Run:
    """Our eager loop."""
    return TorchRun(work.layer, work, "eager")


def torch_nn(work: Work) -> Run | None:
    """The module of torch.nn with the same weights."""
    layers: dict[type[Cell], Callable[..., Any]] = {
        zoo.LSTM: LSTM,
        zoo.GRU: GRU,
        zoo.RNN: RNN,
        zoo.ReluRNN: partial(RNN, nonlinearity="relu"),
    }
    if work.cell not in layers:
        return None
    layer = layers[work.cell](work.layer.input_size, work.layer.hidden_size)
    with warnings.catch_warnings():  # of gates that are held apart
        warnings.simplefilter("ignore")
        layer.load_state_dict(work.layer.state_dict())
    return TorchRun(layer.to_torch().train(work.layer.training), work)


def onnx_runtime(work: Work) -> Run | None:
    """ONNX Runtime's LSTM operator. Raises ImportError if it is not installed."""
    from conveyor.bench import onnx_op

    return onnx_op.run(work)


def jax_scan(work: Work) -> Run | None:
    """The cell as `jax.lax.scan`. Raises ImportError if JAX is not installed."""
    from conveyor.bench import jax_scan

    return jax_scan.run(work)


def torch_compile(work: Work) -> Run:
    """Our eager loop under torch.compile."""
    module: Any = torch.compile(work.layer)
    return TorchRun(module, work, "eager")


# By their names on the command line. The first one that runs is "ours", the baseline of the ratios. A factory returns
# None if the library has no such layer, and raises ImportError if the library is not installed.
CONTENDERS: dict[str, Callable[[Work], Run | None]] = {
    "kernel": kernel,
    "eager": eager,
    "torch.nn": torch_nn,
    "onnxruntime": onnx_runtime,
    "jax": jax_scan,
    "torch.compile": torch_compile,
}
OURS = ("kernel", "eager")
CURES = dict.fromkeys(("onnxruntime", "jax"), "pip install 'conveyor[bench]'")  # how to install a missing library
ON_REQUEST = ("torch.compile",)  # takes minutes to compile


def choose(against: list[str]) -> tuple[str, ...]:
    """The contenders in order, always with the kernel; by default all that are quick to prepare. Raises BadInput."""
    for name in against:
        if name not in CONTENDERS:
            raise BadInput(f"--against cannot be {name!r}; {suggest(name, CONTENDERS)}")
    wanted = against or [name for name in CONTENDERS if name not in ON_REQUEST]
    return tuple(name for name in CONTENDERS if name in wanted or name == "kernel")


def check_cells(names: tuple[str, ...], shape: Shape) -> None:
    """Raises BadInput if a cell does not exist or does not run; a user's own cell can fail in any way."""
    for name in names:
        with redirect_stdout(sys.stderr):  # its output must not get into the JSON
            cell = find(name)
            try:
                work = Work.make(cell, replace(shape, steps=1, batch=2), training=False)
                with torch.no_grad():
                    work.layer(work.x, **work.extra_inputs)
            except Exception as error:
                raise BadInput(f"--cell {name} does not run at {shape}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The error as one line of at most 200 characters."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 200 else f"{text[:197]}..."
