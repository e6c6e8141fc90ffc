"""Run in a process of its own: Keras' layers with random weights, what they compute, and files of models of them.

    python tests/keras_layers.py FOLDER

In `FOLDER/layers.npz` the arrays of `EACH[name]` are "name/0", "name/1", ..., its input "name/x", its output "name/y".
The model is written as model.keras, model.weights.h5 and model.h5; its layers are "model/NAME" there.
"""

import os
import sys
import warnings
from pathlib import Path

KEYS = ("kind", "activation", "recurrent_activation", "reset_after")
EACH = {
    "lstm": {"kind": "lstm"},
    "lstm-unbiased": {"kind": "lstm", "use_bias": False},
    "lstm-both": {"kind": "lstm", "both": True},
    "lstm-both-unbiased": {"kind": "lstm", "both": True, "use_bias": False},
    "lstm-hard": {"kind": "lstm", "activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "gru": {"kind": "gru"},
    "gru-unbiased": {"kind": "gru", "use_bias": False, "reset_after": True},
    "gru-both": {"kind": "gru", "both": True},
    "gru-before": {"kind": "gru", "reset_after": False},
    "gru-before-unbiased": {"kind": "gru", "reset_after": False, "use_bias": False},
    "gru-before-both": {"kind": "gru", "reset_after": False, "both": True},
    "gru-relu": {"kind": "gru", "activation": "relu"},
    "gru-before-relu": {"kind": "gru", "reset_after": False, "activation": "relu"},
    "rnn": {"kind": "simple_rnn"},
    "rnn-unbiased": {"kind": "simple_rnn", "use_bias": False},
    "rnn-both-relu": {"kind": "simple_rnn", "both": True, "activation": "relu"},
}
NAMES = ("linear", "sigmoid", "tanh", "relu", "elu", "selu", "silu", "swish", "softplus", "softsign", "gelu")
NAMES += ("hard_sigmoid",)  # not exponential, which grows without bounds
EACH |= {f"rnn-{name}": {"kind": "simple_rnn", "activation": name} for name in NAMES}
WIDTH, HIDDEN, STEPS, ROWS = 3, 4, 5, 2


def write(folder):
    """All of it, by the backend torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    warnings.simplefilter("ignore")
    import keras
    import numpy as np
    from keras import layers

    random = np.random.default_rng(0)
    kinds = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}
    found = {}

    def keep(name, layer, x):
        x = np.asarray(x, np.float32)
        layer(x)
        layer.set_weights([0.4 * random.standard_normal(w.shape).astype(np.float32) for w in layer.get_weights()])
        y = keras.ops.convert_to_numpy(layer(x))
        found.update({f"{name}/{number}": array for number, array in enumerate(layer.get_weights())})
        found.update({f"{name}/x": x, f"{name}/y": y})
        return y

    for name, options in EACH.items():
        options = dict(options)
        kind, both = kinds[options.pop("kind")], options.pop("both", False)
        layer = kind(HIDDEN, return_sequences=True, **options)
        keep(name, layers.Bidirectional(layer) if both else layer, random.standard_normal((ROWS, STEPS, WIDTH)))

    model = keras.Sequential(
        [
            keras.Input((None, WIDTH)),
            layers.LSTM(HIDDEN, return_sequences=True, name="first", recurrent_activation="hard_sigmoid"),
            layers.Dense(HIDDEN, name="between"),
            layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True, reset_after=False), name="both"),
            layers.RNN(layers.SimpleRNNCell(HIDDEN, activation="relu"), return_sequences=True, name="cell"),
            layers.LSTM(HIDDEN, return_sequences=True, go_backwards=True, name="backwards"),
            layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), merge_mode="sum", name="summed"),
            layers.RNN([layers.GRUCell(HIDDEN), layers.GRUCell(HIDDEN)], return_sequences=True, name="stacked"),
        ]
    )
    x = random.standard_normal((ROWS, STEPS, WIDTH))
    for layer in model.layers:
        x = keep(f"model/{layer.name}", layer, x)
    for name in ("model.keras", "model.h5"):
        model.save(folder / name)
    model.save_weights(folder / "model.weights.h5")
    one = keras.Sequential([keras.Input((None, WIDTH)), layers.GRU(HIDDEN, return_sequences=True, name="only")])
    keep("one/only", one.layers[0], random.standard_normal((ROWS, STEPS, WIDTH)))
    one.save(folder / "one.keras")
    np.savez(folder / "layers.npz", **found)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
