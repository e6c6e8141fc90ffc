"""A recurrent language model, its loss on a text, and sampling from it."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import repeat
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conveyor.cell import Cell
from conveyor.cell.cell import is_whole
from conveyor.errors import BadInput, Mismatch
from conveyor.layer import Recurrent, State
from conveyor.layer.backends import NotCompiled, chosen
from conveyor.layer.network import is_hooked
from conveyor.layer.stream import Stream


class LanguageModel(nn.Module):
    """Predicts the next token of a text from the previous ones.

        model = LanguageModel(100, conveyor.zoo.LSTM, hidden_size=256)
        logits, state = model(tokens)                       # tokens: [T, B], logits: [T, B, 100]

    `embedding_size` 0 means the size of the output. If both sizes are equal and `tie` is set, embedding and output
    share their matrix (Press & Wolf 2017). `options` go to `conveyor.Recurrent`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        cell: type[Cell],
        hidden_size: int,
        num_layers: int = 1,
        embedding_size: int = 0,
        tie: bool = True,
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        embedding_size = embedding_size or hidden_size
        between = dropout if num_layers > 1 else 0.0
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(embedding_size))
        self.rnn = Recurrent(cell, embedding_size, hidden_size, num_layers, dropout=between, **options)
        self.dropout = nn.Dropout(dropout)
        self.tied = tie and embedding_size == self.rnn.output_size
        if not self.tied:
            self.output = nn.Parameter(torch.empty(vocabulary_size, self.rnn.output_size))
            nn.init.normal_(self.output, std=1 / math.sqrt(self.rnn.output_size))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, tokens: Tensor, state: State | None = None, start: int = 0) -> tuple[Tensor, State]:
        """The logits of the next token, [T, B, vocabulary], and the final state.

        `tokens`: [T, B]. `start`: the number of tokens that the state has read, for cells that count their steps.
        """
        output, state, *_ = self.rnn(self.dropout(self.embedding(tokens)), state, start=start)
        weight = self.embedding.weight if self.tied else self.output
        return F.linear(self.dropout(output), weight, self.bias), state

    def stream(self, rows: int = 1, weights: str = "float32", start: int = 0) -> Stream:
        """A stream of the layers with the output: from embeddings [rows, E] to logits [rows, vocabulary].

            stream = model.stream()
            logits = stream.step(model.embedding.weight[token])

        Raises NotCompiled, ValueError as `rnn.stream` does.
        """
        matrix = self.embedding.weight if self.tied else self.output
        head = nn.utils.skip_init(nn.Linear, matrix.shape[1], matrix.shape[0])
        head.weight, head.bias = matrix, self.bias
        return Stream(self.rnn, rows, weights=weights, start=start, head=head)


@dataclass(frozen=True)
class Measure:
    """How well a text is predicted: `loss` in nats per token, over `tokens` tokens with `characters` characters."""

    loss: float
    tokens: int
    characters: int

    @property
    def bits_per_character(self) -> float:
        """The loss in bits per character, which is comparable across tokenisations."""
        return self.loss * self.tokens / self.characters / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss), per token."""
        return math.exp(min(self.loss, 700.0))


ROWS, PIECE = 64, 128  # batch size and length of the pieces of an evaluation


@torch.no_grad()
def loss(model: nn.Module, tokens: Tensor, weights: str = "float32") -> float:
    """The mean cross-entropy over all tokens [N] except the first, in nats; `weights`: as a stream stores them.

    The text is cut into up to 64 rows, each read from the initial state. A short text is one row. The result does not
    depend on settings of the training. Raises BadInput for fewer than two tokens.
    """
    if len(tokens) < 2:
        raise BadInput("the text to evaluate on has fewer than two tokens: give more text")
    was_training = model.training
    model.eval()
    count = len(tokens) - 1
    rows = max(1, min(ROWS, count // PIECE))
    length = -(-count // rows)
    missing = rows * length - count
    inputs = F.pad(tokens[:-1], (0, missing)).view(rows, length).t()
    targets = F.pad(tokens[1:], (0, missing), value=-100).view(rows, length).t()  # -100: not a target
    total, state, read = 0.0, None, 0
    stream = None if weights == "float32" else model.stream(rows, weights)  # type: ignore[operator]
    for piece, target in zip(inputs.split(PIECE), targets.split(PIECE), strict=True):
        if stream is None:
            scores, state = model(piece, state, read)
        else:
            scores = stream.run(model.embedding(piece))  # type: ignore[operator]
        read += len(piece)
        total += F.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="sum").item()
    model.train(was_training)
    return total / count


def generate(
    model: LanguageModel,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Samples `length` tokens after the prompt [N], one by one.

    `temperature` divides the logits; 0 is greedy. `top_k` restricts sampling to the k most probable tokens; 0 does not.
    What is drawn depends on the generator alone: a seed writes the same text, of which a shorter one is the beginning.

    Raises BadInput for an empty prompt, and for what is no such number.
    """
    if prompt.dim() != 1 or not len(prompt):
        raise BadInput(f"the prompt is tokens [N], one at least, and not of shape {list(prompt.shape)}")
    for name, value in {"length": length, "top_k": top_k}.items():
        if not is_whole(value) or value < 0:
            raise BadInput(f"{name} is a whole number from 0, not {value!r}")
    if isinstance(temperature, bool) or not isinstance(temperature, Real) or not 0 <= temperature < math.inf:
        raise BadInput(f"temperature is a finite number from 0, not {temperature!r}")
    return _written(model, prompt, length, float(temperature), top_k, generator)


def _written(
    model: LanguageModel,
    prompt: Tensor,
    length: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator | None,
) -> Iterator[int]:
    model.eval()
    scores = _scores_after(model, prompt)
    following = next(scores)
    noise = _noise(len(following), generator) if temperature else repeat(None)
    for _, drawn in zip(range(length), noise, strict=False):
        token = _draw(following, temperature, top_k, drawn)
        yield token
        following = scores.send(token)


def _scores_after(model: LanguageModel, prompt: Tensor) -> Generator[Tensor, int, None]:
    """The logits [vocabulary] after the prompt, and after each token that is sent."""
    with torch.no_grad():
        scores, state = model(prompt[:, None])
    read, stream = len(prompt), _stream_after(model, state, len(prompt))
    following, rows = scores[-1, 0], model.embedding.weight.detach()
    while True:
        token = yield following
        if stream is None:
            with torch.no_grad():
                scores, state = model(prompt.new_tensor([[token]]), state, read)
            following = scores[-1, 0]
        else:
            following = stream.step(rows[token])
        read += 1


def _stream_after(model: LanguageModel, state: State, read: int) -> Stream | None:
    """A stream that goes on from a state, or None where there is none and the model is called for each token."""
    if chosen() == "eager" or model.bias.device.type != "cpu":
        return None
    if any(map(is_hooked, (model, model.embedding, model.dropout))):  # those of the layer are refused by the stream
        return None
    try:
        stream = model.stream(start=read)
    except (NotCompiled, Mismatch):
        return None
    stream.state = state
    return stream


PIECES = 64  # rows of noise that are drawn at once


def _noise(vocabulary: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Standard Gumbel noise [vocabulary] for each token, whose largest sum with logits is a draw from their softmax.

    (Gumbel 1954; Maddison, Tarlow & Minka 2014.) It is drawn in pieces of one size, whatever is made of them.
    """
    while True:
        drawn = torch.empty(PIECES, vocabulary, dtype=torch.float64).exponential_(generator=generator)
        yield from drawn.log_().neg_()


def _draw(scores: Tensor, temperature: float, top_k: int, noise: Tensor | None) -> int:
    """The token with the most of scores / temperature + noise; times the temperature, which may be tiny or zero."""
    if noise is None:
        return int(scores.argmax())
    scores = scores.cpu()
    if 0 < top_k < len(scores):
        likeliest = scores.topk(top_k).indices
        return int(likeliest[torch.add(scores[likeliest], noise[likeliest], alpha=temperature).argmax()])
    return int(torch.add(scores, noise, alpha=temperature).argmax())
