"""Beam search; with width 1 it is greedy search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Hypothesis:
    """The word indices of a sentence, without start and end, and its log-probability."""

    words: list[int]
    score: float


def beam_search(
    step: Step, state: State, start: int, end: int, width: int, limit: int, length_power: float = 0.0
) -> list[Hypothesis]:
    """The best sentence found by a beam search of this width, for each of B rows.

    `step(words [N], state)` returns the log-probabilities of the next word, [N, V], and the next state. The initial
    `state` is a tuple of tensors [B, ...]; `step` is called with N = B * width rows, in which the beams of a row are
    adjacent. A sentence ends with `end` or after `limit` words. The best sentence has the largest log-probability
    divided by length ** `length_power`, where the length includes the end.
    """
    batch = len(state[0])
    state = tuple(value.repeat_interleave(width, 0) for value in state)
    device = state[0].device
    words = torch.full((batch, width, 1), start, device=device)
    scores = torch.full((batch, width), -math.inf, device=device)
    scores[:, 0] = 0  # initially all beams of a row are equal, so only one is active
    for _ in range(limit):
        if (words[:, :, -1] == end).all():
            break
        logs, state = step(words[:, :, -1].flatten(), state)
        words, scores, origin = _extended(words, scores, logs.view(batch, width, -1), end)
        state = tuple(value[origin] for value in state)
    lengths = 1 + (words[:, :, 1:] != end).sum(-1)
    best = (scores / lengths.clamp(max=words.shape[2] - 1) ** length_power).argmax(1).tolist()
    return [Hypothesis(_said(words[b, k, 1:].tolist(), end), float(scores[b, k])) for b, k in enumerate(best)]


def _extended(words: Tensor, scores: Tensor, logs: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `width` extensions by one word, their scores, and the rows of `step` that they come from."""
    batch, width, vocabulary = logs.shape
    ended = torch.full_like(logs[0, 0], -math.inf)
    ended[end] = 0  # a sentence that has ended does not change
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
