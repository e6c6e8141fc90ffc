"""Bad input to `torch.nn`'s layers and cells and to ours: exceptions of the same type, which say what is wrong.

The type of each case is checked against `torch.nn`, too; the words are ours.
"""

import re

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import conveyor
from torch_layers import BATCH, HIDDEN, INPUT, TIME, every_space, first_state, sequence

# Keyword arguments of the constructor of each layer, on top of two sizes; the type; what the message must name.
CONSTRUCTION = {
    "bias is a text": ({"bias": "True"}, TypeError, "bias"),
    "bias is a number": ({"bias": 1}, TypeError, "bias"),
    "bias is None": ({"bias": None}, TypeError, "bias"),
    "batch_first is a number": ({"batch_first": 0}, TypeError, "batch_first"),
    "batch_first is a text": ({"batch_first": "yes"}, TypeError, "batch_first"),
    "dropout is above 1": ({"num_layers": 2, "dropout": 1.5}, ValueError, "dropout"),
    "dropout is negative": ({"num_layers": 2, "dropout": -0.1}, ValueError, "dropout"),
    "dropout is True": ({"num_layers": 2, "dropout": True}, ValueError, "dropout"),
    "dropout is NaN": ({"num_layers": 2, "dropout": float("nan")}, ValueError, "dropout"),
    "input_size is 0": ({"input_size": 0}, ValueError, "input_size"),
    "input_size is negative": ({"input_size": -1}, ValueError, "input_size"),
    "input_size is a fraction": ({"input_size": 4.0}, TypeError, "input_size"),
    "input_size is a text": ({"input_size": "4"}, TypeError, "input_size"),
    "input_size is None": ({"input_size": None}, TypeError, "input_size"),
    "hidden_size is 0": ({"hidden_size": 0}, ValueError, "hidden_size"),
    "hidden_size is negative": ({"hidden_size": -5}, ValueError, "hidden_size"),
    "hidden_size is a fraction": ({"hidden_size": 5.5}, TypeError, "hidden_size"),
    "hidden_size is a text": ({"hidden_size": "5"}, TypeError, "hidden_size"),
    "num_layers is 0": ({"num_layers": 0}, ValueError, "num_layers"),
    "num_layers is negative": ({"num_layers": -1}, ValueError, "num_layers"),
    "num_layers is a text": ({"num_layers": "2"}, TypeError, "num_layers|str"),
    "an unknown argument": ({"hidden_sizes": 3}, TypeError, "hidden_sizes"),
}
OF_ONE = {
    "proj_size is hidden_size": ("LSTM", {"proj_size": HIDDEN}, ValueError, "proj_size"),
    "proj_size is negative": ("LSTM", {"proj_size": -1}, ValueError, "proj_size"),
    "proj_size of a GRU": ("GRU", {"proj_size": 2}, ValueError, "proj_size"),
    "proj_size of an RNN": ("RNN", {"proj_size": 2}, ValueError, "proj_size"),
    "nonlinearity is unknown": ("RNN", {"nonlinearity": "sin"}, ValueError, "nonlinearity"),
    "nonlinearity of an LSTM": ("LSTM", {"nonlinearity": "tanh"}, TypeError, "nonlinearity"),
}


def refuses(kind, words, space, act):
    """That `act` raises this type; the words are asked of ours only."""
    with pytest.raises(kind, match=words if space is conveyor else None):
        act()


@every_space
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("case", CONSTRUCTION)
def test_construction(space, name, case):
    keywords, kind, words = CONSTRUCTION[case]
    sizes = {"input_size": INPUT, "hidden_size": HIDDEN} | keywords
    refuses(kind, words, space, lambda: getattr(space, name)(**sizes))


@every_space
@pytest.mark.parametrize("case", OF_ONE)
def test_construction_of_one_kind(space, case):
    name, keywords, kind, words = OF_ONE[case]
    refuses(kind, words, space, lambda: getattr(space, name)(INPUT, HIDDEN, **keywords))


@every_space
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dropout_of_one_layer_is_warned_of(space, name):
    with pytest.warns(UserWarning, match="dropout"):
        getattr(space, name)(INPUT, HIDDEN, dropout=0.5)


def pair_of(make):
    """A state of two tensors."""
    return make(), make()


def zeros(*shape, **keywords):
    return lambda: torch.zeros(*shape, **keywords)


# What a layer of INPUT and HIDDEN is called with; the type of the exception; what the message must say.
# A state is a function that makes one tensor, of which an LSTM gets two.
CALLS = {
    "input of one dimension": (lambda: torch.randn(INPUT), None, ValueError, r"\[4\]|1D|1-D|dimension"),
    "input of four dimensions": (lambda: torch.randn(1, 2, 3, INPUT), None, ValueError, r"\[1, 2, 3, 4\]|4D|4-D"),
    "input too wide": (lambda: sequence(width=INPUT + 1), None, RuntimeError, "5"),
    "input too narrow": (lambda: sequence(width=INPUT - 1), None, RuntimeError, "3"),
    "unbatched input too wide": (lambda: sequence("unbatched", width=INPUT + 1), None, RuntimeError, "5"),
    "packed input too wide": (lambda: sequence("packed", width=INPUT + 1), None, RuntimeError, "5"),
    "no steps": (lambda: torch.zeros(0, BATCH, INPUT), None, RuntimeError, "no steps|length|empty"),
    "no steps, unbatched": (lambda: torch.zeros(0, INPUT), None, RuntimeError, "no steps|length|empty"),
    "input of whole numbers": (
        lambda: torch.zeros(TIME, BATCH, INPUT, dtype=torch.long),
        None,
        ValueError,
        "int64",
    ),
    "input of another type": (lambda: sequence(dtype=torch.float64), None, ValueError, "float64"),
    "input is an array": (lambda: sequence().numpy(), None, (AttributeError, TypeError), "ndarray|tensor|Tensor"),
    "input is None": (lambda: None, None, (AttributeError, TypeError), "NoneType|None"),
    "state for another batch": (sequence, zeros(1, BATCH + 1, HIDDEN), RuntimeError, r"\[1, 4, 5\]"),
    "state too wide": (sequence, zeros(1, BATCH, HIDDEN + 1), RuntimeError, r"\[1, 3, 6\]"),
    "state of more layers": (sequence, zeros(2, BATCH, HIDDEN), RuntimeError, r"\[2, 3, 5\]"),
    "state without a batch for a batch": (sequence, zeros(1, HIDDEN), RuntimeError, r"\[1, 5\]|2-D|2D"),
    "state with a batch for none": (
        lambda: sequence("unbatched"),
        zeros(1, BATCH, HIDDEN),
        RuntimeError,
        r"\[1, 3, 5\]|3-D|3D",
    ),
    "unbatched state too wide": (lambda: sequence("unbatched"), zeros(1, HIDDEN + 1), RuntimeError, "6"),
    "packed, state for another batch": (
        lambda: sequence("packed"),
        zeros(1, BATCH + 1, HIDDEN),
        RuntimeError,
        r"\[1, 4, 5\]",
    ),
    "state of another type": (
        sequence,
        zeros(1, BATCH, HIDDEN, dtype=torch.float64),
        RuntimeError,
        "float64|Double|double",
    ),
}


@every_space
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("case", CALLS)
def test_calls(space, name, case):
    given, state, kind, words = CALLS[case]
    module = getattr(space, name)(INPUT, HIDDEN)
    hx = None if state is None else pair_of(state) if name == "LSTM" else state()
    refuses(kind, words, space, lambda: module(given(), hx))


OF_AN_LSTM = {
    "one state of two": (lambda h, _: (h,), (IndexError, RuntimeError, ValueError), "h, C"),
    "three states": (lambda h, c: (h, c, c), (RuntimeError, ValueError), "h, C"),
    "the states of torch.nn.GRU": (lambda h, _: h, (IndexError, RuntimeError, ValueError), "h, C"),
    "one of another batch": (lambda h, c: (h, c[:, :1]), RuntimeError, r"\[1, 1, 5\]"),
    "h of another batch": (lambda h, c: (h[:, :1], c), RuntimeError, r"\[1, 1, 5\]"),
}


@every_space
@pytest.mark.parametrize("case", OF_AN_LSTM)
def test_states_of_an_lstm(space, case):
    change, kind, words = OF_AN_LSTM[case]
    module = space.LSTM(INPUT, HIDDEN)
    refuses(kind, words, space, lambda: module(sequence(), change(*first_state(module, BATCH))))


@every_space
@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_two_states_for_a_layer_of_one(space, name):
    module = getattr(space, name)(INPUT, HIDDEN)
    h = first_state(module, BATCH)
    refuses((AttributeError, TypeError, ValueError), "h", space, lambda: module(sequence(), (h, h)))


@every_space
def test_a_projected_state_is_as_wide_as_the_projection(space):
    module = space.LSTM(INPUT, HIDDEN, proj_size=2)
    state = (torch.zeros(1, BATCH, HIDDEN), torch.zeros(1, BATCH, HIDDEN))
    refuses(RuntimeError, r"\[1, 3, 5\]", space, lambda: module(sequence(), state))


@every_space
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_after_an_error_the_layer_works_on(space, name):
    module, wanted = getattr(space, name)(INPUT, HIDDEN), getattr(nn, name)(INPUT, HIDDEN)
    wanted.load_state_dict(module.state_dict())
    with pytest.raises(RuntimeError):
        module(sequence(width=INPUT + 1))
    assert torch.allclose(module(sequence())[0], wanted(sequence())[0], atol=1e-6)


@every_space
def test_lengths_that_are_not_sorted_are_refused_where_they_are_packed(space):
    """By PyTorch, before any layer sees them; a length of 0 likewise."""
    with pytest.raises(RuntimeError, match="enforce_sorted"):
        space.LSTM(INPUT, HIDDEN)(pack_padded_sequence(sequence(), [1, 6, 4]))
    with pytest.raises(RuntimeError, match=r"greater than 0|<= 0"):
        space.LSTM(INPUT, HIDDEN)(pack_padded_sequence(sequence(), [6, 4, 0]))


CELL_CONSTRUCTION = {
    "hidden_size is a text": ((INPUT, "5"), {}, TypeError),
    "input_size is a text": (("4", HIDDEN), {}, TypeError),
    "hidden_size is a fraction": ((INPUT, 5.5), {}, TypeError),
    "input_size is negative": ((-1, HIDDEN), {}, RuntimeError),
}
# Input, a function that makes one tensor of the state, the type, the words.
CELL_CALLS = {
    "input of three dimensions": (lambda: torch.zeros(2, 3, INPUT), None, ValueError),
    "input too wide": (lambda: torch.zeros(3, INPUT + 1), None, RuntimeError),
    "state too wide": (lambda: torch.zeros(3, INPUT), zeros(3, HIDDEN + 1), RuntimeError),
    "state for another batch": (lambda: torch.zeros(3, INPUT), zeros(2, HIDDEN), RuntimeError),
    "state of three dimensions": (lambda: torch.zeros(3, INPUT), zeros(1, 3, HIDDEN), ValueError),
    "input of another type": (lambda: torch.zeros(3, INPUT, dtype=torch.float64), None, RuntimeError),
}


@every_space
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("case", CELL_CONSTRUCTION)
def test_construction_of_cells(space, name, case):
    sizes, keywords, kind = CELL_CONSTRUCTION[case]
    with pytest.raises(kind):
        getattr(space, name)(*sizes, **keywords)


@every_space
@pytest.mark.parametrize("backend", ["auto", "compiled", "eager"])
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("case", CELL_CALLS)
def test_calls_of_cells(space, name, case, backend):
    given, state, kind = CELL_CALLS[case]
    cell = getattr(space, name)(INPUT, HIDDEN)
    hx = None if state is None else pair_of(state) if name == "LSTMCell" else state()
    with conveyor.backend(backend), pytest.raises(kind) as error:
        cell(given(), hx)
    assert re.search(r"\d|dtype", str(error.value))


@every_space
def test_an_unknown_nonlinearity_of_a_cell_is_refused_when_it_is_called(space):
    cell = space.RNNCell(INPUT, HIDDEN, nonlinearity="sin")
    with pytest.raises(RuntimeError, match="nonlinearity"):
        cell(torch.zeros(3, INPUT))
