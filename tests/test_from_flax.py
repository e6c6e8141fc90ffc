"""`conveyor.from_flax` computes what Flax's cells compute, by their equations in NumPy."""

import numpy as np
import pytest
import torch

import conveyor
from conveyor.errors import BadInput
from tolerance import assert_equal

INPUT, H, T, B = 3, 4, 5, 2
CELLS = {"lstm": conveyor.LSTM, "gru": conveyor.GRU, "simple": conveyor.RNN}
LETTERS = {"lstm": "ifgo", "gru": "rzn", "simple": ("",)}
BIASED = {"lstm": {"hi", "hf", "hg", "ho"}, "gru": {"ir", "iz", "in", "hn"}, "simple": {"i"}}


def tree(kind):
    """The parameters of a cell of flax.linen."""
    random = np.random.default_rng(0)
    found = {}
    for side, width in (("i", INPUT), ("h", H)):
        for name in [side + letter for letter in LETTERS[kind]]:
            found[name] = {"kernel": 0.5 * random.standard_normal((width, H))}
            found[name] |= {"bias": random.standard_normal(H)} if name in BIASED[kind] else {}
    return found


def together(kind, whole):
    """The same parameters as flax.nnx has them in cells of one product for all gates; its GRU lacks the bias of hn."""
    found = {}
    for side in "ih":
        maps = [whole[side + letter] for letter in LETTERS[kind]]
        found[f"dense_{side}"] = {"kernel": np.concatenate([one["kernel"] for one in maps], 1)}
        if all("bias" in one for one in maps):
            found[f"dense_{side}"]["bias"] = np.concatenate([one["bias"] for one in maps])
    return found


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def oracle(kind, tree, x, activation=np.tanh, gate=sigmoid):
    """x [B, T, I], the result [B, T, H]."""

    def dense(name, value):
        return value @ tree[name]["kernel"] + tree[name].get("bias", 0)

    h, c, result = np.zeros((len(x), H)), np.zeros((len(x), H)), []
    for t in range(x.shape[1]):
        v = x[:, t]
        if kind == "simple":
            h = activation(dense("i", v) + dense("h", h))
        elif kind == "gru":
            r, z = (gate(dense("i" + one, v) + dense("h" + one, h)) for one in "rz")
            n = activation(dense("in", v) + r * dense("hn", h))
            h = (1 - z) * n + z * h
        else:
            i, f, o = (gate(dense("i" + one, v) + dense("h" + one, h)) for one in "ifo")
            c = f * c + i * activation(dense("ig", v) + dense("hg", h))
            h = o * activation(c)
        result.append(h)
    return np.stack(result, 1)


def assert_computes(layer, kind, whole, **functions):
    x = np.random.default_rng(1).standard_normal((B, T, INPUT))
    assert_equal(layer(torch.tensor(x))[0].detach(), torch.tensor(oracle(kind, whole, x, **functions)))


@pytest.mark.parametrize("kind", CELLS)
def test_a_tree_of_linen_or_nnx_is_the_cell(kind):
    whole = tree(kind)
    for given in (
        whole,
        {"params": whole},
        {"params": {"cell": whole}},
        {f"{n}_" if n == "if" else n: v for n, v in whole.items()},
    ):
        layer = conveyor.from_flax(given, kind)
        assert type(layer) is CELLS[kind]
        assert_computes(layer, kind, whole)


@pytest.mark.parametrize("kind", CELLS)
def test_a_tree_of_all_gates_together_is_the_cell(kind):
    whole = tree(kind)
    if kind == "gru":
        del whole["hn"]["bias"]
    assert_computes(conveyor.from_flax(together(kind, whole), kind), kind, whole)


@pytest.mark.parametrize("kind", CELLS)
def test_other_activations(kind):
    whole = tree(kind)
    options = {"gate_fn": "hard_sigmoid"} if kind != "simple" else {}
    layer = conveyor.from_flax(whole, kind, activation_fn="softsign", **options)
    gate = sigmoid if kind == "simple" else lambda a: np.clip(a / 6 + 0.5, 0, 1)
    assert_computes(layer, kind, whole, activation=lambda a: a / (1 + np.abs(a)), gate=gate)


WHOLE = tree("lstm")
BAD = {
    "a kind": (WHOLE, "mgu", {}, "kind is 'mgu': did you mean gru"),
    "another kind": (WHOLE, "gru", {}, "parameters of a cell of kind 'gru' are hn, hr, hz, in, ir, iz, or"),
    "no tree": (3, "lstm", {}, "a dict of dicts of arrays, .* not int"),
    "a map too few": ({n: v for n, v in WHOLE.items() if n != "ho"}, "lstm", {}, "of kind 'lstm' are hf, hg, hi, ho"),
    "no kernel": (WHOLE | {"ii": {"scale": np.ones(3)}}, "lstm", {}, "ii has a kernel .*, but the tree has scale"),
    "another shape": (
        WHOLE | {"hf": {"kernel": np.ones((H, 5))}},
        "lstm",
        {},
        r"kernel of hf must have shape \[4, 4\]",
    ),
    "a bias of another": (
        WHOLE | {"hf": {"kernel": np.ones((H, H)), "bias": np.ones(5)}},
        "lstm",
        {},
        r"the bias of hf must have shape \[4\], but has \[5\]",
    ),
    "a vector": (WHOLE | {"ii": {"kernel": np.ones(3)}}, "lstm", {}, "kernel of ii must have two dimensions"),
    "whole numbers": (
        WHOLE | {"ii": {"kernel": np.ones((3, 4), int)}},
        "lstm",
        {},
        "ii.kernel must be an array of real",
    ),
    "a kind that is a list": (WHOLE, ["lstm"], {}, r"kind is \['lstm'\]"),
    "an activation": (WHOLE, "lstm", {"activation_fn": "sine"}, "the activation 'sine' has no equation here"),
    "a gate": (tree("simple"), "simple", {"gate_fn": "relu"}, "has no gates, and so no gate_fn"),
    "no gates' widths": (
        {"dense_i": {"kernel": np.ones((3, 17))}, "dense_h": {"kernel": np.ones((4, 16))}},
        "lstm",
        {},
        "is not that of 4 gates",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_trees_are_refused(case):
    given, kind, options, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        conveyor.from_flax(given, kind, **options)
