"""A stream: one sample after another through a layer, with nothing of Python between its parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from conveyor.cell.cell import is_whole
from conveyor.cell.loop import location
from conveyor.errors import BadInput, Mismatch
from conveyor.layer.backends import NotCompiled
from conveyor.layer.stepper import Stepper, first_states
from conveyor.layer.tracing import Given
from conveyor.targets import CannotBuild
from conveyor.targets.step import KINDS as KINDS


class Stream:
    """A layer that is run step by step, with a state and memory of its own. `rnn.stream()` makes one.

        stream = rnn.stream()                           # one row; rnn.stream(rows=8): eight sequences side by side
        for x in samples:                               # [input_size], or [rows, input_size]
            y = stream.step(x)                          # [output_size], or [rows, output_size]
        ys = stream.run(chunk)                          # [T, rows, input_size] -> [T, rows, output_size]
        before = stream.state                           # as the layer has it: [layers, rows, width] each
        stream.state = before                           # back to where it was
        stream.reset()                                  # to the beginning
        torch.save(stream.save(), "stream.pt")          # and stream.restore(torch.load("stream.pt"))

    The results are those of the layer in evaluation, without gradients. A stream has the weights and the initial state
    that the layer had when it was made (of a cell with further streams, at the first step), packed once: `refresh()`
    takes those of now. Any number of streams come from one layer, each to be used by one thread at a time; while a step
    runs, other threads go on. The order is that above for a layer with `batch_first` too: time comes first.

    `weights` is what the matrices are stored in: "float32", "bfloat16", or "int8" with a scale for each row, which is
    less to read at each step; states and inputs stay in float32. (A layer in float64 has float64 throughout.)
    `start` is the number of the first step, for a cell that takes `t`. `inputs` are the cell's constants, such as an
    attention's keys, [rows, ...]; its further streams are given to `step` and `run` by name, as `rnn.step` and `rnn`
    take them. A cell with further outputs gives them second, as a dict, as `rnn.step` and `rnn` do. `head` is a linear
    map of the layer's output, whose result then is the stream's.

    Raises NotCompiled if the step cannot be compiled, which `rnn.step` does without, if the layer has a forward hook,
    and for steps that numbers of its type cannot tell apart, from 2^24 in float32, if the cell takes `t`; Mismatch, a
    ValueError, for tensors of another shape, type or device; TypeError for what is no tensor; RuntimeError for a stream
    that is closed.
    """

    def __init__(
        self,
        rnn: Any,
        rows: int = 1,
        *,
        weights: str = "float32",
        start: int = 0,
        inputs: Mapping[str, Tensor] | None = None,
        head: nn.Linear | None = None,
    ):
        inputs = inputs or {}
        _check(rnn, rows, weights, start, head)
        self.rnn, self.rows, self.weights, self._start, self._head = rnn, rows, weights, start, head
        self._steps, self._last = start, sys.maxsize
        self._dtype = next((p.dtype for p in rnn.parameters()), torch.get_default_dtype())
        cell = rnn.cell
        further = set(cell.arguments) - {"x", "t", *cell.state, *cell.below}
        constants = sorted(further & set(cell.constant))
        if set(inputs) != set(constants):
            names, given = (", ".join(sorted(each)) or "nothing" for each in (constants, inputs))
            raise TypeError(f"a stream of {type(cell).__name__} takes {names} for the whole sequence, not {given}")
        self._further = sorted(further - set(constants))
        self._constants = {name: _plain(name, value, self._dtype) for name, value in inputs.items()}
        for name, value in self._constants.items():
            if value.shape[:1] != (rows,):
                raise Mismatch(f"{name} must have the stream's {rows} rows first, but its shape is {list(value.shape)}")
        self._busy, self._closed = Lock(), False
        self._stepper: Stepper | None = None
        self._memory = torch.empty(0)
        self._usual: dict[torch.Size, Tensor] = {}
        self._initial: list[Tensor] = []
        self._set: list[Tensor] | None = None  # the states that were set before the memory was there
        if not self._further:
            self._prepare({})

    def _prepare(self, streams: Mapping[str, Tensor]) -> Stepper:
        """The step and its memory, made when the shapes of all that it is given are known."""
        if self._stepper is None:
            given: list[Given] = [(name, tuple(v.shape[1:]), None) for name, v in self._constants.items()]
            given += [(name, tuple(v.shape[2:]), None) for name, v in streams.items()]
            self._given = given
            self._stepper, self._initial = self._made(), first_states(self.rnn, self.rows)
            self._memory = self._stepper.kernel.memory(self.rows)
            self._begin()
            self._write(self._initial if self._set is None else self._set)
            self._make_quick()
        return self._stepper

    def _make_quick(self) -> None:
        """What a step needs that only reads x and only gives the output: what that looks like, by the shape of x."""
        assert self._stepper is not None
        kernel, width = self._stepper.kernel, self._stepper.shapes[self._stepper.result][-1]
        self._last = self._stepper.network.steps
        self._usual = {}
        if self._stepper.streams == ("x",) and len(self._stepper.shapes) == 1:
            like = torch.empty(self.rows, width, dtype=kernel.plan.dtype)
            wide = torch.Size((self.rows, self.rnn.input_size))
            self._usual = {wide: like, wide[1:]: like[0]} if self.rows == 1 else {wide: like}
        self._call = partial(kernel.one, self._stepper.address, self._memory.data_ptr(), self.rows)

    def _made(self) -> Stepper:
        try:
            return Stepper.of(self.rnn, self._given, self.weights, self._head)
        except (BadInput, CannotBuild) as error:
            raise NotCompiled(f"{location(self.rnn.cell)} has no stream: {error}; rnn.step needs none") from None

    def _begin(self) -> None:
        assert self._stepper is not None
        if self._stepper.constants:
            values = [self._constants[name].contiguous() for name in self._stepper.constants]
            self._stepper.kernel.begin(self._stepper.weights, self._memory, values, self.rows)

    # --- running ---

    def step(self, x: Tensor, **streams: Tensor) -> Any:
        """The output of the next step: [rows, output_size] for x [rows, input_size]; for one row also without it."""
        like = self._usual.get(x.shape) if type(x) is Tensor and not streams else None
        plain = like is not None and x.dtype is like.dtype and x.is_cpu and x.is_contiguous() and not x.is_neg()
        if plain and not (x.requires_grad and torch.is_grad_enabled()):
            return self._next(x, like)  # type: ignore[arg-type]
        _check_tensors(x, streams)
        single = x.dim() == 1 and self.rows == 1
        lead = (None, None) if single else (None,)
        result = self._run(x[lead], {name: v[lead] for name, v in streams.items()}, x)
        output, *values = result if isinstance(result, tuple) else (result,)
        output = output[0, 0] if single else output[0]
        named = ({name: _at(value) for name, value in each.items()} for each in values)
        return (output, *named) if values else output

    def _next(self, x: Tensor, like: Tensor) -> Tensor:
        """The next output for a sample as most are, for which there is nothing to be brought into shape."""
        output = torch.empty_like(like)
        self._begin_alone()
        try:
            if self._steps >= self._last:
                self._refuse(1)
            self._call(x.data_ptr(), output.data_ptr(), self._steps)
            self._steps += 1
        finally:
            self._busy.release()
        return output

    def run(self, chunk: Tensor, **streams: Tensor) -> Any:
        """The outputs of the next steps: [T, rows, output_size] for a chunk [T, rows, input_size]; for one row also
        [T, input_size]."""
        _check_tensors(chunk, streams)
        if chunk.dim() == 2 and self.rows == 1:
            result = self._run(chunk[:, None], {name: v[:, None] for name, v in streams.items()}, chunk)
            return (result[0][:, 0], *result[1:]) if isinstance(result, tuple) else result[:, 0]
        return self._run(chunk, streams, chunk)

    def _run(self, x: Tensor, streams: Mapping[str, Tensor], given: Tensor) -> Any:
        if x.dim() != 3 or x.shape[1:] != (self.rows, self.rnn.input_size):
            raise Mismatch(
                f"this stream has {self.rows} rows of {self.rnn.input_size} inputs, but was given {list(given.shape)}"
            )
        if set(streams) != set(self._further):
            wanted, got = (", ".join(sorted(each)) or "nothing" for each in (self._further, streams))
            raise TypeError(f"besides the input, {type(self.rnn.cell).__name__} takes {wanted} at each step, not {got}")
        values = {"x": _plain("the input", x, self._dtype)}
        for name, value in streams.items():
            if value.shape[:2] != x.shape[:2]:
                raise Mismatch(
                    f"{name} must have the input's steps and rows {list(x.shape[:2])}, not {list(value.shape)}"
                )
            values[name] = _plain(name, value, self._dtype)
        with self._alone():
            stepper = self._prepare(streams)
            self._check_dims(values)
            kernel, steps = stepper.kernel, x.shape[0]
            if self._steps + steps > self._last:
                self._refuse(steps)
            inputs = [values[name] for name in stepper.streams]
            outputs = stepper.empty((steps, self.rows))
            kernel.run(
                stepper.address,
                self._memory.data_ptr(),
                kernel.Inputs(*(tensor.data_ptr() for tensor in inputs)),
                kernel.Outputs(*(tensor.data_ptr() for tensor in outputs)),
                steps,
                self._steps,
                self.rows,
            )
            self._steps += steps
        output = outputs[stepper.result]
        return (output, stepper.values(outputs)) if self.rnn.cell.returned else output

    def _check_dims(self, values: Mapping[str, Tensor]) -> None:
        """The kernel is one for the shapes that it was made for."""
        for name, dims, _ in self._given:
            if name in values and values[name].shape[2:] != dims:
                found = list(values[name].shape[2:])
                raise Mismatch(f"{name} had {list(dims)} in each row at the first step, but now {found}")

    def _refuse(self, steps: int) -> None:
        raise NotCompiled(
            f"{location(self.rnn.cell)} takes t, and {self._dtype} numbers {self._last:,} steps exactly: "
            f"{steps:,} more after {self._steps:,} are too many. Take rnn.step, or a stream of layer.double()"
        )

    def _begin_alone(self) -> None:
        """Raises RuntimeError where the stream is closed, or another thread is using it."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another thread is using this stream: make one for each, rnn.stream()")
        if self._closed:
            self._busy.release()
            raise RuntimeError("this stream is closed: make another, rnn.stream()")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other thread can use the stream."""
        self._begin_alone()
        try:
            yield
        finally:
            self._busy.release()

    # --- the state ---

    @property
    def steps(self) -> int:
        """The number of the next step. Raises Mismatch when it is set to what is no whole number from 0."""
        return self._steps

    @steps.setter
    def steps(self, value: int) -> None:
        """Sets it."""
        value = _checked_steps(value)
        with self._alone():
            self._steps = value

    @property
    def state(self) -> Any:
        """The state, as the layer has it: a tensor, or a tuple of several, [layers, rows, width] each; copies."""
        with self._alone():
            values = self._read()
        return values[0] if len(values) == 1 else tuple(values)

    @state.setter
    def state(self, value: Any) -> None:
        """Sets it. Raises Mismatch for another shape or type."""
        values = self._checked(value)
        with self._alone():
            self._write(values)

    def _checked(self, value: Any) -> list[Tensor]:
        """The states, as they are to be written."""
        if not isinstance(value, Tensor | list | tuple):
            raise Mismatch(f"the state is a tensor or a tuple of tensors, not {type(value).__name__}")
        given = [value] if isinstance(value, Tensor) else list(value)
        names, widths = self.rnn.state_names, self.rnn.cell.widths
        if len(given) != len(names):
            raise Mismatch(f"the state is a tensor for each of ({', '.join(names)}), but {len(given)} were given")
        for name, one in zip(names, given, strict=True):
            wanted = (self.rnn.num_layers, self.rows, widths[name])
            if not isinstance(one, Tensor) or tuple(one.shape) != wanted:
                found = list(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise Mismatch(f"the state {name} must have shape {list(wanted)}, not {found}")
        return [_plain(f"the state {name}", one, self._dtype) for name, one in zip(names, given, strict=True)]

    def reset(self) -> None:
        """Back to the beginning: the initial state, as the weights are of the same moment, and the first number."""
        with self._alone():
            self._set = None
            if self._stepper is not None:
                self._write(self._initial)
            self._steps = self._start

    def save(self) -> dict[str, Tensor]:
        """State and step number as tensors by name, for `torch.save` or safetensors; `restore` takes them."""
        with self._alone():
            values = dict(zip(self.rnn.state_names, self._read(), strict=True))
            return {**values, "steps": torch.tensor(self._steps)}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Goes on from what `save` gave, of this or of another stream of an equal layer. Raises Mismatch."""
        wanted = {*self.rnn.state_names, "steps"}
        if set(saved) != wanted:
            raise Mismatch(f"a saved stream holds {', '.join(sorted(wanted))}, not {', '.join(sorted(saved))}")
        values = self._checked([saved[name] for name in self.rnn.state_names])
        steps = saved["steps"].item() if isinstance(saved["steps"], Tensor) and saved["steps"].dim() == 0 else None
        steps = _checked_steps(steps)
        with self._alone():
            self._write(values)
            self._steps = steps

    def refresh(self) -> None:
        """Takes the weights, and for `reset` the initial state, that the layer has now; the state stays.

        Raises Mismatch for weights of another type.
        """
        with self._alone():
            if self._stepper is not None:
                made, before = self._made(), self._stepper.kernel.plan
                if (made.kernel.plan.dtype, made.kernel.plan.memory) != (before.dtype, before.memory):
                    raise Mismatch("the layer has another type or other states than this stream: make a new one")
                self._stepper, self._initial = made, first_states(self.rnn, self.rows)
                self._begin()
                self._make_quick()

    def _views(self) -> list[tuple[int, int, Tensor]]:
        """Each state in memory: which of the layer's it is, of which layer, and [rows, width]."""
        assert self._stepper is not None
        found, at = [], 0
        for k, row, width in self._stepper.places:
            size = self.rows * width
            found.append((k, row, self._memory[at : at + size].view(self.rows, width)))
            at += size
        return found

    def _read(self) -> list[Tensor]:
        if self._stepper is None:
            now = first_states(self.rnn, self.rows) if self._set is None else self._set
            return [value.clone() for value in now]
        layers: list[list[Tensor]] = [[torch.empty(0)] * self.rnn.num_layers for _ in self.rnn.state_names]
        for k, row, view in self._views():
            layers[k][row] = view
        return [torch.stack(each) for each in layers]

    def _write(self, values: list[Tensor]) -> None:
        if self._stepper is None:
            self._set = [value.detach().clone() for value in values]
            return
        with torch.no_grad():
            for k, row, view in self._views():
                view.copy_(values[k][row])

    # --- the end ---

    def close(self) -> None:
        """Gives its memory back; it cannot be used any more."""
        with self._busy:
            self._closed, self._stepper, self._memory, self._constants = True, None, torch.empty(0), {}
            self._usual = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"Stream(rows={self.rows}, weights={self.weights!r}, steps={self._steps}{closed})"


def _at(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Further outputs of one step, without their dimension of time."""
    return value.squeeze(2) if isinstance(value, Tensor) else [layer.squeeze(1) for layer in value]


def _plain(what: str, value: Any, dtype: torch.dtype) -> Tensor:
    """A tensor as a kernel reads it: without a gradient, without gaps."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{what} must be a tensor, not {type(value).__name__}")
    if value.device.type != "cpu":
        raise Mismatch(f"{what} is on {value.device}, but a stream runs on the processor: {what}.cpu()")
    if value.requires_grad and torch.is_grad_enabled():
        raise Mismatch(f"a stream has no gradients, but {what} wants one: use rnn.step, or {what}.detach()")
    if value.dtype != dtype:
        raise Mismatch(f"{what} is {value.dtype}, but the weights are {dtype}: {what}.to({dtype})")
    return value.resolve_neg().contiguous()  # which are the value itself where there is nothing to be done


def _check_tensors(x: Any, streams: Mapping[str, Any]) -> None:
    for name, value in {"the input": x, **streams}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(value).__name__}: torch.as_tensor(...)")


def _checked_steps(value: Any) -> int:
    if not is_whole(value) or value < 0:
        raise Mismatch(f"the number of the next step is a whole number from 0, not {value!r}")
    return int(value)


def _check(rnn: Any, rows: Any, weights: Any, start: Any, head: Any) -> None:
    if type(rows) is not int or rows < 1:
        raise ValueError(f"rows is how many sequences run side by side, a whole number from 1, not {rows!r}")
    if type(start) is not int or not 0 <= start < 2**24:
        raise ValueError(f"start is the number of the first step, a whole number from 0 below 2^24, not {start!r}")
    if weights not in KINDS:
        raise ValueError(f"weights are stored in {', '.join(KINDS)}, not {weights!r}")
    if rnn.training and (rnn.dropout or rnn.input_dropout or rnn.recurrent_dropout or rnn.zoneout):
        raise ValueError("the layer is in training, and drops values at random: call .eval() first")
    weight = next(rnn.parameters(), torch.zeros(()))
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        raise Mismatch(f"the layer's weights are {weight.dtype} on {weight.device}: a stream needs float32 on the cpu")
    if weight.dtype == torch.float64 and weights != "float32":
        raise ValueError(f"a layer in float64 stores its weights as they are, not in {weights}")
    if head is None:
        return
    if not isinstance(head, nn.Linear):
        raise TypeError(f"the head is a torch.nn.Linear, not {type(head).__name__}")
    if head.in_features != rnn.output_size:
        raise Mismatch(f"the head reads {head.in_features} numbers, but the layer gives {rnn.output_size}")
    if (head.weight.dtype, head.weight.device) != (weight.dtype, weight.device):
        raise Mismatch(
            f"the head's weights are {head.weight.dtype} on {head.weight.device}, but the layer's {weight.dtype} on "
            f"{weight.device}: bring them to one"
        )
