"""Keras' files: the arrays of one layer, and its settings where the file has them.

A `.keras` file is a ZIP archive with the settings, `config.json`, and the arrays, `model.weights.h5`. There and in a
`.weights.h5` file a group for each layer holds the groups `cell/vars`, or two of them below `forward_layer` and
`backward_layer`. In an `.h5` file, the older form, a layer's group lists its arrays in `weight_names`, and the file's
attribute `model_config` has the settings.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conveyor.errors import BadInput

if TYPE_CHECKING:
    import h5py

Arrays = list[np.ndarray]
KINDS = {
    "LSTM": "lstm",
    "CuDNNLSTM": "lstm",
    "LSTMCell": "lstm",
    "GRU": "gru",
    "CuDNNGRU": "gru",
    "GRUCell": "gru",
    "SimpleRNN": "simple_rnn",
    "SimpleRNNCell": "simple_rnn",
}


def read(path: str | os.PathLike[str], kind: str, name: str | None) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a layer and its settings: activation, recurrent_activation, reset_after, and Keras' version.

    Raises BadInput for a file that is none of Keras' or lacks such a layer, and for settings without our equations.
    """
    place = Path(path)
    if not place.is_file():
        raise BadInput(f"{place}: no such file")
    try:
        layers, config, version = _zip(place) if zipfile.is_zipfile(place) else _h5(place.read_bytes())
    except BadInput:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{place} is no file of Keras, or only a part of one: {error}") from error
    if not layers:
        raise BadInput(f"{place} has no recurrent layer of Keras")
    if (name is None and len(layers) > 1) or (name is not None and name not in layers):
        asked = "" if name is None else f", and none of the name {name!r}"
        raise BadInput(f"{place} has {len(layers)} recurrent layers{asked}: give one as layer=, of {', '.join(layers)}")
    chosen = next(iter(layers)) if name is None else name
    if config is None:
        return layers[chosen], {}
    try:
        found = [layer for layer in _layers(config) if layer["config"].get("name") == chosen]
        settings = [_settings(layer, chosen, kind) for layer in found[:1]]
    except BadInput:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the settings in {place} are none of Keras' ({error}): hand over the arrays") from error
    if len(found) != 1:
        raise BadInput(f"the settings in {place} have {len(found)} layers of the name {chosen}: hand over its arrays")
    return layers[chosen], settings[0] | {"version": version}


def _zip(path: Path) -> tuple[dict[str, Arrays], Any, int]:
    with zipfile.ZipFile(path) as archive:
        config, metadata = (_object(archive.read(name)) for name in ("config.json", "metadata.json"))
        layers, _, _ = _h5(archive.read("model.weights.h5"))
    return layers, config, _version(metadata["keras_version"])


def _h5(content: bytes) -> tuple[dict[str, Arrays], Any, int | None]:
    """The recurrent layers' arrays by name, and settings and Keras' version, if there are any."""
    try:
        import h5py
    except ImportError as error:
        raise BadInput("to read a file of Keras, install h5py: pip install 'conveyor[keras]'") from error
    with h5py.File(io.BytesIO(content), "r") as file:
        whole = file.get("model_weights", file)
        if "layer_names" not in whole.attrs:
            found: dict[str, Arrays] = {}
            for name, path, arrays in _groups(file):
                found[path if name in found else name] = arrays
            return found, None, None
        names = [_text(name) for name in whole.attrs["layer_names"]]
        layers = {name: _listed(whole[name]) for name in names if _is_recurrent(whole[name])}
        if "model_config" not in file.attrs:
            return layers, None, None
        return layers, _object(file.attrs["model_config"]), _version(_text(file.attrs["keras_version"]))


def _groups(group: h5py.Group) -> Iterator[tuple[str, str, Arrays]]:
    """The recurrent layers in a group and the groups in it: the names that they were given, paths, and arrays."""
    places = [part for part in ("cell", "forward_layer/cell", "backward_layer/cell") if f"{part}/vars" in group]
    if any(len(group[f"{part}/vars"]) for part in places):
        arrays = [
            _array(group[f"{part}/vars"][key]) for part in places for key in sorted(group[f"{part}/vars"], key=int)
        ]
        named = group["vars"].attrs.get("name") if "vars" in group else None
        path = group.name.strip("/")
        yield (_text(named) if named else path), path, arrays
        return
    for inner in group.values():
        if hasattr(inner, "keys"):
            yield from _groups(inner)


def _is_recurrent(group: h5py.Group) -> bool:
    """Whether it is one layer, in one direction or both."""
    names = [_text(name) for name in group.attrs["weight_names"]]
    several = sum("recurrent_kernel" in name for name in names)
    return several == 1 or (several == 2 and any("backward" in name for name in names))


def _listed(group: h5py.Group) -> Arrays:
    return [_array(group[_text(name)]) for name in group.attrs["weight_names"]]


def _array(dataset: h5py.Dataset) -> np.ndarray:
    return np.asarray(dataset[()])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _object(text: str | bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"where its settings should be is {found!r:.50}")
    return found


def _version(text: str) -> int:
    return int(text.split(".")[0])


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """The settings of all layers of a model, and of the models in it."""
    inner = config.get("config", {})
    for layer in inner if isinstance(inner, list) else inner.get("layers", []):
        yield layer
        yield from _layers(layer)


def _settings(layer: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    config = layer["config"]
    if layer["class_name"] == "Bidirectional":
        if config.get("merge_mode") != "concat":
            raise BadInput(
                f"{name} has merge_mode={config.get('merge_mode')!r}, and ours is 'concat': hand over its arrays, and "
                "merge output.chunk(2, -1) yourself"
            )
        layer, other = config["layer"], config.get("backward_layer")
        if other is not None and _settings(
            other | {"config": other["config"] | {"go_backwards": False}}, name, kind
        ) != (_settings(layer, name, kind)):
            raise BadInput(f"{name} has two directions of different settings, which no layer here has")
        return _settings(layer, name, kind)
    found = layer["class_name"]
    if found == "RNN":
        return _settings({**config["cell"], "config": {**config, **config["cell"]["config"]}}, name, kind)
    if KINDS.get(found) != kind:
        raise BadInput(f"{name} is a layer {found} of Keras, and kind is {kind!r}; read are {', '.join(KINDS)}")
    if config.get("go_backwards"):
        raise BadInput(
            f"{name} has go_backwards=True: it reads the sequences from the end, and its outputs have that order. Hand "
            "over its arrays, and give the layer x.flip(1)"
        )
    wanted = ["activation", *(["recurrent_activation"] if kind != "simple_rnn" else [])]
    return {key: config[key] for key in (*wanted, *(["reset_after"] if kind == "gru" else [])) if key in config}
