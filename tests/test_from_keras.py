"""`conveyor.from_keras` computes what Keras' layers do: their equations in NumPy, Keras itself, its files."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import conveyor
from conveyor import zoo
from conveyor.errors import BadInput
from keras_layers import EACH, HIDDEN, KEYS, ROWS, STEPS, WIDTH
from tiers import slow
from tolerance import assert_equal

GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}
FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "hard_sigmoid_2": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    "hard_sigmoid_3": lambda a: np.clip(a / 6 + 0.5, 0, 1),
}


def arrays(kind, bias=(), seed=0, dtype=np.float64):
    """Kernel, recurrent kernel, and a bias of the shape, if any."""
    random, wide = np.random.default_rng(seed), GATES[kind] * HIDDEN
    shapes = [(WIDTH, wide), (HIDDEN, wide), *([bias] if bias else [])]
    return [(0.5 * random.standard_normal(shape)).astype(dtype) for shape in shapes]


def oracle(kind, x, kernel, recurrent, bias=None, activation="tanh", recurrent_activation="sigmoid", reset_after=None):
    """A layer of Keras as its documentation has it: x [B, T, I], the result [B, T, H]."""
    f, g, H = FUNCTIONS[activation], FUNCTIONS[recurrent_activation], HIDDEN
    bias = np.zeros(GATES[kind] * H) if bias is None else bias
    h, c, result = np.zeros((len(x), H)), np.zeros((len(x), H)), []
    for t in range(x.shape[1]):
        if kind == "simple_rnn":
            h = f(x[:, t] @ kernel + bias + h @ recurrent)
        elif kind == "lstm":
            i, forget, candidate, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            c = g(forget) * c + g(i) * f(candidate)
            h = g(o) * f(c)
        elif reset_after:
            of_x, of_h = bias if bias.ndim == 2 else (bias, 0 * bias)
            xz, xr, xh = np.split(x[:, t] @ kernel + of_x, 3, axis=1)
            hz, hr, hh = np.split(h @ recurrent + of_h, 3, axis=1)
            z, r = g(xz + hz), g(xr + hr)
            h = z * h + (1 - z) * f(xh + r * hh)
        else:
            xz, xr, xh = np.split(x[:, t] @ kernel + bias, 3, axis=1)
            Uz, Ur, Uh = np.split(recurrent, 3, axis=1)
            z, r = g(xz + h @ Uz), g(xr + h @ Ur)
            h = z * h + (1 - z) * f(xh + (r * h) @ Uh)
        result.append(h)
    return np.stack(result, 1)


def both_ways(kind, x, weights, **options):
    half = len(weights) // 2
    forward = oracle(kind, x, *weights[:half], **options)
    return np.concatenate([forward, oracle(kind, x[:, ::-1], *weights[half:], **options)[:, ::-1]], axis=-1)


def assert_computes(layer, x, wanted):
    with torch.no_grad():
        assert_equal(layer(torch.tensor(x))[0], torch.tensor(wanted), "output")


H = HIDDEN
# kind, the bias' shape, options, and the class of the layer or cell.
FORMS = [
    ("lstm", (4 * H,), {}, conveyor.LSTM),
    ("lstm", (), {}, conveyor.LSTM),
    ("lstm", (4 * H,), {"recurrent_activation": "hard_sigmoid_2"}, None),
    ("lstm", (4 * H,), {"activation": "relu", "recurrent_activation": "hard_sigmoid_3"}, None),
    ("gru", (2, 3 * H), {"reset_after": True}, conveyor.GRU),
    ("gru", (), {"reset_after": True}, conveyor.GRU),
    ("gru", (3 * H,), {"reset_after": False}, zoo.ResetBeforeGRU),
    ("gru", (), {"reset_after": False}, zoo.ResetBeforeGRU),
    ("gru", (2, 3 * H), {"activation": "relu", "reset_after": True}, None),
    ("gru", (3 * H,), {"recurrent_activation": "hard_sigmoid_2", "reset_after": False}, None),
    ("simple_rnn", (H,), {}, conveyor.RNN),
    ("simple_rnn", (), {"activation": "relu"}, conveyor.RNN),
    ("simple_rnn", (H,), {"activation": "sigmoid"}, None),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("kind", "bias", "options", "made"), FORMS)
def test_arrays_are_the_layer_of_keras_equations(kind, bias, options, made, dtype):
    weights, x = arrays(kind, bias, dtype=dtype), np.random.default_rng(9).standard_normal((ROWS, STEPS, WIDTH))
    layer = conveyor.from_keras(weights, kind, **options)
    assert made is None or made.__name__ in (type(layer).__name__, type(layer.cell).__name__)
    wide = [value.astype(np.float64) for value in weights]
    x = x.astype(dtype)
    assert_computes(layer, x, oracle(kind, x.astype(np.float64), *wide, **options).astype(dtype))
    weights += arrays(kind, bias, seed=1, dtype=dtype)
    wide = [value.astype(np.float64) for value in weights]
    wanted = both_ways(kind, x.astype(np.float64), wide, **options).astype(dtype)
    assert_computes(conveyor.from_keras(weights, kind, **options), x, wanted)


@pytest.mark.parametrize(("kind", "count"), [("lstm", 8), ("gru", 6)])
def test_cudnns_layers(kind, count):
    """CuDNN has W [H, I] and R [H, H] for each gate; the layer holds that memory as [I, H], and R as it is."""
    random = np.random.default_rng(0)
    gates = GATES[kind]
    W, R = random.standard_normal((gates, H, WIDTH)), random.standard_normal((gates, H, H))
    b = random.standard_normal((2, gates, H))
    stored = [np.hstack([w.reshape(WIDTH, H) for w in W]), np.hstack(list(R)), b.reshape(count * H)]
    kernel, recurrent = np.hstack([w.T for w in W]), np.hstack([r.T for r in R])
    bias = b.sum(0).reshape(-1) if kind == "lstm" else b.reshape(2, -1)
    x = random.standard_normal((ROWS, STEPS, WIDTH))
    wanted = oracle(kind, x, kernel, recurrent, bias, reset_after=True)
    assert_computes(conveyor.from_keras(stored, kind), x, wanted)


def test_the_input_is_batch_first_as_in_keras_unless_asked():
    weights = arrays("lstm", (4 * H,))
    x = torch.randn(ROWS, STEPS, WIDTH, dtype=torch.float64)
    output, (h, C) = conveyor.from_keras(weights, "lstm")(x)
    assert (output.shape, h.shape, C.shape) == ((ROWS, STEPS, H), (1, ROWS, H), (1, ROWS, H))
    other, _ = conveyor.from_keras(weights, "lstm", batch_first=False)(x.transpose(0, 1))
    assert_equal(other.transpose(0, 1), output)


def test_the_arrays_may_be_changed_afterwards():
    weights = arrays("simple_rnn", (H,))
    layer = conveyor.from_keras(weights, "simple_rnn")
    before = layer.weight_hh_l0.clone()
    weights[1][:] = 0
    assert torch.equal(layer.weight_hh_l0, before)


# ---- files as older versions wrote them


def older_file(path, version="2.4.0", activation="hard_sigmoid", config=True, layer_class="LSTM", **settings):
    """A model of one LSTM, as Keras 2 wrote it: text in bytes, names that end with :0. Returns its arrays."""
    weights = arrays("lstm", (4 * H,))
    names = [b"encoder/lstm_cell/kernel:0", b"encoder/lstm_cell/recurrent_kernel:0", b"encoder/lstm_cell/bias:0"]
    of_layer = {"name": "encoder", "activation": "tanh", "recurrent_activation": activation, **settings}
    layers = [{"class_name": "InputLayer", "config": {"name": "in"}}, {"class_name": layer_class, "config": of_layer}]
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if config else file
        group.attrs["layer_names"] = [b"in", b"encoder"]
        group.create_group("in").attrs["weight_names"] = []
        group.create_group("encoder").attrs["weight_names"] = names
        for name, value in zip(names, weights, strict=True):
            group["encoder"].create_dataset(name.decode(), data=value)
        if config:
            whole = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
            file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(whole), version.encode()
    return weights


@pytest.mark.parametrize(("version", "name"), [("2.4.0", "hard_sigmoid_2"), ("3.1.0", "hard_sigmoid_3")])
def test_the_hard_sigmoid_is_that_of_the_files_version(tmp_path, version, name):
    weights = older_file(tmp_path / "model.h5", version)
    x = np.random.default_rng(9).standard_normal((ROWS, STEPS, WIDTH))
    wanted = oracle("lstm", x, *weights, recurrent_activation=name)
    assert_computes(conveyor.from_keras(tmp_path / "model.h5", "lstm"), x, wanted)


def test_a_file_without_settings_takes_them_from_the_caller(tmp_path):
    weights = older_file(tmp_path / "weights.h5", config=False)
    x = np.random.default_rng(9).standard_normal((ROWS, STEPS, WIDTH))
    assert_computes(conveyor.from_keras(tmp_path / "weights.h5", "lstm"), x, oracle("lstm", x, *weights))
    layer = conveyor.from_keras(str(tmp_path / "weights.h5"), "lstm", activation="relu")
    assert_computes(layer, x, oracle("lstm", x, *weights, activation="relu"))


SETTINGS = {
    "go_backwards": ({"go_backwards": True}, "go_backwards=True: .* give the layer x.flip"),
    "another activation": ({"activation": "my_own"}, "the activation 'my_own' has no equation here"),
    "a class of its own": ({"layer_class": "ConvLSTM2D"}, "encoder is a layer ConvLSTM2D of Keras, and kind is 'lstm'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_without_our_equations_are_refused(tmp_path, case):
    settings, message = SETTINGS[case]
    older_file(tmp_path / "model.h5", **settings)
    with pytest.raises(BadInput, match=message):
        conveyor.from_keras(tmp_path / "model.h5", "lstm")


def test_a_setting_that_contradicts_the_file_is_refused(tmp_path):
    older_file(tmp_path / "model.h5", activation="sigmoid")
    with pytest.raises(BadInput, match="recurrent_activation is 'sigmoid' in the file, and not 'tanh': leave it out"):
        conveyor.from_keras(tmp_path / "model.h5", "lstm", recurrent_activation="tanh")


def test_bad_files(tmp_path):
    older_file(tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    zipped = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no file of Keras\n", zipped, zipped[:-4]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"model\.keras is no file of Keras, or only a part of one"):
            conveyor.from_keras(path, "lstm")
    with h5py.File(path, "w") as file:
        file["something"] = np.zeros(3)
    with pytest.raises(BadInput, match=r"model\.keras has no recurrent layer of Keras"):
        conveyor.from_keras(path, "lstm")
    with pytest.raises(BadInput, match=r"other\.h5: no such file"):
        conveyor.from_keras(tmp_path / "other.h5", "lstm")
    with pytest.raises(BadInput, match=r"has 1 recurrent layers, and none of the name 'decoder': .* of encoder"):
        conveyor.from_keras(tmp_path / "whole.h5", "lstm", layer="decoder")


def zipped_file(path, config, metadata):
    """A .keras file of one LSTM with these texts as its settings."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        for number, value in enumerate(arrays("lstm", (4 * H,))):
            group.create_dataset(str(number), data=value)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {"config.json": config, "metadata.json": metadata}.items():
            archive.writestr(name, text)
        archive.writestr("model.weights.h5", content.getvalue())


NEW = '{"keras_version": "3.1.0"}'
PART, NONE = "is no file of Keras, or only a part of one", "are none of Keras'"
FOREIGN = {
    "a list of settings": ("[]", NEW, PART),
    "no settings": ("null", NEW, PART),
    "layers that are no list": ('{"config": {"layers": null}}', NEW, NONE),
    "a layer without settings": (
        '{"config": {"layers": [{"class_name": "LSTM", "config": null}]}}',
        NEW,
        "are none of",
    ),
    "a layer of nothing": ('{"config": {"layers": [null]}}', NEW, NONE),
    "a layer without a class": ('{"config": {"layers": [{"config": {"name": "layers/lstm"}}]}}', NEW, NONE),
    "another layer": (
        '{"config": {"layers": [{"class_name": "LSTM", "config": {}}]}}',
        NEW,
        "have 0 layers of the name",
    ),
    "no metadata": ("{}", "null", PART),
    "no version": ("{}", '{"keras_version": null}', PART),
    "a version in words": ("{}", '{"keras_version": "new"}', PART),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_settings_are_told(tmp_path, case):
    config, metadata, message = FOREIGN[case]
    zipped_file(tmp_path / "model.keras", config, metadata)
    with pytest.raises(BadInput, match=rf"model\.keras.*{message}"):
        conveyor.from_keras(tmp_path / "model.keras", "lstm")


def test_without_h5py_the_cure_is_named(monkeypatch, tmp_path):
    older_file(tmp_path / "whole.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BadInput, match=r"pip install 'conveyor\[keras\]'"):
        conveyor.from_keras(tmp_path / "whole.h5", "lstm")


TWO_FORMS = [*arrays("gru", (2, 3 * H)), *arrays("gru", (3 * H,))]
LSTM, BIASED = arrays("lstm"), arrays("lstm", (4 * H,))
BAD = {
    "another kind": (LSTM, "lstm2", {}, "kind is 'lstm2': did you mean lstm"),
    "a kind that is a list": (LSTM, ["lstm"], {}, r"kind is \['lstm'\]"),
    "biases of two forms": (TWO_FORMS, "gru", {}, r"array 5, of the backward direction must have shape \[2, 12\]"),
    "directions of two widths": (
        [*LSTM, LSTM[0][:2], LSTM[1]],
        "lstm",
        {},
        r"array 2, of the backward direction must have shape \[3, 16\], but has \[2, 16\]",
    ),
    "weights of another kind": (
        arrays("gru", (2, 3 * H)),
        "lstm",
        {},
        r"recurrent kernel of kind 'lstm' must have shape",
    ),
    "no list": (3, "lstm", {}, "a list of arrays or the path of a file, not int"),
    "bytes": (b"model", "lstm", {}, "not bytes"),
    "one array": (LSTM[:1], "lstm", {}, r"but there are 1 arrays of shapes \[3, 16\]"),
    "five arrays": ([*LSTM, *BIASED], "lstm", {}, "there are 5 arrays"),
    "a bias of one gate": ([*LSTM, np.zeros(H)], "lstm", {}, r"must have shape \[16\] or \[32\], but has \[4\]"),
    "kernels that are swapped": (LSTM[::-1], "lstm", {}, r"must have shape \[3, 12\], but has \[3, 16\]"),
    "a vector": ([np.zeros(16), LSTM[1]], "lstm", {}, r"the kernel of kind 'lstm' must have shape"),
    "nothing": ([np.zeros((0, 16)), LSTM[1]], "lstm", {}, "have two dimensions"),
    "whole numbers": ([w.astype(int) for w in LSTM], "lstm", {}, "array 0 must be an array of real numbers"),
    "two types": ([LSTM[0], LSTM[1].astype(np.float32)], "lstm", {}, "must be of one type, but array 0 is"),
    "a GRU that may be either": (arrays("gru"), "gru", {}, "reset_after must be given, True or False"),
    "a GRU that is not so": (arrays("gru", (3 * H,)), "gru", {"reset_after": True}, "does not fit the bias"),
    "reset_after of an LSTM": (LSTM, "lstm", {"reset_after": True}, "reset_after is of a GRU, not of kind 'lstm'"),
    "a hard sigmoid": (LSTM, "lstm", {"recurrent_activation": "hard_sigmoid"}, "is two functions: name hard_sigmoid_2"),
    "an activation": (LSTM, "lstm", {"activation": "tanhh"}, "'tanhh' has no equation here: did you mean tanh"),
    "gates of a plain network": (
        arrays("simple_rnn"),
        "simple_rnn",
        {"recurrent_activation": "relu"},
        "a simple_rnn has no gates",
    ),
    "a layer of arrays": (LSTM, "lstm", {"layer": "encoder"}, "names a layer of a file, but the weights are not"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(case):
    weights, kind, options, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        conveyor.from_keras(weights, kind, **options)


# ---- Keras itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    script = Path(__file__).with_name("keras_layers.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def of_keras(folder, name):
    with np.load(folder / "layers.npz") as found:
        weights = [found[f"{name}/{number}"] for number in range(sum(key.startswith(f"{name}/") for key in found) - 2)]
        return weights, found[f"{name}/x"], found[f"{name}/y"]


@slow
@pytest.mark.parametrize("name", EACH)
def test_arrays_of_keras_itself(folder, name):
    weights, x, y = of_keras(folder, name)
    options = {key: EACH[name][key] for key in KEYS if key in EACH[name]}
    options = {key: "hard_sigmoid_3" if value == "hard_sigmoid" else value for key, value in options.items()}
    assert_computes(conveyor.from_keras(weights, **options), x, y)


FILES = ("model.keras", "model.weights.h5", "model.h5")


@slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("layer", "kind"), [("first", "lstm"), ("both", "gru"), ("cell", "simple_rnn")])
def test_files_of_keras_itself(folder, file, layer, kind):
    _, x, y = of_keras(folder, f"model/{layer}")
    further = {"first": {"recurrent_activation": "hard_sigmoid_3"}, "cell": {"activation": "relu"}}
    options = further.get(layer, {}) if file == "model.weights.h5" else {}
    assert_computes(conveyor.from_keras(folder / file, kind, layer, **options), x, y)


@slow
def test_the_only_layer_of_a_file_needs_no_name(folder):
    _, x, y = of_keras(folder, "one/only")
    assert_computes(conveyor.from_keras(folder / "one.keras", "gru"), x, y)


@slow
@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_layers_of_keras_itself_that_are_refused(folder, file):
    for layer, message in {
        "backwards": "go_backwards=True",
        "summed": "merge_mode='sum', and ours is 'concat'",
        "stacked": "recurrent layers, and none of the name 'stacked'",
        "first": "first is a layer LSTM of Keras, and kind is 'gru'",
        "between": "recurrent layers, and none of the name 'between'",
        None: "has 5 recurrent layers: give one as layer=, of ",
    }.items():
        with pytest.raises(BadInput, match=message):
            conveyor.from_keras(folder / file, "gru" if layer == "first" else "lstm", layer)
