"""Untrained weights for a page: it stores only their distribution, and samples them anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from conveyor.explain.running.model import Model
from conveyor.language import LanguageModel

POINTS = 65


def fresh(model: LanguageModel | Model) -> Model:
    """A new model with the settings of this one, from a fixed seed: as its modules start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model.of(_new_language_model(model)) if isinstance(model, LanguageModel) else _reset(model)


def _new_language_model(model: LanguageModel) -> LanguageModel:
    rnn = model.rnn
    options = {"bias": rnn.bias, "learn_initial_state": rnn.learn_initial_state, "tied": rnn.tied, **rnn.options}
    return LanguageModel(
        model.embedding.num_embeddings,
        type(rnn.cell),
        rnn.hidden_size,
        rnn.num_layers,
        model.embedding.embedding_dim,
        model.tied,
        **options,
    )


def _reset(model: Model) -> Model:
    made = copy.deepcopy(model)
    for module in [made.rnn, *made.first.modules(), *made.head.modules()]:
        if (reset := getattr(module, "reset_parameters", None)) is not None:
            reset()
    return made


def named(model: Model) -> list[tuple[str, Tensor]]:
    """The parameters of a model and their names; those of a language model as it has them."""
    alone = len(model.head) == 1 and isinstance(model.first, nn.Embedding)
    own = {"head.0.weight": "output", "head.0.bias": "bias"} if alone else {}
    parts = {"embedding" if isinstance(model.first, nn.Embedding) else "first": model.first, "rnn": model.rnn}
    each: list[tuple[str, Tensor]] = [
        (f"{part}.{name}", p) for part, m in parts.items() for name, p in m.named_parameters()
    ]
    known = {id(parameter) for _, parameter in each}
    rest = [(f"head.{name}", p) for name, p in model.head.named_parameters() if id(p) not in known]
    return each + [(own.get(name, name), parameter) for name, parameter in rest]


def quantiles(tensor: Tensor) -> list[float]:
    """The distribution of its elements: 65 equally spaced points of the quantile function."""
    found = np.quantile(tensor.detach().double().numpy().ravel(), np.linspace(0, 1, POINTS))
    return [float(f"{value:.7g}") for value in found]


def draw(points: Sequence[float], size: int, seed: int) -> np.ndarray:
    """`size` samples of a distribution, in float32: the same that blend.js draws."""
    place = _random(size, seed) * (len(points) - 1)
    k = place.astype(np.int64)
    low, high = (np.asarray(points)[k + j] for j in (0, 1))
    return (low + (place - k) * (high - low)).astype(np.float32)


def _random(size: int, seed: int) -> np.ndarray:
    """Uniform numbers in [0, 1): Tommy Ettinger's mulberry32."""
    a = (seed + 0x6D2B79F5 * np.arange(1, size + 1, dtype=np.uint64)).astype(np.uint32)
    t = (a ^ (a >> 15)) * (a | 1)
    t = (t + (t ^ (t >> 7)) * (t | 61)) ^ t
    return (t ^ (t >> 14)).astype(np.float64) / 2**32


def blend(entries: Sequence[dict], weights: np.ndarray, share: float) -> np.ndarray:
    """The weights of a page, `share` of the way from untrained (0) to trained (1)."""
    found = weights.astype(np.float32).copy()
    for seed, entry in enumerate(entries):
        if entry["quantiles"] is not None and share < 1:
            part = slice(entry["at"], entry["at"] + entry["size"])
            new = draw(entry["quantiles"], entry["size"], seed).astype(np.float64)
            found[part] = ((1 - share) * new + share * weights[part].astype(np.float64)).astype(np.float32)
    return found
