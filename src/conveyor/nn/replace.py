"""`replace` and `restore`: the recurrent layers of a model, as `torch.nn`'s and as ours, changed in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from conveyor.nn.cells import GRUCell, LSTMCell, RNNCell, TorchCell
from conveyor.nn.layers import GRU, LACKING, LSTM, OURS, RNN, TorchLayer

# By identity: our classes are equal to those of torch.nn.
PAIRS: list[tuple[type[nn.Module], type[nn.Module]]] = [
    (nn.RNN, RNN),
    (nn.LSTM, LSTM),
    (nn.GRU, GRU),
    (nn.RNNCell, RNNCell),
    (nn.LSTMCell, LSTMCell),
    (nn.GRUCell, GRUCell),
]


@dataclass(frozen=True)
class Replaced:
    """What `replace` or `restore` has done: the paths of the modules that it changed, and why it left others."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{path or 'the model itself'}: changed" for path in self.changed]
        lines += [f"{path or 'the model itself'}: left as it is, {reason}" for path, reason in self.left.items()]
        return "\n".join(lines) or "no recurrent layers"


def replace(model: nn.Module) -> Replaced:
    """Makes every recurrent layer of `torch.nn` in a model one of ours, in place.

        print(conveyor.replace(model))          # encoder.rnn: changed

    The modules stay the same objects with the same parameters, hooks and names, so optimisers, checkpoints and
    references to them go on as they were; they run by kernels, and take `record=` and `lengths=`. Left alone, with the
    reason in the report: classes derived from `torch.nn`'s, whose own `forward` would be lost, and layers that are
    quantized or scripted. `restore` goes back, which a model needs that is to be pickled for a place without conveyor.

    Raises TypeError if the model is no module.
    """
    return _change(model, dict(_by_identity(PAIRS)))


def restore(model: nn.Module) -> Replaced:
    """Makes every layer of ours in a model the layer of `torch.nn` that it is, in place: the inverse of `replace`.

    Left alone, with the reason in the report: layers with what torch.nn lacks (zoneout, variational dropout, a learnt
    initial state). Raises TypeError if the model is no module.
    """
    return _change(model, dict(_by_identity([(ours, theirs) for theirs, ours in PAIRS])))


def _by_identity(pairs: list[tuple[type, type]]) -> Iterator[tuple[int, type]]:
    return ((id(old), new) for old, new in pairs)


def _change(model: nn.Module, classes: dict[int, type]) -> Replaced:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, not {type(model).__name__}")
    report = Replaced()
    for path, module in model.named_modules():
        found = parametrize.type_before_parametrizations(module)
        wanted = classes.get(id(found))
        if wanted is None:
            reason = _why_not(module, found, classes)
        else:
            reason = _what_torch_lacks(module) if not issubclass(wanted, TorchLayer | TorchCell) else None
        if reason is not None:
            report.left[path] = reason
        elif wanted is not None:
            _become(module, wanted)
            report.changed.append(path)
    return report


def _become(module: nn.Module, wanted: type) -> None:
    if parametrize.is_parametrized(module):  # a class of its own, whose properties compute the weights
        own = {name: value for name, value in vars(type(module)).items() if name not in ("__dict__", "__weakref__")}
        wanted = type(wanted)(f"Parametrized{wanted.__name__}", (wanted,), own)
    module.__class__ = wanted
    for name in OURS:  # what is derived, and what the class itself has as a default
        module.__dict__.pop(name, None)


def _what_torch_lacks(module: Any) -> str | None:
    found = [name for name in (*LACKING, "tied") if getattr(module, name, None)]
    return f"torch.nn has no {', '.join(found)}" if found else None


def _why_not(module: nn.Module, found: type, classes: dict[int, type]) -> str | None:
    """Why a recurrent module is left, or None for any other module and for one that is already as wanted."""
    if any(found is new for new in classes.values()):
        return None
    names = [theirs.__name__ for theirs, _ in PAIRS]
    if getattr(module, "original_name", None) in names:
        return "it is a compiled TorchScript module"
    if "quantized" in found.__module__ and found.__name__ in names:
        return "it is quantized"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return f"{found.__name__} is a class of its own, derived from {_base(found).__name__}"
    return None


def _base(found: type) -> type:
    return next(base for base in found.__mro__[1:] if base.__module__.startswith(("torch.nn", "conveyor")))
