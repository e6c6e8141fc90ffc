"""A network that translates a sentence, attending to its words (after Bahdanau et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from conveyor.cell.cell import check_sizes
from conveyor.layer import Recurrent
from conveyor.zoo.decoder import Decoder, check_words
from conveyor.zoo.gru import GRU


class Translator(nn.Module):
    """A bidirectional GRU encoder that annotates the words of a sentence, and a decoder that attends to them.

        model = Translator(3000, 3000, hidden_size=128)
        a, mask = model.annotate(words, lengths)        # words: [S, B], lengths: [B], a: [B, S, 128], mask: [B, S]
        scores, values = model.decoder(target, a, mask) # target: [T, B], values["alpha"]: [T, B, S]

    An annotation concatenates the outputs of both directions at the word, half of `hidden_size` each. `decoder` takes
    further arguments of `Decoder`.

    Paper: Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate".
    Departures: the decoder is from Xu et al. 2015, with an LSTM and a selector; Bahdanau et al. have a GRU, a maxout
    output and no selector.

    Raises ValueError for an odd hidden size, and for words that are not integers [S, B] within the vocabulary.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        hidden_size: int,
        embedding_size: int = 64,
        dropout: float = 0.0,
        **decoder: Any,
    ):
        super().__init__()
        check_sizes(source_size=source_size, hidden_size=hidden_size, embedding_size=embedding_size)
        if hidden_size % 2:
            raise ValueError(f"hidden_size is split between the two directions, so it must be even, not {hidden_size}")
        self.embedding = nn.Embedding(source_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.encoder = Recurrent(GRU, embedding_size, hidden_size // 2, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        sizes = {"embedding_size": embedding_size, "dropout": dropout}
        self.decoder = Decoder(target_size, hidden_size, hidden_size, **sizes, **decoder)  # type: ignore[arg-type]

    def annotate(self, words: Tensor, lengths: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """The annotations [B, S, hidden_size], 0 past a sentence's length, and their mask [B, S], 1 at words."""
        check_words(words, self.embedding)
        output, _ = self.encoder(self.dropout(self.embedding(words)), lengths=lengths)
        places = torch.arange(len(words), device=words.device)
        mask = places < torch.as_tensor(lengths, device=words.device)[:, None]
        return self.dropout(output).transpose(0, 1), mask.to(output.dtype)
