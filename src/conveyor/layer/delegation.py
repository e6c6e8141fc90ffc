"""Layers of `torch.nn`'s cells by PyTorch's own functions: all layers and both directions in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from conveyor.cell.loop import Scan, is_autocast, location
from conveyor.cell.regularise import dropout_mask
from conveyor.compiler import CannotCompile
from conveyor.layer import backends
from conveyor.layer.backends import DELEGATED, NotCompiled, chosen
from conveyor.layer.dispatch import why_loop
from conveyor.layer.forms import InputLayout
from conveyor.layer.tracing import Signature, TracedCell, check_weights, held, traced, type_of
from conveyor.targets.autograd import differentiate_again, is_batched
from conveyor.targets.torch.call import Call, Sequences
from conveyor.targets.torch.plan import Joined, NotTheirs, Plan, only, plan, with_bias
from conveyor.targets.torch.weights import AsOne, Flat, flatten, in_one_piece, joined

DEVICES = {"cuda", "mps"}  # where they are taken unless something else is asked for; ROCm's are called cuda, too


@dataclass(frozen=True)
class Delegate:
    """A layer that PyTorch's functions run: which, and for each layer and direction how its weights lie.

    `plans` is empty, and so is `cells`, for a layer that has `torch.nn`'s own weights.
    """

    rnn: Any
    mode: str
    has_bias: bool
    states: tuple[int, ...]  # which of the layer's the function's are
    plans: list[Plan] = field(default_factory=list)
    cells: list[TracedCell] = field(default_factory=list)

    def run(self, x: Tensor, states: Sequence[Tensor], form: InputLayout) -> tuple[Any, Any]:
        """The output and the last states, as the layer gives them.

        `x`: the input [T, B, width], or of a PackedSequence its first step.
        """
        lower = _lower(x, form)
        x, states = x.to(lower or x.dtype), [state.to(lower or state.dtype) for state in states]
        none = form.lengths is not None and not form.lengths.any()
        if none or not x.shape[0] or not x.shape[1]:
            output = form.outward(x.new_zeros(*x.shape[:2], self.rnn.output_size))
            return output, _state(form, states)
        sequences = Sequences.of(x, form.lengths) if form.packed is None else Sequences.of_packed(form.packed)
        given = [sequences.inward(states[k]) for k in self.states]
        data, last = self._layers(sequences, sequences.data.to(lower or x.dtype), given, lower)
        found = dict(zip(self.states, last, strict=True))
        ends = tuple(sequences.state(found[k], before) for k, before in enumerate(states))
        if form.packed is None:
            return form.outward(sequences.padded(data)), _state(form, ends)
        return PackedSequence(data, form.packed.batch_sizes, *form.packed[2:]), _state(form, ends)

    def _layers(
        self, sequences: Sequences, data: Tensor, states: list[Tensor], lower: torch.dtype | None
    ) -> tuple[Tensor, list[Tensor]]:
        """All layers at once, or, where each has a dropout of its own, one after the other."""
        rnn = self.rnn
        masked = rnn.input_dropout and rnn.training
        size = 1 if masked else rnn.num_layers
        lasts = []
        for start in range(0, rnn.num_layers, size):
            if start and rnn.dropout:
                data = F.dropout(data, rnn.dropout, rnn.training)
            if masked:
                mask = dropout_mask((sequences.batch, data.shape[-1]), rnn.input_dropout, data)
                data = sequences.masked(data, mask)
            rows = range(start * rnn.directions, (start + size) * rnn.directions)
            some = [state[rows.start : rows.stop] for state in states]
            data, *last = self._call(rows, data, sequences.batch_sizes, some, lower)
            lasts.append(last)
        return data, [each[0] if len(each) == 1 else torch.cat(each) for each in zip(*lasts, strict=True)]

    def _call(
        self, rows: range, data: Tensor, sizes: Tensor | None, states: list[Tensor], lower: torch.dtype | None
    ) -> tuple[Tensor, ...]:
        rnn = self.rnn
        weights = [self._weights(row) for row in rows]
        names = [name for row in weights for name in row]
        tensors = [tensor for row in weights for tensor in row.values()]
        check_weights(rnn.cell, dict(zip(names, tensors, strict=True)), data.dtype, data.device)
        given = self._joined(rows, weights, tensors)
        layers = len(rows) // rnn.directions
        dropout = rnn.dropout if layers > 1 else 0.0
        call = Call(self.mode, self.has_bias, layers, rnn.bidirectional, dropout, rnn.training)
        if lower is None:
            results = call(data, sizes, states, given)
        else:
            with torch.autocast(data.device.type, enabled=False):
                results = call(data, sizes, states, [weight.to(lower) for weight in given])
        if not (torch.is_grad_enabled() and results[0].requires_grad):
            return results
        again = partial(self._again, rows, names, sizes, len(states), _autocast(data.device))
        found: tuple[Tensor, ...] = _Once.apply(again, len(results), *results, data, *states, *tensors)
        return found

    def _weights(self, row: int) -> dict[str, Tensor]:
        """The weights of a layer in one direction as they are now, by their paths in the whole layer."""
        rnn = self.rnn
        if not self.cells:
            return dict(zip(rnn._names(row).values(), rnn._sources(row).values(), strict=True))
        place = f"cells.{row % len(rnn.cells)}."
        return {place + name: get() for name, get in self.cells[row].weights.items()}  # type: ignore[misc]

    def _joined(self, rows: range, weights: Sequence[Mapping[str, Tensor]], tensors: Sequence[Tensor]) -> list[Tensor]:
        """As the function takes them."""
        if not self.cells:
            return list(tensors)
        flat = _flat.get(self.rnn)
        if flat is not None and len(rows) == len(self.plans) and flat.holds(tensors):
            return list(AsOne.apply(flat, *tensors))
        made = []
        for row, named in zip(rows, weights, strict=True):
            own = dict(zip(self.cells[row].weights, named.values(), strict=True))
            made += joined(self.plans[row], own)
        return in_one_piece(made) if tensors[0].is_cuda else made

    def _again(
        self,
        rows: range,
        names: Sequence[str],
        sizes: Tensor | None,
        count: int,
        autocast: AbstractContextManager[Any],
        data: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """What `_call` gives, by the loop, whose operations can be differentiated again."""
        rnn = self.rnn
        if rnn.dropout and rnn.training and len(rows) > rnn.directions:
            raise RuntimeError(
                f"{location(rnn.cell)}: PyTorch's own function has drawn the dropout between the layers, and cannot be "
                'differentiated twice: run the layer within conveyor.backend("eager")'
            )
        states, weights = tensors[:count], tensors[count:]
        x, lengths = (data, None) if sizes is None else pad_packed_sequence(PackedSequence(data, sizes))
        lasts: list[tuple[Tensor, ...]] = []
        with held(rnn, dict(zip(names, weights, strict=True))), backends.backend("eager"), autocast:
            for first in range(0, len(rows), rnn.directions):
                outputs = []
                for k in range(first, first + rnn.directions):
                    own = [states[self.states.index(n)][k] for n in range(count)]
                    counts = None if lengths is None else lengths.to(x.device)
                    cell, sources = rnn.cell_of(rows[k]), rnn._sources(rows[k])
                    scan = Scan(cell, {"x": x}, tuple(own), {}, counts, sources=sources)
                    output, last, _ = rnn._run(rows[k], scan)
                    outputs.append(output)
                    lasts.append(tuple(last[n] for n in self.states))
                x = torch.cat(outputs, -1) if rnn.bidirectional else outputs[0]
        x = x if lengths is None else pack_padded_sequence(x, lengths).data
        return (x, *(torch.stack(each) for each in zip(*lasts, strict=True)))


class _Once(torch.autograd.Function):
    """The results of a function, which are differentiated as they are; or by the loop, if that is to be differentiated.

    Its backward either hands the gradients on to the function's, or gives those by the loop in their place.
    """

    @staticmethod
    def forward(ctx: Any, again: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.again, ctx.count = again, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors[count:])
        return tuple(result.detach() for result in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if not (torch.is_grad_enabled() or any(map(is_batched, gradients))):
            return None, None, *gradients, *[None] * len(ctx.saved_tensors)
        needed = ctx.needs_input_grad[2 + ctx.count :]
        found = differentiate_again(ctx.again, ctx.saved_tensors, gradients, needed)
        return None, None, *[None] * ctx.count, *found


def of(rnn: Any, input: Any, record: bool) -> Delegate | None:
    """How PyTorch's functions run a layer, if they are to. Raises NotCompiled where they are asked for and do not."""
    data = input.data if isinstance(input, PackedSequence) else input
    if torch.compiler.is_compiling() or not isinstance(data, Tensor):
        return None
    choice = chosen()
    if choice != DELEGATED and (choice == "eager" or data.device.type not in DEVICES):
        return None
    refused = _why_not(rnn, data, record)
    if refused is None:
        try:
            return _delegate(rnn, type_of(data), data.device)
        except NotTheirs as error:
            refused = str(error)
        except CannotCompile as error:
            refused = f"a step that cannot be traced ({error})"
    if choice == DELEGATED:
        raise refusal(rnn.cell, refused)
    return None


def refusal(cell: Any, reason: str) -> NotCompiled:
    """That PyTorch's functions do not run a cell."""
    return NotCompiled(f"{location(cell)}: PyTorch's own functions are not for {reason}; use conveyor.backend('auto')")


def plan_of_cell(
    cell: Any, plain: bool, dtype: torch.dtype, kind: str
) -> tuple[str, bool, tuple[int, ...], tuple[Joined, ...], str]:
    """For one layer in one direction: mode, biases, states, how the weights lie (of torch.nn's own as they are); or at
    the end why there is none."""
    try:
        if not plain:
            raise NotTheirs("zoneout, recurrent dropout or recorded values")
        if cell.packed is not None:
            owner = cell.packed.owner()
            return owner.mode, bool(owner.bias), (0, 1) if owner.mode == "LSTM" else (0,), (), ""
        _check_arguments(cell)
        found = _plan(traced(cell, _signature(cell, dtype)), cell.output_name or cell.state[0])
        if kind == "mps" and found.projected:
            raise NotTheirs("projections on mps")
        return found.mode, found.has_bias, found.states, found.joined, ""
    except (NotTheirs, CannotCompile) as error:
        return "", False, (), (), str(error)


def _check_arguments(cell: Any) -> None:
    if set(cell.arguments) != {"x", *cell.state}:
        raise NotTheirs("steps that take more than x and the states")


def _why_not(rnn: Any, data: Tensor, record: bool) -> str | None:
    """What of a call they do not have."""
    if record:
        return "recorded values"
    if rnn.zoneout:
        return "zoneout"
    if rnn.recurrent_dropout and rnn.training:
        return "recurrent dropout"
    if rnn.is_theirs and rnn._is_hooked():
        return "hooks on the parts of a cell"
    if data.is_meta:
        return "tensors on meta"
    return why_loop((data,))


def _delegate(rnn: Any, dtype: torch.dtype, device: torch.device) -> Delegate:
    if rnn.is_theirs:
        made = Delegate(rnn, rnn.mode, rnn.bias, (0, 1) if rnn.mode == "LSTM" else (0,))
        projected = rnn.proj_size
    else:
        _check_arguments(rnn.cell)
        rows = [rnn.cell_of(row) for row in range(rnn.state_rows)]
        cells = [traced(cell, _signature(cell, dtype)) for cell in rows]
        plans = [_plan(one, cell.output_name or cell.state[0]) for one, cell in zip(cells, rows, strict=True)]
        common = only(plans)
        plans = [with_bias(one) for one in plans] if common.has_bias else plans
        made = Delegate(rnn, common.mode, common.has_bias, common.states, plans, cells)
        projected = common.projected
    if device.type == "mps" and projected:
        raise NotTheirs("projections on mps")
    return made


def _signature(cell: Any, dtype: torch.dtype) -> Signature:
    given = tuple((name, (cell.widths[name],), None) for name in ("x", *cell.state))
    return Signature(given, (), dtype)


_plans: WeakKeyDictionary[TracedCell, Plan | NotTheirs] = WeakKeyDictionary()
_flat: WeakKeyDictionary[Any, Flat] = WeakKeyDictionary()


def _plan(cell: TracedCell, output: str) -> Plan:
    """Made once for each traced step. Raises NotTheirs."""
    found = _plans.get(cell)
    if found is None:
        try:
            if cell.own_tensors or cell.packing is not None:
                raise NotTheirs("tensors that are no parameters")
            found = plan(cell.graph, output)
        except NotTheirs as error:
            found = error
        _plans[cell] = found
    if isinstance(found, NotTheirs):
        raise found.with_traceback(None)
    return found


def compact(rnn: Any) -> None:
    """Moves the weights into one piece of memory, if PyTorch's functions run the layer where they are."""
    _flat.pop(rnn, None)
    weight = next(rnn.parameters(), None)
    if weight is None or rnn.is_theirs:
        return
    if chosen() != DELEGATED and weight.device.type not in DEVICES:
        return
    try:
        delegate = _delegate(rnn, type_of(weight), weight.device)
    except (NotTheirs, CannotCompile):
        return
    if any(type(get()) is not torch.nn.Parameter for cell in delegate.cells for get in cell.weights.values()):
        return  # one that is computed of others
    weights = [{name: get() for name, get in cell.weights.items()} for cell in delegate.cells]
    found = flatten(delegate.plans, weights, partial(_for_cudnn, rnn, delegate))  # type: ignore[arg-type]
    if found is not None:
        _flat[rnn] = found


def _for_cudnn(rnn: Any, delegate: Delegate, tensors: list[Tensor]) -> None:
    """Moves them to where cuDNN wants them, if it is there."""
    if not (tensors[0].is_cuda and torch.backends.cudnn.is_acceptable(tensors[0])):
        return
    if torch._use_cudnn_rnn_flatten_weight():
        mode = {"RNN_RELU": 0, "RNN_TANH": 1, "LSTM": 2, "GRU": 3}[delegate.mode]
        one = delegate.plans[0]
        sizes = rnn.input_size, mode, one.hidden, one.projected, rnn.num_layers
        torch._cudnn_rnn_flatten_weight(tensors, len(one.joined), *sizes, False, rnn.bidirectional)


def _state(form: InputLayout, ends: Sequence[Tensor]) -> Any:
    state = tuple(map(form.state, ends))
    return state if len(state) > 1 else state[0]


def _lower(x: Tensor, form: InputLayout) -> torch.dtype | None:
    """The type to which autocast lowers what goes in and comes out. Packed sequences are left to it on a processor."""
    if not is_autocast(x.device) or x.dtype == torch.float64 or (form.packed is not None and not x.is_cuda):
        return None
    return torch.get_autocast_dtype(x.device.type)


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The autocast of now, to enter it again."""
    kind = device.type
    if not is_autocast(device):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
