"""Shared by the applications that generate sentences: decoding by beam search, and the scores of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, log_softmax

from conveyor.applications.search import Hypothesis, State, beam_search
from conveyor.errors import BadInput
from conveyor.tasks.words import TokenBatch, WordVocabulary
from conveyor.zoo.decoder import Decoder, negative_log_likelihood


def decode(
    decoder: Decoder,
    a: Tensor,
    mask: Tensor,
    width: int,
    limit: int,
    length_power: float = 0.0,
    forbidden: Sequence[int] = (WordVocabulary.start,),
) -> list[Hypothesis]:
    """The best sentence for the annotations of each row, by beam search.

    `a`: annotations [B, L, D]. `mask`: [B, L]. `width`: of the beam. `limit`: maximum number of words. `forbidden`:
    word indices that are never generated. For `length_power` see `beam_search`.
    """
    every_a, every_mask = a.repeat_interleave(width, 0), mask.repeat_interleave(width, 0)

    def step(words: Tensor, state: State) -> tuple[Tensor, State]:
        h, C = state
        scores, (h, C), _ = decoder.run(words[None], every_a, every_mask, (h[None], C[None]))
        logs = log_softmax(scores[0], -1)
        logs[:, list(forbidden)] = -torch.inf
        return logs, (h[0], C[0])

    h, C = decoder.start(a, mask)
    return beam_search(step, (h[0], C[0]), WordVocabulary.start, WordVocabulary.end, width, limit, length_power)


def attention_maps(decoder: Decoder, a: Tensor, mask: Tensor, sentences: Sequence[Sequence[int]]) -> list[Tensor]:
    """The attention weights for each word of each sentence and for its end, [T, L]."""
    said = TokenBatch.of(sentences)
    _, values = decoder(said.inputs.to(a.device), a, mask, lengths=said.lengths)
    alpha = values["alpha"].cpu()
    return [alpha[:length, row] for row, length in enumerate(said.lengths.tolist())]


def nats_per_word(decoder: Decoder, said: TokenBatch, a: Tensor, mask: Tensor, **noise: Tensor) -> float:
    """The negative log-likelihood of the sentences with teacher forcing, in nats per word; <end> counts as a word."""
    scores, _ = decoder(said.inputs, a, mask, lengths=said.lengths, **noise)
    return negative_log_likelihood(scores, said.targets).sum().item() / said.count


def bleu(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Corpus BLEU-4, 0 to 100, on words separated by spaces. Raises BadInput if sacrebleu is missing."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise BadInput("BLEU needs sacrebleu: pip install 'conveyor[translation]', then --resume the run") from error
    return BLEU(tokenize="none", force=True).corpus_score(list(said), [list(wanted)]).score


def exact(said: Sequence[str], wanted: Sequence[str]) -> float:
    """The fraction of sentences that equal their reference."""
    return sum(one == other for one, other in zip(said, wanted, strict=True)) / len(wanted)


def score(searches: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    """BLEU and the fraction of exact sentences for each search, by name."""
    return {name: {"bleu": bleu(said, wanted), "exact": exact(said, wanted)} for name, said in searches.items()}


def describe_scores(figures: dict[str, dict[str, float]], count: int) -> list[str]:
    """The scores as lines of text; `count` is the number of sentences."""
    return [
        f"{name}: {100 * one['exact']:.1f}% of {count} are exact, BLEU {one['bleu']:.1f}"
        for name, one in figures.items()
    ]
