"""`from_onnx`: the layer that a recurrent node of an ONNX model is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.layer import Recurrent
from conveyor.nn.incoming import onnx_file
from conveyor.nn.incoming.activations import Activation
from conveyor.nn.incoming.building import Gates, Source, build, check_shape, check_types, tensor
from conveyor.nn.incoming.reversed import Reversed

if TYPE_CHECKING:
    import onnx

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
# The blocks of W, R and B, in order; and which activations there are by default.
BLOCKS = {
    "LSTM": ("input", "output", "forget", "candidate"),
    "GRU": ("update", "reset", "candidate"),
    "RNN": ("hidden",),
}
PEEPHOLES = ("input", "output", "forget")
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# The parameters of those that have any, by default; None must be given.
PARAMETERS: dict[str, tuple[float | None, ...]] = {
    "Affine": (None, None),
    "ScaledTanh": (None, None),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (None,),  # for which ONNX says 1, and ONNX Runtime takes 0
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
}
NAMES = {name.lower(): name for name in ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", *PARAMETERS)}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def from_onnx(model: Any, node: str | None = None) -> Recurrent | Reversed:
    """The layer that computes what a node LSTM, GRU or RNN of an ONNX model computes, with a copy of its weights.

        rnn = conveyor.from_onnx("model.onnx", node="encoder/lstm")
        output, (h, C) = rnn(x, (h, C), lengths=lengths)

    `model` is a path, the file's bytes, or an `onnx.ModelProto`; `node` names the node, or one of its outputs, where
    there are several. Every attribute is obeyed: `activations` with `activation_alpha` and `activation_beta`, `clip`,
    `direction`, `hidden_size`, `input_forget`, `layout`, `linear_before_reset`. In an LSTM `clip` bounds what gates and
    candidate are of, and not the memory that the output is of: so does ONNX Runtime, where the text leaves it open.

    The node's inputs: W, R, B and P must be stored in the model, or computed of what it stores. X [T, B, I] is the
    layer's input; with layout=1 the layer is `batch_first`. `sequence_lens` is `lengths=`. `initial_h` and `initial_c`
    are the layer's state, [directions, B, H] in either layout, and zero if not given, also where the model computes
    them; those that the model stores, the same for every row, become the layer's learnt initial state.

    Its outputs: Y [T, directions, B, H] is `output` [T, B, directions * H], its directions one after the other; Y_h and
    Y_c are the state.

    The layer is a `conveyor.LSTM`, `GRU` or `RNN` where the equations are theirs, else a `conveyor.Recurrent` of the
    zoo's cell with peepholes, coupled gates, or the reset before the product, or of one that takes its activations.
    With direction "reverse" it is a `conveyor.nn.Reversed` of such a layer.

    Raises BadInput (a ValueError) that names the node and what it has: weights from outside the model, an unknown
    attribute, shapes that do not fit, files that are no model; TypeError for a model of another kind.

    Source: the operators LSTM, GRU and RNN of ONNX, versions 1 to 22.
    """
    loaded = onnx_file.load(model)
    found = onnx_file.find(loaded, node)
    try:
        return _layer(loaded, found)
    except BadInput as error:
        raise BadInput(f"{found.op_type} {onnx_file.label(found)!r}: {error}") from error


def _layer(model: onnx.ModelProto, node: onnx.NodeProto) -> Recurrent | Reversed:
    settings = _settings(node)
    takes = {name: given for name, given in zip(_inputs(node), node.input, strict=False) if given}
    weights: dict[str, Tensor] = {
        name: _weight(model, name, takes[name]) for name in ("W", "R", "B", "P") if name in takes
    }
    if missing := [name for name in "WR" if name not in weights]:
        raise BadInput(f"it has no {missing[0]}, which holds its weights")
    if "sequence_lens" in takes and onnx_file.stored(model, takes["sequence_lens"]) is not None:
        raise BadInput(
            "the model stores sequence_lens, for one batch only: make it an input, and give lengths= instead"
        )
    check_types(weights)
    direction = settings.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise BadInput(f"its direction is {direction!r}; there are {', '.join(DIRECTIONS)}")
    _check(node.op_type, weights, DIRECTIONS[direction], settings)
    source = Source(
        node.op_type.lower(),
        [_gates(node.op_type, {name: w[row] for name, w in weights.items()}) for row in range(DIRECTIONS[direction])],
        _activations(node.op_type, DIRECTIONS[direction], settings),
        coupled=bool(settings.get("input_forget", 0)),
        reset_before=not settings.get("linear_before_reset", 0),
        batch_first=settings.get("layout", 0) == 1,
    )
    states = _initial(model, takes, source.batch_first)
    layer = build(source, **({"learn_initial_state": True} if states else {}))
    with torch.no_grad():
        for name, value in states.items():
            given = tensor(value, f"initial_{name.lower()}")
            check_shape(given, layer.initial_state[name].shape, f"a row of the initial {name}")
            layer.initial_state[name].copy_(given)
    return Reversed(layer) if direction == "reverse" else layer


def _inputs(node: onnx.NodeProto) -> tuple[str, ...]:
    return INPUTS if node.op_type == "LSTM" else INPUTS[:6]


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes, by name, as Python's values. Raises BadInput for one that the operator does not have."""
    onnx = onnx_file.package()
    known = {*onnx.defs.get_schema(node.op_type).attributes, "output_sequence"}  # the last tells what to return
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.name not in known:
            raise BadInput(f"its attribute {attribute.name} is unknown; there are {', '.join(sorted(known))}")
        if isinstance(value, list):
            value = [v.decode() if isinstance(v, bytes) else v for v in value]
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    if found.get("layout", 0) not in (0, 1):
        raise BadInput(f"its layout is {found['layout']}; there are 0 and 1")
    return found


def _weight(model: onnx.ModelProto, name: str, given: str) -> Tensor:
    value = onnx_file.stored(model, given)
    if value is None:
        raise BadInput(
            f"{name} is {given!r}, which comes from outside the model or is computed of what does: store it in the "
            "model, as an initializer"
        )
    return tensor(value, name)


def _check(op: str, weights: dict[str, Tensor], directions: int, settings: dict[str, Any]) -> None:
    """Raises BadInput for weights of other shapes than the operator has."""
    blocks = len(BLOCKS[op])
    hidden = weights["R"].shape[-1] if weights["R"].dim() else 0
    if settings.get("hidden_size", hidden) != hidden:
        raise BadInput(f"hidden_size is {settings['hidden_size']}, but R has shape {list(weights['R'].shape)}")
    if weights["W"].dim() != 3 or not hidden or not weights["W"].shape[-1]:
        shapes = ", ".join(f"{name} has shape {list(weights[name].shape)}" for name in "WR")
        raise BadInput(f"W and R must have three dimensions and no size of zero, but {shapes}")
    wanted = {
        "W": (directions, blocks * hidden, weights["W"].shape[-1]),
        "R": (directions, blocks * hidden, hidden),
        "B": (directions, 2 * blocks * hidden),
        "P": (directions, 3 * hidden),
    }
    for name, value in weights.items():
        check_shape(value, wanted[name], name)


def _gates(op: str, weights: dict[str, Tensor]) -> Gates:
    """Those of one direction."""
    names = BLOCKS[op]
    gates: Gates = {name: {} for name in names}
    for key, kind in (("W", "weight_x"), ("R", "weight_h")):
        for name, block in zip(names, weights[key].chunk(len(names)), strict=True):
            gates[name][kind] = block
    of_x, of_h = (b.chunk(len(names)) for b in weights["B"].chunk(2)) if "B" in weights else ((), ())
    for name, x, h in zip(names, of_x, of_h, strict=False):
        gates[name]["bias"] = x + h
    if op == "GRU":
        gates["recall"] = {"weight_h": gates["candidate"].pop("weight_h")}
        if of_x:
            gates["candidate"]["bias"], gates["recall"]["bias"] = of_x[-1], of_h[-1]
    for name, block in zip(PEEPHOLES, weights["P"].chunk(3) if "P" in weights else (), strict=False):
        gates[name]["weight_C"] = block
    return gates


def _activations(op: str, directions: int, settings: dict[str, Any]) -> list[tuple[Activation, ...]]:
    """Those of each direction; the lists of alpha and beta have values for the functions that take them."""
    wanted = len(USUAL[op])
    names = settings.get("activations", USUAL[op] * directions)
    if op == "RNN" and directions == 1 and names == ["Tanh", "Tanh"]:
        names = names[:1]  # the operator's default is that of two directions
    if len(names) != wanted * directions:
        raise BadInput(f"it has {directions} times {wanted} activations, but names {len(names)}: {', '.join(names)}")
    clip = settings.get("clip")
    if clip is not None and not clip > 0:
        raise BadInput(f"clip is {clip}, and must be above zero")
    alphas, betas = (iter(settings.get(f"activation_{name}", ())) for name in ("alpha", "beta"))
    memory = wanted - 1 if op == "LSTM" else None  # whose activation ONNX Runtime does not clip
    clips = [None if number % wanted == memory else clip for number in range(len(names))]
    found = [_activation(name, alphas, betas, each) for name, each in zip(names, clips, strict=True)]
    if left := [*alphas, *betas]:
        raise BadInput(
            f"activation_alpha and activation_beta have {len(left)} values more than {', '.join(names)} take"
        )
    return [tuple(found[i : i + wanted]) for i in range(0, len(found), wanted)]


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float], clip: float | None) -> Activation:
    known = NAMES.get(name.lower())
    if known is None:
        raise BadInput(f"its activation {name} is unknown; there are {', '.join(NAMES.values())}")
    defaults = PARAMETERS.get(known, ())
    values = [next(given, default) for given, default in zip((alphas, betas), defaults, strict=False)]
    if None in values:
        needed = " and ".join(("activation_alpha", "activation_beta")[: len(defaults)])
        raise BadInput(f"its activation {known} needs {needed}")
    return Activation(known, tuple(value for value in values if value is not None), clip)


def _initial(model: onnx.ModelProto, takes: dict[str, str], batch_first: bool) -> dict[str, Any]:
    """The initial states that the model stores, [directions, H] each; none if they are zero or come from elsewhere."""
    names = [name for name in ("initial_h", "initial_c") if name in takes]
    found = {name: onnx_file.stored(model, takes[name]) for name in names}
    values = {name: value for name, value in found.items() if value is not None}
    if not any(value.any() for value in values.values()):
        return {}
    if len(values) < len(found):
        raise BadInput(f"the model stores {', '.join(values)} alone, and another state comes from outside: store both")
    rows = {}
    for name, value in values.items():
        value = value.swapaxes(0, 1) if batch_first and value.ndim == 3 else value
        if value.ndim != 3 or not value.shape[1] or (value != value[:, :1]).any():
            raise BadInput(
                f"the model stores {name}, which differs between the rows of a batch: make it an input, and give it "
                "to the layer as its state"
            )
        rows["h" if name == "initial_h" else "C"] = value[:, 0]
    return rows
