"""A call of PyTorch's RNN, LSTM or GRU as an operator: torch.compile sees one operation, not a loop of this length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from conveyor.targets.torch.call import Call, Sequences


def _called(
    x: Tensor, lengths: Tensor | None, states: list[Tensor], weights: list[Tensor], mode: str, has_bias: bool
) -> list[Tensor]:
    """The output [T, B, width], and the last states [B, width], of one layer in one direction."""
    if not x.shape[0] or not x.shape[1] or (lengths is not None and not lengths.any()):
        return [x.new_zeros(*x.shape[:2], states[0].shape[-1]), *states]
    sequences = Sequences.of(x, lengths)
    before = [state[None] for state in states]
    call = Call(mode, has_bias, 1, False, 0.0, False)
    output, *last = call(sequences.data, sequences.batch_sizes, list(map(sequences.inward, before)), weights)
    ends = (sequences.state(value, old)[0] for value, old in zip(last, before, strict=True))
    return [sequences.padded(output), *ends]


@library.custom_op("conveyor::delegated", mutates_args=())
def delegated(
    x: Tensor, lengths: Tensor | None, states: list[Tensor], weights: list[Tensor], mode: str, has_bias: bool
) -> list[Tensor]:
    """The output, and the last states."""
    found = _called(x, lengths, states, weights, mode, has_bias)
    return [value.clone(memory_format=torch.contiguous_format) for value in found]


@delegated.register_fake
def _(
    x: Tensor, lengths: Tensor | None, states: list[Tensor], weights: list[Tensor], mode: str, has_bias: bool
) -> list[Tensor]:
    return [x.new_empty(*x.shape[:2], states[0].shape[-1]), *(x.new_empty(state.shape) for state in states)]


def _recorded() -> Any:
    """Inside, autograd sees what an operator does, from which PyTorch hides it."""
    hidden = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor", "ADInplaceOrView"):
        hidden = hidden.remove(getattr(torch._C.DispatchKey, key))
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), hidden)


@library.custom_op("conveyor::delegated_backward", mutates_args=())
def delegated_backward(
    gradients: list[Tensor],
    x: Tensor,
    lengths: Tensor | None,
    states: list[Tensor],
    weights: list[Tensor],
    mode: str,
    has_bias: bool,
) -> list[Tensor]:
    """The gradients by x, the states and the weights. The forward is run again: what it saved is no tensor of ours."""
    given = [tensor.detach().requires_grad_() for tensor in (x, *states, *weights)]
    count = 1 + len(states)
    with _recorded(), torch.enable_grad():
        results = _called(given[0], lengths, given[1:count], given[count:], mode, has_bias)
        ends = [(result, g) for result, g in zip(results, gradients, strict=True) if result.requires_grad]
        found = torch.autograd.grad([r for r, _ in ends], given, [g for _, g in ends], allow_unused=True)
    made = (torch.zeros_like(t) if g is None else g for t, g in zip(given, found, strict=True))
    return [g.clone(memory_format=torch.contiguous_format) for g in made]


@delegated_backward.register_fake
def _(
    gradients: list[Tensor],
    x: Tensor,
    lengths: Tensor | None,
    states: list[Tensor],
    weights: list[Tensor],
    mode: str,
    has_bias: bool,
) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (x, *states, *weights)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, lengths, states, weights, *ctx.told = inputs
    ctx.count, ctx.has_lengths = len(states), lengths is not None
    ctx.save_for_backward(x, *states, *weights, *([lengths] if ctx.has_lengths else []))


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    lengths = rest.pop() if ctx.has_lengths else None
    states, weights = rest[: ctx.count], rest[ctx.count :]
    by_x, *found = delegated_backward(list(gradients), x, lengths, states, weights, *ctx.told)
    return by_x, None, found[: ctx.count], found[ctx.count :], None, None


delegated.register_autograd(_differentiate, setup_context=_remember)


def _refuse(*_: Any) -> Any:
    raise RuntimeError("a compiled model cannot be differentiated twice: differentiate the model itself")


# Of a backward in which torch.autograd asks for a graph.
delegated_backward.register_autograd(_refuse)
