"""A layer in torch.fx.symbolic_trace: one node, as PyTorch's own modules are; and why torch.jit.trace has none."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

TRACED = (
    "torch.jit.trace, and so torch.onnx.export(dynamo=False), would record a loop of this input's length, which cuts "
    "longer inputs short: use torch.export.export, or torch.onnx.export(dynamo=True, custom_translation_table="
    "conveyor.onnx_translations()), or trace the layer's step"
)


def tracer_of(*given: Any) -> fx.proxy.TracerBase | None:
    """What runs the layer by torch.fx.symbolic_trace, if so."""
    values = (v for value in given for v in (value if isinstance(value, tuple | list) else (value,)))
    return next((value.tracer for value in values if isinstance(value, fx.Proxy)), None)


def as_leaf(tracer: Any, layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> fx.Proxy:
    """A call of the layer as one node, as the tracer itself makes it for the modules of torch.nn."""
    usual = {"lengths": None, "record": False, "start": 0}
    changed = {name: value for name, value in keywords.items() if name not in usual or value is not usual[name]}
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), arguments, changed)
