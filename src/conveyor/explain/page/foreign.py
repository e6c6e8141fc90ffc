"""Any module as a network that a page can run: its recurrent layer, and the maps before and after it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from conveyor import nn as ours
from conveyor.errors import BadInput, warn
from conveyor.explain.page.sequences import Given, Text
from conveyor.explain.running.layers import TWO_DIRECTIONS
from conveyor.explain.running.model import Model, chain, check_widths, outputs
from conveyor.layer import Recurrent

Place = str | nn.Module | None  # a module of a model, or its path in it
LAYERS: list[tuple[type[nn.Module], type[Any]]] = [(nn.LSTM, ours.LSTM), (nn.GRU, ours.GRU), (nn.RNN, ours.RNN)]
CELLS = {nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU, nn.RNNCell: nn.RNN}
CLOSE = 1e-4  # between a model and what is read of it, relative where numbers are larger than one


def read(
    model: nn.Module, given: Given, kind: str = "", count: int = 0, *, layer: Place, first: Place, head: Place
) -> Model:
    """The network that a page shows of a module: copies of its weights, in float32.

    `kind`, `count`: of the outputs; "" and 0 if nothing is said of them. Raises BadInput if the layer or a map is not
    found, cannot be told from others, or does not fit.
    """
    if not isinstance(model, nn.Module):
        raise BadInput(f"a model is a torch.nn.Module, not {type(model).__name__}")
    path, found = recurrent(model, layer)
    if getattr(found, "bidirectional", False):
        raise BadInput(f"{path or 'the layer'} {TWO_DIRECTIONS}")
    outside = _outside(model, path)
    before = _before(model, given, found, first, outside)
    after = _after(model, found, head, kind, count, outside)
    # Together, so that a matrix that two of them share stays one.
    before, found, after = copy.deepcopy((before, found, after))
    rnn = as_recurrent(found, path).cpu().float().eval()
    made = Model(before.cpu().float().eval(), rnn, after.cpu().float().eval())
    if isinstance(made.first, nn.Sequential):
        what = f"what comes before {path or 'the layer'}"
        check_widths(made.first, what, given.inputs.shape[1], rnn.input_size, "the layer reads")
    if count:
        check_widths(made.head, f"what comes after {path or 'the layer'}", rnn.output_size, count, "the outputs are")
    return made


def recurrent(model: nn.Module, layer: Place) -> tuple[str, nn.Module]:
    """The recurrent layer of a model and its path, "" for the model itself. Raises BadInput."""
    if layer is not None:
        path, found = _place(model, layer, "layer")
        if not _is_recurrent(found):
            raise BadInput(f"layer={path!r} is a {type(found).__name__}, not a recurrent layer; {_told(_all(model))}")
        return path, found
    known = _all(model)
    if len(known) != 1:
        raise BadInput(f"{type(model).__name__} must have one recurrent layer; {_told(known)}")
    return known[0]


def _all(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}." if outer else "") for outer, _ in found)
        if not inside and _is_recurrent(module):
            found.append((path, module))
    return found


def _is_recurrent(module: nn.Module) -> bool:
    return isinstance(module, Recurrent | nn.RNNBase | nn.RNNCellBase)


def _told(known: Sequence[tuple[str, nn.Module]]) -> str:
    if not known:
        return "there is none in it: conveyor.Recurrent, torch.nn.LSTM, GRU and RNN, and their cells, are such layers"
    named = ", ".join(f"{path} ({type(module).__name__})" for path, module in known)
    return f"it has {named}: name the one that is meant, layer={known[0][0]!r}"


def as_recurrent(module: nn.Module, path: str) -> Recurrent:
    """A recurrent layer of `torch.nn`, or a cell, as one of ours. Raises BadInput for one that is not the same."""
    if isinstance(module, Recurrent):
        return module
    if (kind := CELLS.get(type(module))) is not None:
        module = _of_cell(module, kind)
    for theirs, own in LAYERS:
        if isinstance(module, theirs):
            try:
                made: Recurrent = own.from_torch(module)
            except (TypeError, ValueError) as error:
                raise BadInput(f"{path or 'the layer'}: {error}") from None
            return made
    raise BadInput(f"{path or 'the layer'} is a {type(module).__name__}, which cannot be read")


def _of_cell(cell: Any, kind: type[nn.RNNBase]) -> nn.RNNBase:
    """A layer of `torch.nn` that computes at each step what a cell computes."""
    options = {"nonlinearity": cell.nonlinearity} if kind is nn.RNN else {}
    layer = kind(cell.input_size, cell.hidden_size, bias=cell.bias, **options)
    layer.load_state_dict({f"{name}_l0": tensor for name, tensor in cell.state_dict().items()})
    return layer


def _outside(model: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """The modules of a model that are not in its layer."""
    if not path:
        return []
    return [(name, m) for name, m in model.named_modules() if name and name != path and not name.startswith(f"{path}.")]


def _place(model: nn.Module, where: Place, name: str) -> tuple[str, nn.Module]:
    if isinstance(where, str):
        try:
            return where, model.get_submodule(where)
        except AttributeError:
            known = ", ".join(path for path, _ in model.named_modules() if path)
            raise BadInput(f"{name}={where!r}: {type(model).__name__} has no such module; it has {known}") from None
    assert where is not None
    return next((path for path, module in model.named_modules() if module is where), ""), where


def _before(
    model: nn.Module, given: Given, layer: Any, first: Place, outside: Sequence[tuple[str, nn.Module]]
) -> nn.Embedding | nn.Sequential:
    """What makes the x of the layer: an embedding of tokens, or maps of a vector."""
    if isinstance(given, Text):
        return _embedding(model, given, layer, first, outside)
    if first is not None:
        path, module = _place(model, first, "first")
        return chain(module, path or "first")
    if given.inputs.shape[1] == layer.input_size:
        return nn.Sequential()
    fits = _fitting(outside, given.inputs.shape[1], layer.input_size)
    if len(fits) == 1:
        return fits[0][1]
    names = f"are several: {', '.join(path for path, _ in fits)}" if fits else "is none"
    raise BadInput(
        f"the series has {given.inputs.shape[1]} channels, but the layer reads {layer.input_size} numbers, and of the "
        f"maps from one to the other there {names}: name it, first=..., or give a series of {layer.input_size} channels"
    )


def _embedding(
    model: nn.Module, given: Text, layer: Any, first: Place, outside: Sequence[tuple[str, nn.Module]]
) -> nn.Embedding:
    known: list[tuple[str, nn.Module]] = [each for each in outside if isinstance(each[1], nn.Embedding)]
    if first is not None:
        known = [_place(model, first, "first")]
    if len(known) != 1 or not isinstance(known[0][1], nn.Embedding):
        names = ", ".join(path for path, _ in known) or "none"
        raise BadInput(
            f"a network that reads text has one torch.nn.Embedding, and here are: {names}; give it, first=..."
        )
    path, found = known[0]
    if found.num_embeddings != len(given.vocabulary) or found.embedding_dim != layer.input_size:
        raise BadInput(
            f"{path or 'the embedding'} has {found.num_embeddings} tokens of {found.embedding_dim} numbers, but the "
            f"text has {len(given.vocabulary)} symbols, and the layer reads {layer.input_size} numbers"
        )
    if found.max_norm is not None:
        raise BadInput(f"{path or 'the embedding'} has max_norm={found.max_norm}, which a page does not know")
    return found


def _after(
    model: nn.Module, layer: Any, head: Place, kind: str, count: int, outside: Sequence[tuple[str, nn.Module]]
) -> nn.Sequential:
    """What makes the outputs of the layer's output."""
    width = layer.output_size if isinstance(layer, Recurrent) else getattr(layer, "proj_size", 0) or layer.hidden_size
    if head is not None:
        path, module = _place(model, head, "head")
        return chain(_without_end(module, kind), path or "head")
    fits = _fitting(outside, width, count)
    if len(fits) == 1:
        return fits[0][1]
    if not fits and not outside and (not count or width == count):  # the layer alone
        return nn.Sequential()
    names = f"several: {', '.join(path for path, _ in fits)}" if fits else "none"
    wanted = f"from {width} numbers to {count or 'the outputs'}"
    raise BadInput(f"of the maps {wanted} there are {names}; give it, head=...: a module, or its path")


def _fitting(outside: Sequence[tuple[str, nn.Module]], width: int, count: int) -> list[tuple[str, nn.Sequential]]:
    """The linear maps, and chains of maps, from `width` numbers to `count`, 0 for any; those in others are left out."""
    found: list[tuple[str, nn.Sequential]] = []
    for path, module in outside:
        if isinstance(module, nn.Linear | nn.Sequential) and not any(path.startswith(f"{one}.") for one, _ in found):
            try:
                maps = chain(module, path)
                check_widths(maps, path, width, count or _last(maps), "")
            except BadInput:  # it is something else
                continue
            found += [(path, maps)] if any(isinstance(each, nn.Linear) for each in maps) else []
    return found


def _last(maps: nn.Sequential) -> int:
    return next((each.out_features for each in reversed(maps) if isinstance(each, nn.Linear)), 0)


def _without_end(module: nn.Module, kind: str) -> nn.Module:
    """Without what makes probabilities of logits at its end, which a page does by itself."""
    ends = {"classes": (nn.Softmax, nn.LogSoftmax), "token": (nn.Softmax, nn.LogSoftmax), "labels": (nn.Sigmoid,)}
    if isinstance(module, nn.Sequential) and len(module) and isinstance(module[-1], ends.get(kind, ())):
        return module[:-1]
    return module


def check(model: nn.Module, read: Model, given: Given) -> None:
    """Raises BadInput if the model gives other numbers than what was read of it. Warns if it cannot be called."""
    expected = outputs(read, given.inputs)
    try:
        found = _called(model, given.inputs)
    except Exception as error:  # a forward of other arguments can fail in any way
        warn(f"{_UNCHECKED}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return
    pair = _beside(found, expected)
    if pair is None:
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        warn(f"{_UNCHECKED}: it gives {shape}, and {list(expected.shape)} were expected")
        return
    given_as = [pair[1], pair[1].sigmoid()]  # a model may end in what a page does by itself
    given_as += [pair[1].softmax(-1), pair[1].log_softmax(-1)] if pair[1].shape[1] > 1 else []
    off = min(_off(pair[0], one) for one in given_as)
    if not off <= CLOSE:
        raise BadInput(
            f"{type(model).__name__} gives other numbers than its layer with what is before and after it, off by "
            f"{off:.2g}: it does more, such as pooling over time; name the parts by layer=, first= and head=, or show "
            "them without this comparison, check=False"
        )


_UNCHECKED = "not compared with the model, which could not be called with one sequence (check=False omits this)"


@torch.no_grad()
def _called(model: nn.Module, inputs: Tensor) -> Any:
    copied = copy.deepcopy(model).cpu().float().eval()
    _, layer = next(iter(_all(copied)), ("", None))
    batch_first = bool(getattr(layer, "batch_first", False))
    found = copied(inputs[None] if batch_first else inputs[:, None])
    while isinstance(found, tuple | list) and found:
        found = found[0]
    return found


def _beside(found: Any, expected: Tensor) -> tuple[Tensor, Tensor] | None:
    """What a model gave, and what is expected of it, in one shape: of all steps or of the last."""
    if not isinstance(found, Tensor):
        return None
    steps, count = expected.shape
    for shape in ((steps, 1, count), (1, steps, count), (steps, count)):
        if found.shape == shape:
            return found.float().reshape(steps, count), expected
    if found.numel() == count:
        return found.float().reshape(1, count), expected[-1:]
    if found.shape == (1, count, steps):  # as torch.nn.functional.cross_entropy wants it
        return found[0].t().float(), expected
    if count == 1 and found.numel() == steps:
        return found.float().reshape(steps, 1), expected
    return None


def _off(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
