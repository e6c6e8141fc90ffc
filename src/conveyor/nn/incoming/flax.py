"""`from_flax`: the layer that a recurrent cell of Flax is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest
from conveyor.layer import Recurrent
from conveyor.nn.incoming.activations import BY_NAME, HARD_SIGMOID_3, Activation
from conveyor.nn.incoming.building import Gates, Source, build, check_shape, check_types, tensor

# The maps of x and of h, each as a letter of theirs, in the order of nnx's tensors of all gates; and our maps.
GATES = {
    "lstm": {"i": "input", "f": "forget", "g": "candidate", "o": "output"},
    "gru": {"r": "reset", "z": "update", "n": "candidate"},
    "simple": {"": "hidden"},
}
NAMES = BY_NAME | {"hard_sigmoid": HARD_SIGMOID_3}
WRAPPERS = ("params", "cell")


def from_flax(
    tree: Any, kind: str, *, activation_fn: str = "tanh", gate_fn: str = "sigmoid", batch_first: bool = True
) -> Recurrent:
    """The layer that computes what a cell of Flax computes over a sequence, with a copy of its parameters.

        rnn = conveyor.from_flax(cell.init(key, carry, x)["params"], "lstm")
        rnn = conveyor.from_flax(flax.nnx.to_pure_dict(flax.nnx.state(cell)), "gru")
        output, (h, C) = rnn(x)                 # x: [B, T, I], output: [B, T, H], h and C: [1, B, H]

    Arguments:
        tree: nested dicts of arrays, those of `flax.linen` ("ii", "hi", ..., each with "kernel" and perhaps "bias"), or
            of `flax.nnx` ("if_" for "if", or "dense_i" and "dense_h" for all gates); also inside "params" or "cell".
        kind: "lstm" (LSTMCell, OptimizedLSTMCell), "gru" (GRUCell) or "simple" (SimpleCell with residual=False).
        activation_fn, gate_fn: the cell's, by their names in jax.nn; the tree does not have them.
        batch_first: whether the layer takes [B, T, I], as flax.linen.RNN does, or [T, B, I].

    Flax's carry (c, h) is the state (h, C) here. The layer is a `conveyor.LSTM`, `GRU` or `RNN`, or with other
    activations a `conveyor.Recurrent` of a cell that takes them. A GRU resets after the product, as Flax's does.

    Raises BadInput (a ValueError) that names what is missing, too much or of the wrong shape.

    Source: the cells of flax.linen and flax.nnx.
    """
    if not isinstance(kind, str) or kind not in GATES:
        raise BadInput(f"kind is {kind!r}: {suggest(str(kind), GATES)}")
    found = _maps(_inside(tree), kind)
    check_types({f"{name}.{key}": value for name, one in found.items() for key, value in one.items()})
    gates = _gates(kind, found)
    of_gates, of_candidate = _activation(gate_fn), _activation(activation_fn)
    ours = "rnn" if kind == "simple" else kind
    activations = {"lstm": (of_gates, of_candidate, of_candidate), "gru": (of_gates, of_candidate)}
    if kind == "simple" and gate_fn != "sigmoid":
        raise BadInput("a simple cell has no gates, and so no gate_fn")
    return build(Source(ours, [gates], [activations.get(kind, (of_candidate,))], batch_first=batch_first))


def _inside(tree: Any) -> Mapping[str, Any]:
    """The tree of the cell itself."""
    while isinstance(tree, Mapping) and len(tree) == 1 and next(iter(tree)) in WRAPPERS:
        (tree,) = tree.values()
    if not isinstance(tree, Mapping) or not all(isinstance(value, Mapping) for value in tree.values()):
        raise BadInput(f"the tree is a dict of dicts of arrays, the parameters of one cell of Flax, not {_shown(tree)}")
    return tree


def _maps(tree: Mapping[str, Any], kind: str) -> dict[str, dict[str, Tensor]]:
    """The kernels and biases by linen's names of their maps. Raises BadInput unless just these are there."""
    tree = {str(name).rstrip("_"): value for name, value in tree.items()}
    dense = {"dense_i", "dense_h"}
    whole = set(tree) == dense
    wanted = dense if whole else {side + letter for side in "ih" for letter in GATES[kind]}
    if set(tree) != wanted:
        raise BadInput(
            f"the parameters of a cell of kind {kind!r} are {', '.join(sorted(wanted))}, or dense_h, dense_i, but the "
            f"tree has {_shown(tree)}"
        )
    found = {}
    for name, leaves in tree.items():
        if "kernel" not in leaves or set(leaves) - {"kernel", "bias"}:
            raise BadInput(f"{name} has a kernel and perhaps a bias, but the tree has {_shown(leaves)}")
        found[name] = {key: tensor(leaf, f"{name}.{key}") for key, leaf in leaves.items()}
    return _apart(found, kind) if whole else found


def _apart(whole: dict[str, dict[str, Tensor]], kind: str) -> dict[str, dict[str, Tensor]]:
    """The maps of the gates, of nnx's of all gates."""
    letters, found = GATES[kind], {}
    for name, leaves in whole.items():
        for key, value in leaves.items():
            if not value.dim() or value.shape[-1] % len(letters):
                raise BadInput(f"{name}.{key} has shape {list(value.shape)}, which is not that of {len(letters)} gates")
        parts = {key: value.chunk(len(letters), -1) for key, value in leaves.items()}
        for number, letter in enumerate(letters):
            found[name[-1] + letter] = {key: blocks[number] for key, blocks in parts.items()}
    return found


def _gates(kind: str, maps: dict[str, dict[str, Tensor]]) -> Gates:
    first = next(iter(GATES[kind]))
    widths = {}
    for side in "ih":
        kernel = maps[side + first]["kernel"]
        if kernel.dim() != 2 or not kernel.numel():
            raise BadInput(
                f"the kernel of {side + first} must have two dimensions, but its shape is {list(kernel.shape)}"
            )
        widths[side] = kernel.shape[0]
    for name, leaves in maps.items():
        check_shape(leaves["kernel"], (widths[name[0]], widths["h"]), f"the kernel of {name}")
        if "bias" in leaves:
            check_shape(leaves["bias"], (widths["h"],), f"the bias of {name}")
    gates: Gates = {}
    for letter, name in GATES[kind].items():
        x, h = maps["i" + letter], maps["h" + letter]
        gates[name] = {"weight_x": x["kernel"].t().contiguous(), "weight_h": h["kernel"].t().contiguous()}
        biases = [one["bias"] for one in (x, h) if "bias" in one]
        if biases:
            gates[name]["bias"] = torch.stack(biases).sum(0)
    if kind == "gru":
        gates["recall"] = {"weight_h": gates["candidate"].pop("weight_h")}
        gates["candidate"].pop("bias", None)
        for name, side in (("candidate", "in"), ("recall", "hn")):
            if "bias" in maps[side]:
                gates[name]["bias"] = maps[side]["bias"]
    return gates


def _activation(name: str) -> Activation:
    if name not in NAMES:
        raise BadInput(f"the activation {name!r} has no equation here: {suggest(str(name), NAMES)}")
    return NAMES[name]


def _shown(tree: Any) -> str:
    return ", ".join(map(str, tree)) or "nothing" if isinstance(tree, Mapping) else type(tree).__name__
