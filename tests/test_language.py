"""The language model: every token measured once, and writing that follows the scores."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import conveyor
from conveyor import language
from conveyor.errors import BadInput
from conveyor.language import LanguageModel, Measure
from conveyor.zoo import LSTM, RNN, ClockworkRNN
from tiers import slow

KINDS = 7


@pytest.fixture(params=[LSTM, ClockworkRNN])  # one of them counts its steps
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(KINDS, request.param, 8, num_layers=2, dropout=0.5, zoneout=0.3, learn_initial_state=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(torch.randn_like(parameter) * 0.1)  # so that the scores differ from token to token
    return model


def text(length: int) -> Tensor:
    return torch.randint(KINDS, (length,), generator=torch.Generator().manual_seed(length))


def greedy(model: LanguageModel, prompt: Tensor, length: int) -> list[int]:
    """The likeliest token after all tokens before it, read anew each time."""
    tokens = prompt
    for _ in range(length):
        scores, _ = model(tokens[:, None])
        tokens = torch.cat([tokens, scores[-1, 0].argmax()[None]])
    return tokens[len(prompt) :].tolist()


@torch.no_grad()
@pytest.mark.parametrize("length", [2, 3, 129, 256])
def test_the_loss_of_a_short_text_is_that_of_reading_it_token_by_token(model: LanguageModel, length: int) -> None:
    tokens, total, state = text(length), 0.0, None
    loss = language.loss(model, tokens)
    model.eval()
    for t, (token, target) in enumerate(itertools.pairwise(tokens)):
        scores, state = model(token.view(1, 1), state, t)
        total += F.cross_entropy(scores[0], target.view(1)).item()
    assert loss == pytest.approx(total / (length - 1), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("length", [257, 258, 1000, 64 * 128 + 1, 64 * 128 + 78, 9001])
def test_the_loss_of_a_long_text_is_that_of_its_rows_one_after_the_other(model: LanguageModel, length: int) -> None:
    tokens, count, total = text(length), length - 1, 0.0
    loss = language.loss(model, tokens)
    model.eval()
    width = math.ceil(count / min(64, count // 128))
    for start in range(0, count, width):
        row = tokens[start : start + width + 1]
        scores, _ = model(row[:-1, None])
        total += F.cross_entropy(scores[:, 0], row[1:], reduction="sum").item()
    assert loss == pytest.approx(total / count, rel=1e-5)


class Frequencies(nn.Module):
    """Gives every token the same probability wherever it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = torch.arange(KINDS).float().log_softmax(0)

    def forward(self, tokens: Tensor, state: Any, start: int) -> tuple[Tensor, Any]:
        return self.scores.expand(*tokens.shape, KINDS), state


@settings(deadline=None)
@given(length=st.integers(2, 20_000))
def test_the_loss_counts_every_token_but_the_first_once(length: int) -> None:
    tokens, model = text(length), Frequencies()
    assert language.loss(model, tokens) == pytest.approx(-model.scores[tokens[1:]].mean().item(), rel=1e-4)


def test_measuring_leaves_the_model_as_it_was(model: LanguageModel) -> None:
    tokens = text(500)
    model.train()
    in_training = language.loss(model, tokens)
    assert model.training
    assert language.loss(model.eval(), tokens) == in_training
    assert not model.training


def test_a_single_token_cannot_be_measured(model: LanguageModel) -> None:
    for length in (0, 1):
        with pytest.raises(BadInput, match="two tokens"):
            language.loss(model, text(length))


def test_figures_follow_from_the_loss() -> None:
    measure = Measure(loss=3 * math.log(2), tokens=10, characters=20)
    assert measure.bits_per_character == pytest.approx(1.5)
    assert measure.perplexity == pytest.approx(8)
    assert math.isfinite(Measure(loss=1e6, tokens=1, characters=1).perplexity)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0, 1e-8])
def test_without_temperature_the_likeliest_is_written(model: LanguageModel, temperature: float) -> None:
    prompt = text(5)
    written = list(language.generate(model, prompt, 30, temperature))
    assert written == greedy(model.eval(), prompt, 30)
    assert len(set(written)) > 1
    assert list(language.generate(model, prompt, 0, temperature)) == []


@torch.no_grad()
def test_top_k_draws_from_the_k_likeliest(model: LanguageModel) -> None:
    prompt, state, ranks = text(1), None, set()
    drawn = language.generate(model, prompt, 200, temperature=50, top_k=3, generator=torch.Generator())
    for t, token in enumerate(drawn):
        scores, state = model(prompt.view(1, 1), state, t)
        ranks.add(scores[0, 0].argsort(descending=True).tolist().index(token))
        prompt = torch.tensor([token])
    assert ranks == {0, 1, 2}


@torch.no_grad()
def test_top_k_draws_from_no_more_than_k_of_equals(model: LanguageModel) -> None:
    for parameter in model.parameters():
        parameter.zero_()
    assert len(set(language.generate(model, text(1), 100, top_k=2, generator=torch.Generator()))) == 2


@torch.no_grad()
@pytest.mark.parametrize(
    ("temperature", "top_k"), [*(pytest.param(*one, marks=slow) for one in ((1, 0), (0.5, 0))), (2, 4)]
)
def test_tokens_are_drawn_as_often_as_the_scores_say(model: LanguageModel, temperature: float, top_k: int) -> None:
    prompt, count, generator = text(3), 2000, torch.Generator().manual_seed(1)
    drawn = [next(language.generate(model, prompt, 1, temperature, top_k, generator)) for _ in range(count)]
    scores = model(prompt[:, None])[0][-1, 0]
    likeliest = scores.topk(top_k or KINDS)
    expected = torch.zeros(KINDS).index_put((likeliest.indices,), (likeliest.values / temperature).softmax(0))
    assert (torch.tensor(drawn).bincount(minlength=KINDS) / count - expected).abs().max() < 0.04


def test_a_seed_writes_one_text_and_leaves_other_randomness_alone(model: LanguageModel) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        list(language.generate(model, text(3), 40, 2, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_shorter_text_is_the_beginning_and_the_loop_writes_the_same(model: LanguageModel, top_k: int) -> None:
    def write(length: int) -> list[int]:
        return list(language.generate(model, text(3), length, 1, top_k, torch.Generator().manual_seed(4)))

    whole = write(150)
    assert [write(length) for length in (1, 64, 65)] == [whole[:length] for length in (1, 64, 65)]
    with conveyor.backend("eager"):
        assert write(150) == whole


def test_writing_leaves_gradients_as_they_are_set(model: LanguageModel) -> None:
    with conveyor.backend("eager"):
        for _ in language.generate(model, text(3), 3):
            assert torch.is_grad_enabled()


SENSELESS = {
    "no prompt": (text(0), {}, "the prompt is tokens"),
    "a prompt of rows": (text(4)[:, None], {}, r"the prompt is tokens \[N\].* not of shape \[4, 1\]"),
    "a length below zero": (text(3), {"length": -1}, "length is a whole number from 0, not -1"),
    "half a token": (text(3), {"length": 1.5}, "length is a whole number from 0, not 1.5"),
    "a choice below zero": (text(3), {"top_k": -1}, "top_k is a whole number from 0, not -1"),
    "a temperature below zero": (text(3), {"temperature": -1}, "temperature is a finite number from 0, not -1"),
    "no temperature": (text(3), {"temperature": math.nan}, "temperature is a finite number from 0, not nan"),
    "an endless temperature": (text(3), {"temperature": math.inf}, "temperature is a finite number from 0, not inf"),
}


@pytest.mark.parametrize("case", SENSELESS)
def test_what_makes_no_sense_is_refused_before_anything_is_written(case: str) -> None:
    prompt, options, message = SENSELESS[case]
    with pytest.raises(BadInput, match=message):
        language.generate(LanguageModel(KINDS, RNN, 8), prompt, **{"length": 5, **options})


@torch.no_grad()
@pytest.mark.parametrize("part", ["rnn", "embedding", "dropout", ""])
def test_hooks_are_called_for_every_token_that_is_written(model: LanguageModel, part: str) -> None:
    prompt, called = text(3), []
    model.get_submodule(part).register_forward_hook(lambda *_: called.append(part))
    assert list(language.generate(model, prompt, 10, 0)) == greedy(model.eval(), prompt, 10)
    assert len(called) >= 20  # ten are of the oracle


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 7 * 8 + 7 + (8 * 8 + 8 * 8 + 8)),
        ({"tie": False}, 7 * 8 + 7 * 8 + 7 + (8 * 8 + 8 * 8 + 8)),
        ({"embedding_size": 5}, 7 * 5 + 7 * 8 + 7 + (8 * 5 + 8 * 8 + 8)),
        ({"num_layers": 2, "learn_initial_state": True}, 7 * 8 + 7 + 2 * (8 * 8 + 8 * 8 + 8) + 2 * 8),
    ],
    ids=["tied", "untied", "of two widths, which cannot be tied", "two layers"],
)
def test_the_parameters_are_as_many_as_the_sizes_say(options: dict[str, Any], count: int) -> None:
    model = LanguageModel(7, RNN, 8, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
