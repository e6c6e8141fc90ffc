"""What the tests of `torch.nn`'s layers and ours share: both namespaces, every kind of layer and cell, their inputs."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import conveyor

SPACES = {"torch.nn": nn, "conveyor": conveyor}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
KINDS = {
    "tanh": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "projected": ("LSTM", {"proj_size": 3}),
    "GRU": ("GRU", {}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
CELLS = {
    "tanh": ("RNNCell", {}),
    "relu": ("RNNCell", {"nonlinearity": "relu"}),
    "LSTM": ("LSTMCell", {}),
    "GRU": ("GRUCell", {}),
}
INPUT, HIDDEN, TIME, BATCH = 4, 5, 6, 3
FORMS = ("batch", "unbatched", "packed", "packed unsorted")


def make(space, kind, *sizes, seed=0, **keywords):
    """A layer, with the weights that the seed gives."""
    name, options = KINDS[kind]
    torch.manual_seed(seed)
    return getattr(space, name)(*(sizes or (INPUT, HIDDEN)), **options | keywords)


def make_cell(space, kind, seed=0, **keywords):
    name, options = CELLS[kind]
    torch.manual_seed(seed)
    return getattr(space, name)(INPUT, HIDDEN, **options | keywords)


def sequence(form="batch", batch_first=False, width=INPUT, dtype=torch.float32, seed=1):
    """An input in one of the forms."""
    generator = torch.Generator().manual_seed(seed)
    if form == "unbatched":
        return torch.randn(TIME, width, generator=generator, dtype=dtype)
    if form == "batch":
        sizes = (BATCH, TIME) if batch_first else (TIME, BATCH)
        return torch.randn(*sizes, width, generator=generator, dtype=dtype)
    lengths = [6, 4, 1] if form == "packed" else [4, 6, 1]
    parts = [torch.randn(length, width, generator=generator, dtype=dtype) for length in lengths]
    return pack_sequence(parts, enforce_sorted=form == "packed")


def first_state(module, *batch, dtype=torch.float32, seed=2):
    """A state for the layer's hx."""
    generator = torch.Generator().manual_seed(seed)
    rows = module.num_layers * (2 if module.bidirectional else 1)
    widths = [module.proj_size or module.hidden_size] + [module.hidden_size] * isinstance(module, nn.LSTM)
    states = tuple(torch.randn(rows, *batch, width, generator=generator, dtype=dtype) for width in widths)
    return states if len(states) > 1 else states[0]


def flat(results):
    """All tensors of nested results, in order."""
    if isinstance(results, torch.Tensor):
        return [results]
    if isinstance(results, PackedSequence):
        return [results.data]
    return [tensor for result in results for tensor in flat(result)]


def scalar(results):
    """A random scalar of results."""
    generator = torch.Generator().manual_seed(3)
    return sum((r * torch.randn(r.shape, generator=generator).to(r.dtype)).sum() for r in flat(results))


def gradients(module, results):
    """Of a random scalar of results, by each parameter's name."""
    names, parameters = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(scalar(results), parameters, allow_unused=True)
    return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


def same_results(module, wanted, *arguments):
    """Whether both give the same, up to rounding, and with the same gradients by name."""
    found, expected = module(*arguments), wanted(*arguments)
    pairs = list(zip(flat(found), flat(expected), strict=True))
    of_weights, of_wanted = gradients(module, found), gradients(wanted, expected)
    assert of_weights.keys() == of_wanted.keys()
    pairs += [(of_weights[name], of_wanted[name]) for name in of_wanted]
    return all(a.shape == b.shape and (a - b).abs().max() <= 1e-5 * b.abs().max().clamp(min=1) for a, b in pairs)
