"""What the applications that say sentences share: how a decoder is asked for one, and how what it says is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, log_softmax

from conveyor.applications.search import Found, State, beam_search
from conveyor.errors import BadInput
from conveyor.tasks.words import Said, Words
from conveyor.zoo.decoder import Decoder, negative_log_likelihood


def say(
    decoder: Decoder,
    a: Tensor,
    mask: Tensor,
    width: int,
    limit: int,
    length_power: float = 0.0,
    unsaid: Sequence[int] = (Words.start,),
) -> list[Found]:
    """The best sentence about each row's annotations, none of whose words is in `unsaid`."""
    every_a, every_mask = a.repeat_interleave(width, 0), mask.repeat_interleave(width, 0)

    def step(words: Tensor, state: State) -> tuple[Tensor, State]:
        h, C = state
        scores, (h, C), _ = decoder.run(words[None], every_a, every_mask, (h[None], C[None]))
        logs = log_softmax(scores[0], -1)
        logs[:, list(unsaid)] = -torch.inf
        return logs, (h[0], C[0])

    h, C = decoder.start(a, mask)
    return beam_search(step, (h[0], C[0]), Words.start, Words.end, width, limit, length_power)


def looks(decoder: Decoder, a: Tensor, mask: Tensor, sentences: Sequence[Sequence[int]]) -> list[Tensor]:
    """Where the decoder looks for each word of each sentence and for its end, [T, L]."""
    said = Said.of(sentences)
    _, values = decoder(said.inputs.to(a.device), a, mask, lengths=said.lengths)
    alpha = values["alpha"].cpu()
    return [alpha[:length, row] for row, length in enumerate(said.lengths.tolist())]


def likelihood(decoder: Decoder, said: Said, a: Tensor, mask: Tensor, **noise: Tensor) -> float:
    """The negative log-likelihood of the sentences' words and ends, given those before, in nats a word."""
    scores, _ = decoder(said.inputs, a, mask, lengths=said.lengths, **noise)
    return negative_log_likelihood(scores, said.targets).sum().item() / said.count


def bleu(said: Sequence[str], wanted: Sequence[str]) -> float:
    """BLEU-4 of sentences, 0 to 100, by sacrebleu; the words are what spaces part."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise BadInput("BLEU needs sacrebleu: pip install 'conveyor[translation]', then --resume the run") from error
    return BLEU(tokenize="none", force=True).corpus_score(list(said), [list(wanted)]).score


def exact(said: Sequence[str], wanted: Sequence[str]) -> float:
    """The part of the sentences that are just those wanted."""
    return sum(one == other for one, other in zip(said, wanted, strict=True)) / len(wanted)


def judged(searches: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    """By the name of the search that found the sentences: BLEU, and the part of them that are exact."""
    return {name: {"bleu": bleu(said, wanted), "exact": exact(said, wanted)} for name, said in searches.items()}


def told(figures: dict[str, dict[str, float]], count: int) -> list[str]:
    """The same in words, of so many sentences."""
    return [
        f"{name}: {100 * one['exact']:.1f}% of {count} are exact, BLEU {one['bleu']:.1f}"
        for name, one in figures.items()
    ]
