"""`from_keras`: the layer that a recurrent layer of Keras is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest
from conveyor.layer import Recurrent
from conveyor.nn.incoming import keras_file
from conveyor.nn.incoming.activations import BY_NAME, HARD_SIGMOID_2, HARD_SIGMOID_3, Activation
from conveyor.nn.incoming.building import Gates, Source, build, check_shape, check_types, tensor


class Kind(NamedTuple):
    """A kind of layer: ours, and its blocks in Keras' order."""

    ours: str
    blocks: tuple[str, ...]


KINDS = {
    "lstm": Kind("lstm", ("input", "forget", "candidate", "output")),
    "gru": Kind("gru", ("update", "reset", "candidate")),
    "simple_rnn": Kind("rnn", ("hidden",)),
}
NAMES = BY_NAME | {
    "gelu": Activation("GELU"),
    "exponential": Activation("Exp"),
    "hard_sigmoid_2": HARD_SIGMOID_2,
    "hard_sigmoid_3": HARD_SIGMOID_3,
}


def from_keras(
    weights: Any,
    kind: str,
    layer: str | None = None,
    *,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    reset_after: bool | None = None,
    batch_first: bool = True,
) -> Recurrent:
    """The layer that computes what a recurrent layer of Keras computes, with a copy of its weights.

        rnn = conveyor.from_keras(model.get_layer("encoder").get_weights(), "lstm")
        rnn = conveyor.from_keras("model.keras", "lstm", layer="encoder")
        output, (h, C) = rnn(x)                 # x: [B, T, I], output: [B, T, H], h and C: [1, B, H]

    Arguments:
        weights: what the layer's `get_weights()` gives: kernel [I, gates * H], recurrent kernel [H, gates * H] and,
            unless use_bias=False, the bias; of a Bidirectional first those forward, then those backward. Or the path of
            a `.keras`, `.weights.h5` or `.h5` file.
        kind: "lstm", "gru" or "simple_rnn". The layers CuDNNLSTM and CuDNNGRU of older versions are known by the
            length of their bias, 8 H and 6 H; their kernels lie in another order.
        layer: the name of the layer in a file of several.
        activation, recurrent_activation: by Keras' names; by default those in the file, else tanh and sigmoid. The
            hard_sigmoid is 0.2 x + 0.5 up to Keras 2 and x / 6 + 0.5 in Keras 3: arrays do not tell which, so name it
            hard_sigmoid_2 or hard_sigmoid_3.
        reset_after: of a GRU without bias, as Keras has it; the shape of a bias tells by itself.
        batch_first: whether the layer takes [B, T, I], as Keras does, or [T, B, I].

    The layer is a `conveyor.LSTM`, `GRU` or `RNN` where the equations are theirs, else a `conveyor.Recurrent`: of
    `zoo.ResetBeforeGRU` for reset_after=False, or of a cell that takes its activations. It returns all outputs and the
    last state, whatever Keras' layer was made to return, and the outputs of two directions one after the other
    (merge_mode="concat"). Dropout and regularisation are not taken over, which Keras has in training only.

    Raises BadInput (a ValueError) that names what does not fit: shapes, the layers of a file, activations, settings
    without our equations, files that are none of Keras'.

    Source: the layers LSTM, GRU, SimpleRNN and Bidirectional of Keras 2 and 3.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadInput(f"kind is {kind!r}: {suggest(str(kind), KINDS)}")
    settings: dict[str, Any] = {}
    if isinstance(weights, str | os.PathLike):
        weights, settings = keras_file.read(weights, kind, layer)
    elif layer is not None:
        raise BadInput(f"layer={layer!r} names a layer of a file, but the weights are not the path of one")
    given = {"activation": activation, "recurrent_activation": recurrent_activation, "reset_after": reset_after}
    for name, value in given.items():
        if value is not None and settings.setdefault(name, value) != value:
            raise BadInput(f"{name} is {settings[name]!r} in the file, and not {value!r}: leave it out")
    return _build(kind, _arrays(weights), settings, batch_first)


def _build(kind: str, arrays: list[Tensor], settings: dict[str, Any], batch_first: bool) -> Recurrent:
    count = len(arrays) // 2 if len(arrays) in (4, 6) else len(arrays)
    if count not in (2, 3):
        raise BadInput(
            f"the weights are kernel, recurrent kernel and bias, or the first two, once or for two directions, but "
            f"there are {len(arrays)} arrays of shapes {_shapes(arrays)}"
        )
    directions = [arrays[:count], *([arrays[count:]] if count < len(arrays) else [])]
    check_types({f"array {number}": array for number, array in enumerate(arrays)})
    by_bias = {_check(kind, each) for each in directions}
    for number, (one, other) in enumerate(zip(arrays, arrays[count:], strict=False)):
        check_shape(other, one.shape, f"array {count + number}, of the backward direction")
    forms = (by_bias | {settings.get("reset_after")}) - {None}
    if kind == "gru" and len(forms) != 1:
        raise BadInput(
            "reset_after must be given, True or False, for a GRU without bias"
            if not forms
            else f"reset_after={settings['reset_after']} does not fit the bias, whose shape is {_shapes(arrays[2:3])}"
        )
    if kind != "gru" and settings.get("reset_after") is not None:
        raise BadInput(f"reset_after is of a GRU, not of kind {kind!r}")
    gates = [_gates(KINDS[kind], *each) for each in directions]
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid"} | settings
    of_candidate = _activation(usual["activation"], settings.get("version"))
    of_gates = _activation(usual["recurrent_activation"], settings.get("version"))
    activations = {"lstm": (of_gates, of_candidate, of_candidate), "gru": (of_gates, of_candidate)}
    if kind == "simple_rnn" and usual["recurrent_activation"] != "sigmoid":
        raise BadInput("a simple_rnn has no gates, and so no recurrent_activation")
    each = activations.get(kind, (of_candidate,))
    before = forms == {False}
    return build(Source(KINDS[kind].ours, gates, [each] * len(gates), reset_before=before, batch_first=batch_first))


def _arrays(weights: Any) -> list[Tensor]:
    if not isinstance(weights, Sequence) or isinstance(weights, bytes):
        raise BadInput(f"the weights are a list of arrays or the path of a file, not {type(weights).__name__}")
    return [tensor(array, f"array {number}") for number, array in enumerate(weights)]


def _check(kind: str, arrays: list[Tensor]) -> bool | None:
    """Whether a GRU resets after the product, as far as the bias tells. Raises BadInput for shapes of no such layer."""
    kernel, recurrent, *bias = arrays
    gates = len(KINDS[kind].blocks)
    hidden = recurrent.shape[0] if recurrent.dim() else 0
    width = kernel.shape[0] if kernel.dim() else 0
    if not hidden or not width:
        raise BadInput(f"kernel and recurrent kernel have two dimensions, not {_shapes(arrays[:2])}")
    check_shape(recurrent, (hidden, gates * hidden), f"the recurrent kernel of kind {kind!r}")
    check_shape(kernel, (width, gates * hidden), f"the kernel of kind {kind!r}")
    one = [gates * hidden]
    allowed = {"lstm": [one, [8 * hidden]], "gru": [one, [2, *one], [6 * hidden]], "simple_rnn": [one]}[kind]
    if bias and list(bias[0].shape) not in allowed:
        raise BadInput(
            f"the bias of kind {kind!r} must have shape {' or '.join(map(str, allowed))}, but has {_shapes(bias)}"
        )
    return None if not bias or kind != "gru" else list(bias[0].shape) != one


def _gates(kind: Kind, kernel: Tensor, recurrent: Tensor, bias: Tensor | None = None) -> Gates:
    count, (width, _), hidden = len(kind.blocks), kernel.shape, recurrent.shape[0]
    of_x, of_h = kernel.chunk(count, 1), recurrent.chunk(count, 1)
    if bias is not None and bias.shape == (2 * count * hidden,):
        # CuDNN's own layout: what is read row by row as [I, H] is [H, I], and the recurrent blocks are transposed
        of_x = tuple(block.reshape(hidden, width).t() for block in of_x)
        of_h = tuple(block.t() for block in of_h)
        bias = bias.reshape(2, -1)
    gates: Gates = {
        name: {"weight_x": x.t().contiguous(), "weight_h": h.t().contiguous()}
        for name, x, h in zip(kind.blocks, of_x, of_h, strict=True)
    }
    biases = torch.zeros(0) if bias is None else bias.reshape(-1, count, hidden)  # [1 or 2, gates, H]
    if bias is not None:
        for name, value in zip(kind.blocks, biases.sum(0), strict=True):
            gates[name]["bias"] = value
    if kind.ours == "gru":
        gates["recall"] = {"weight_h": gates["candidate"].pop("weight_h")}
        if len(biases) == 2:
            gates["candidate"]["bias"], gates["recall"]["bias"] = biases[0, -1], biases[1, -1]
    return gates


def _activation(name: Any, version: int | None) -> Activation:
    if name == "hard_sigmoid":
        if version is None:
            raise BadInput("hard_sigmoid is two functions: name hard_sigmoid_2 (up to Keras 2) or hard_sigmoid_3")
        return HARD_SIGMOID_3 if version >= 3 else HARD_SIGMOID_2
    if not isinstance(name, str) or name not in NAMES:
        raise BadInput(f"the activation {name!r} has no equation here: {suggest(str(name), NAMES)}")
    return NAMES[name]


def _shapes(arrays: Sequence[Tensor]) -> str:
    return ", ".join(str(list(array.shape)) for array in arrays)
