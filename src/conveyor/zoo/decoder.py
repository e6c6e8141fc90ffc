"""A decoder that generates a sentence word by word, attending to annotations at each word."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn, tanh, where

from conveyor.cell.cell import check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.attention import HardAttention, SoftAttention, hard_noise

State = tuple[Tensor, Tensor]


class Decoder(nn.Module):
    """A decoder that attends to annotations a_1 ... a_L of an image's locations or a sentence's words (Xu et al. 2015).

        decoder = Decoder(1000, hidden_size=128, annotation_size=64)
        scores, values = decoder(words, a, mask)        # words: [T, B], a: [B, L, 64], mask: [B, L]

    ā = the mean of the a_i that are not padding, 0 if all are
    h_0 = tanh(f_h(ā)),  C_0 = tanh(f_C(ā))     f_h and f_C share their first layer
    h_t, C_t, z_t = an attention step on E · y_{t-1}
    p(y_t) ∝ exp(L_o · (E · y_{t-1} + L_h · h_t + L_z · z_t))

    `attention` is SoftAttention or HardAttention, and takes `options`. The noise of the latter can be passed by name.
    Otherwise it is sampled in training mode, and in eval mode the most likely location is chosen. `dropout` acts on the
    embedding and before L_o.

    Shapes: words y [T, B]; a [B, L, annotation]; mask [B, L]; scores [T, B, vocabulary]; values["alpha"] [T, B, L], the
    attention weights; E [vocabulary, embedding], L_h [embedding, hidden], L_z [embedding, annotation].
    Paper: Xu et al. 2015, "Show, Attend and Tell".
    Departures: the initial W_ctx, W_d, U and L_z are larger than the other weights: a mean over many locations is
    small, and nothing distinguishes the locations until their scores differ.
    Doubt: how large the two networks for h_0 and C_0 are; the authors' code is thought to have a tanh around the sum in
    the output, which the paper's equation lacks.

    Raises ValueError for words, annotations or a mask of another shape or dtype, and for words outside the vocabulary.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int,
        annotation_size: int,
        embedding_size: int = 64,
        attention_size: int | None = None,
        attention: type[SoftAttention] = SoftAttention,
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        check_sizes(vocabulary_size=vocabulary_size, embedding_size=embedding_size)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.begin = nn.Sequential(nn.Linear(annotation_size, hidden_size), nn.Tanh())
        self.begin_h, self.begin_C = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        sizes: dict[str, Any] = {"annotation_size": annotation_size, "attention_size": attention_size, **options}
        self.rnn = Recurrent(attention, embedding_size, hidden_size, **sizes)
        self.from_h = nn.Linear(hidden_size, embedding_size)
        self.from_z = nn.Linear(annotation_size, embedding_size, bias=False)
        self.output = nn.Linear(embedding_size, vocabulary_size)
        self.dropout = nn.Dropout(dropout)
        self._spread()

    def _spread(self) -> None:
        cell: Any = self.rnn.cell
        nn.init.normal_(self.from_z.weight, std=0.3)
        for weight in (cell.key.weight_a, cell.query.weight_h, cell.score.weight_key):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def start(self, a: Tensor, mask: Tensor) -> State:
        """The initial state h_0, C_0, [1, B, hidden_size] each."""
        self.check(a, mask)
        mean = where(mask[:, :, None] > 0, a, 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        common = self.begin(mean)[None]
        return tanh(self.begin_h(common)), tanh(self.begin_C(common))

    def forward(
        self,
        words: Tensor,
        a: Tensor,
        mask: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        **noise: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores of the word after each of `words` [T, B], and the extra outputs of the attention, [T, B, ...]."""
        scores, _, values = self.run(words, a, mask, self.start(a, mask) if state is None else state, lengths, **noise)
        return scores, values

    def run(
        self, words: Tensor, a: Tensor, mask: Tensor, state: State, lengths: Tensor | None = None, **noise: Tensor
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """As `forward`, but starting from `state`; also returns the state after the last step."""
        check_words(words, self.embedding)
        x = self.dropout(self.embedding(words))
        noise = noise or self.noise(x, a)
        h, state, values = self.rnn(x, state, lengths=lengths, a=a, mask=mask, **noise)
        values = {name: value[0, 0] for name, value in values.items()}
        combined = x + self.from_h(h) + self.from_z(values["z"])
        return self.output(self.dropout(combined)), state, values

    def check(self, a: Tensor, mask: Tensor) -> None:
        """Raises ValueError for annotations or a mask of another shape or dtype."""
        width, type_ = self.begin[0].in_features, self.from_z.weight.dtype
        if a.dim() != 3 or a.shape[2] != width or a.dtype != type_:
            raise ValueError(f"annotations must be {type_} [B, L, {width}], not {a.dtype} {list(a.shape)}")
        if mask.shape != a.shape[:2]:
            raise ValueError(f"the mask must be [B, L], {list(a.shape[:2])}, not {list(mask.shape)}")

    def noise(self, x: Tensor, a: Tensor) -> dict[str, Tensor]:
        """The noise streams of hard attention for an input x [T, B, ...]; none for soft attention."""
        if not isinstance(self.rnn.cell, HardAttention):
            return {}
        if self.training:
            return hard_noise(x, a.shape[1])
        return {"g": x.new_zeros(*x.shape[:2], a.shape[1]), "coin": x.new_ones(*x.shape[:2], 1)}


def check_words(words: Tensor, embedding: nn.Embedding) -> None:
    """Raises ValueError unless the words are integers [T, B], each an index into the embedding."""
    if words.dim() != 2 or words.is_floating_point():
        raise ValueError(f"words must be integers [T, B], not {words.dtype} {list(words.shape)}")
    if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < embedding.num_embeddings:
        low, high = int(words.min()), int(words.max())
        raise ValueError(f"words must lie between 0 and {embedding.num_embeddings - 1}, not {low} and {high}")


def negative_log_likelihood(scores: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of each row's words, [B] in nats. scores: [T, B, V]; targets: [T, B], -100: none."""
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).sum(0)
