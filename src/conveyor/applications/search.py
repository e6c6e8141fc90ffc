"""The best sentence that a model says: by beam search, of which the greedy search is the narrowest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Found:
    """The words of a sentence, without the start and the end, and the logarithm of its probability."""

    words: list[int]
    score: float


def beam_search(
    step: Step, state: State, start: int, end: int, width: int, limit: int, length_power: float = 0.0
) -> list[Found]:
    """For each of B rows the best sentence that a search of this width finds.

    `step(words [N], state)` gives the logarithms of the next word's probabilities [N, V] and the next state; `state`
    are tensors [N, ...], here [B, ...], which the search gathers as it goes; `step` sees N = B * width rows, those of a
    row side by side. A sentence ends with `end` or after `limit` words. Of those found the one is best whose score
    divided by its length to the `length_power` is largest; the length counts the end.
    """
    batch = len(state[0])
    state = tuple(value.repeat_interleave(width, 0) for value in state)
    device = state[0].device
    words = torch.full((batch, width, 1), start, device=device)
    scores = torch.full((batch, width), -math.inf, device=device)
    scores[:, 0] = 0  # at first there is one beginning
    for _ in range(limit):
        if (words[:, :, -1] == end).all():
            break
        logs, state = step(words[:, :, -1].flatten(), state)
        words, scores, origin = _extended(words, scores, logs.view(batch, width, -1), end)
        state = tuple(value[origin] for value in state)
    lengths = 1 + (words[:, :, 1:] != end).sum(-1)
    best = (scores / lengths.clamp(max=words.shape[2] - 1) ** length_power).argmax(1).tolist()
    return [Found(_said(words[b, k, 1:].tolist(), end), float(scores[b, k])) for b, k in enumerate(best)]


def _extended(words: Tensor, scores: Tensor, logs: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `width` of all sentences one word longer, their scores, and which rows of the step they come from."""
    batch, width, vocabulary = logs.shape
    ended = torch.full_like(logs[0, 0], -math.inf)
    ended[end] = 0  # a sentence that has ended goes on as it is
    logs = torch.where((words[:, :, -1] == end)[:, :, None], ended, logs)
    scores, best = (scores[:, :, None] + logs).flatten(1).topk(width)
    beam = best // vocabulary
    grown = torch.cat(
        [words.gather(1, beam[:, :, None].expand(-1, -1, words.shape[2])), best[:, :, None] % vocabulary], 2
    )
    origin = beam + width * torch.arange(batch, device=beam.device)[:, None]
    return grown, scores, origin.flatten()


def _said(words: Sequence[int], end: int) -> list[int]:
    return list(words[: words.index(end)] if end in words else words)
