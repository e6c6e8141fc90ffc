"""Records every named value of a language model while it reads a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.explain.measure.plot import draw
from conveyor.language import LanguageModel
from conveyor.language.trained import Trained
from conveyor.layer import State
from conveyor.tasks.text import Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Layers = list[Tensor]  # one value per layer
ROWS, PIECE = 64, 128  # a long text is read as this many parallel rows, this many tokens at a time


@dataclass(frozen=True)
class Recording:
    """What a language model did at each token of a text.

        recording = record(load(Path("runs/pydoc")), "the keys to the cabinet")
        recording.texts                         # ("t", "h", "e", " ", ...)
        recording.values["C"][0]                # first layer: [T, hidden]
        recording.log_probs[-1].exp()           # probabilities of the next token, [vocabulary]

    `tokens`: [T], or [T, B] for several rows. `values`: all named values of the step by name and layer, [T, B, ...]
    (without B if the tokens have none); states are those after the token. `log_probs`: [T, B, vocabulary], for the next
    token. `state`: after the last token. `texts`: the text of each token; empty for several rows or without a
    vocabulary.
    """

    tokens: Tensor
    texts: tuple[str, ...]
    values: dict[str, Layers]
    log_probs: Tensor
    state: State

    @property
    def token_log_probs(self) -> Tensor:
        """The log-probability that was predicted for each token but the first, [T - 1, B]."""
        return self.log_probs[:-1].gather(-1, self.tokens[1:, ..., None])[..., 0]

    def plot(self, name: str, *, layer: int = 0, row: int = 0, units: Sequence[int] | None = None) -> Figure:
        """A value over the text: `recording.plot("f", units=[3, 5])`, as `explain.plot` draws it."""
        check_names((name,), self.values)
        layers = self.values[name]
        if not 0 <= layer < len(layers):
            raise BadInput(f"there is no layer {layer}: they are 0 to {len(layers) - 1}")
        value = layers[layer].detach().cpu().double()
        if self.tokens.dim() > 1:
            if not 0 <= row < value.shape[1]:
                raise BadInput(f"there is no row {row}: they are 0 to {value.shape[1] - 1}")
            value = value[:, row]
        return draw(value, name, units, self.texts)

    def likeliest(self, count: int = 5) -> tuple[Tensor, Tensor]:
        """The likeliest next tokens and their probabilities, [T, B, count] each, likeliest first."""
        found = self.log_probs.exp().topk(min(count, self.log_probs.shape[-1]))
        return found.indices, found.values


def record(
    model: LanguageModel | Trained, text: str | bytes | Tensor, state: State | None = None, start: int = 0
) -> Recording:
    """Runs a model on a text and records what it computes.

        record(load(Path("runs/pydoc")), "the keys to the cabinet are")
        record(model, torch.tensor([3, 1, 4]))

    `text`: token numbers, [T] or [T, B], or a text if `model` is what `conveyor.language.trained.load` returns. The run
    continues from `state`, after `start` tokens. The model is in evaluation mode, without dropout.

    Raises BadInput for an empty text, for tokens that the model does not know, and for a bidirectional model.
    """
    reader, tokens, vocabulary = resolve(model, text)
    with torch.no_grad(), eval_mode(reader):
        output, last, values = step_through(reader, tokens if tokens.dim() == 2 else tokens[:, None], state, start)
        log_probs = predict(reader, output)
    if tokens.dim() == 1:
        values = {name: [layer[:, 0] for layer in layers] for name, layers in values.items()}
        log_probs = log_probs[:, 0]
    texts = token_texts(tokens, vocabulary) if vocabulary is not None and tokens.dim() == 1 else ()
    return Recording(tokens, texts, values, log_probs, last)


def resolve(
    model: LanguageModel | Trained, text: str | bytes | Tensor
) -> tuple[LanguageModel, Tensor, Vocabulary | None]:
    """The model itself, the tokens [T] or [T, B], and the vocabulary, if known. Raises BadInput as `record` does."""
    vocabulary = model.vocabulary if isinstance(model, Trained) else None
    reader = model.model if isinstance(model, Trained) else model
    if reader.rnn.bidirectional:
        raise BadInput("the model is bidirectional, so a value at a token also depends on later tokens")
    if isinstance(text, Tensor):
        tokens = text
    elif vocabulary is None:
        raise BadInput("a model without its vocabulary reads token numbers, not text: give what load(folder) returns")
    else:
        tokens = vocabulary.encode(text.encode() if isinstance(text, str) else text)
    _check(tokens, reader.embedding.num_embeddings)
    return reader, tokens.to(reader.embedding.weight.device), vocabulary


def _check(tokens: Tensor, kinds: int) -> None:
    if tokens.is_floating_point() or tokens.dtype == torch.bool or tokens.dim() not in (1, 2):
        raise BadInput(f"tokens are integers [T] or [T, B], not {tokens.dtype} {list(tokens.shape)}")
    if not tokens.numel():
        raise BadInput("the text is empty: there is nothing to read")
    if not 0 <= int(tokens.min()) <= int(tokens.max()) < kinds:
        raise BadInput(f"the model knows tokens 0 to {kinds - 1}, not {int(tokens.min())} to {int(tokens.max())}")


def token_texts(tokens: Tensor, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The text of each token [T]. A byte that is no character by itself is written in hexadecimal, \\xc3."""
    if vocabulary.kind == "byte":
        return tuple(bytes([token]).decode(errors="backslashreplace") for token in tokens.tolist())
    return tuple(vocabulary.symbols[token] for token in tokens.tolist())


@contextmanager
def eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Puts the model into evaluation mode within a `with` block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def step_through(
    model: LanguageModel, tokens: Tensor, state: State | None = None, start: int = 0
) -> tuple[Tensor, State, dict[str, Layers]]:
    """The output [T, B, width] for tokens [T, B], the state after the last, and the values [layers][T, B, ...]."""
    output, last, values = model.rnn(model.embedding(tokens), state, start=start, record=True)
    return output, last, {name: [layer[0] for layer in layers] for name, layers in values.items()}


def predict(model: LanguageModel, output: Tensor) -> Tensor:
    """The log-probabilities of the next token, [..., vocabulary], after an output [..., width]."""
    weight = model.embedding.weight if model.tied else model.output
    return F.linear(output, weight, model.bias).log_softmax(-1)


def read_through(
    model: LanguageModel, tokens: Tensor, rows: int = ROWS, piece: int = PIECE
) -> Iterator[tuple[Tensor, dict[str, Layers]]]:
    """The values along a long text [N], one piece at a time to save memory.

    The text is read as up to `rows` parallel rows, each from the initial state. Yields the positions of the tokens in
    the text, [T, B] (-1: the row has ended), and the values, [layers][T, B, ...].
    """
    count = len(tokens)
    rows = max(1, min(rows, count // piece))
    length = -(-count // rows)
    places = torch.arange(rows * length).view(rows, length).t()  # [length, rows]
    places = torch.where(places < count, places, -1)
    state: State | None = None
    with torch.no_grad(), eval_mode(model):
        for start in range(0, length, piece):
            now = places[start : start + piece]
            _, state, values = step_through(model, tokens[now.clamp(min=0).to(tokens.device)], state, start)
            yield now, values


def values_along(model: LanguageModel, tokens: Tensor, names: tuple[str, ...]) -> dict[str, Layers]:
    """These values along a text [N], [layers][N, units] each; further dimensions are flattened to units.

    Raises BadInput for a name that the model's step does not have.
    """
    found: dict[str, Layers] = {}
    for places, values in read_through(model, tokens):
        check_names(names, values)
        real = places >= 0
        for name in names:
            pieces = [layer.cpu().flatten(2) if layer.dim() > 2 else layer.cpu()[..., None] for layer in values[name]]
            if name not in found:
                found[name] = [piece.new_empty(len(tokens), piece.shape[-1]) for piece in pieces]
            for whole, piece in zip(found[name], pieces, strict=True):
                whole[places[real]] = piece[real]
    return found


def check_names(names: tuple[str, ...], values: dict[str, Layers]) -> None:
    """Raises BadInput for a name that is not among the values."""
    for name in names:
        if name not in values:
            raise BadInput(f"the model's step has no value called {name}; it has {', '.join(sorted(values))}")
