"""Beam search: as good as looking at every sentence where it is wide enough, and greedy where it is narrow."""

from itertools import product

import pytest
import torch

from conveyor.applications.search import beam_search

START, END, VOCABULARY, LIMIT = 1, 0, 4, 3


def chain(seed, rows=2):
    """A tiny model of which each row is another: the next word depends on the last two."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, VOCABULARY, VOCABULARY, VOCABULARY)
    table = (2 * torch.randn(shape, generator=generator)).log_softmax(-1)

    def step(words, state):
        row, before = state
        return table[row[:, 0], before[:, 0], words], (row, words[:, None])

    return table, step, (torch.arange(rows)[:, None], torch.full((rows, 1), START))


def sentences():
    """Every sentence of at most LIMIT words, with the end where it has one."""
    words = [word for word in range(VOCABULARY) if word != END]
    for length in range(LIMIT):
        yield from ((*sentence, END) for sentence in product(words, repeat=length))
    yield from product(words, repeat=LIMIT)


def score(table, row, sentence):
    history = (START, START, *sentence)
    return sum(table[row, a, b, c].item() for a, b, c in zip(history, history[1:], history[2:], strict=False))


@pytest.mark.parametrize("length_power", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all_sentences(seed, length_power):
    table, step, state = chain(seed)
    found = beam_search(step, state, START, END, VOCABULARY**LIMIT, LIMIT, length_power)
    for row, one in enumerate(found):
        scores = {sentence: score(table, row, sentence) for sentence in sentences()}
        best = max(scores, key=lambda sentence: scores[sentence] / len(sentence) ** length_power)
        assert one.words == [word for word in best if word != END]
        assert abs(one.score - scores[best]) < 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_takes_the_likeliest_word_each_time(seed):
    table, step, state = chain(seed)
    for row, one in enumerate(beam_search(step, state, START, END, 1, LIMIT)):
        history = [START, START]
        while len(history) < 2 + LIMIT and history[-1] != END:
            history.append(int(table[row, history[-2], history[-1]].argmax()))
        assert one.words == [word for word in history[2:] if word != END]


def test_a_wider_beam_scores_no_worse_here_and_better_somewhere():
    pairs = []
    for seed in range(20):
        _, step, state = chain(seed)
        narrow, wide = (beam_search(step, state, START, END, width, LIMIT) for width in (1, VOCABULARY**LIMIT))
        pairs += [(a.score, b.score) for a, b in zip(narrow, wide, strict=True)]
    assert all(b >= a - 1e-5 for a, b in pairs)
    assert any(b > a + 0.1 for a, b in pairs)
