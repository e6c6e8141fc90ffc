"""Attention: at every step the network looks at some of many places, softly at all of them or hard at one.

    layer = conveyor.Recurrent(conveyor.zoo.SoftAttention, 32, 128, annotation_size=64)
    output, (h, C), values = layer(x, a=a, mask=mask)       # x: [T, B, 32], a: [B, L, 64], mask: [B, L]
    values["alpha"]                                         # where it looked: [1, 1, T, B, L]

What Xu et al. add to the loss is here too: `doubly_stochastic`, and for the hard attention `log_probability`, `entropy`
and the moving average of the cost, `Baseline`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn, sigmoid, softmax, tanh, where

from conveyor.cell import Cell

FAR = -1e30  # the score of a place that is not there: its exponential is 0, and it has no gradient


class ConditionedLSTM(Cell):
    """LSTM whose gates also see a further stream z, such as what an attention gives (Xu et al. 2015).

    f_t = σ(W_f · [z_t, h_{t-1}, x_t] + b_f),  i_t, o_t and C̃_t alike; the rest as in the LSTM. z: [B, context_size]
    """

    state = ("h", "C")

    def __init__(self, input_size: int, hidden_size: int, context_size: int):
        super().__init__(input_size, hidden_size, z=context_size)
        self.forget = self.affine("z", "h", "x")
        self.input = self.affine("z", "h", "x")
        self.candidate = self.affine("z", "h", "x")
        self.output = self.affine("z", "h", "x")

    def step(self, x: Tensor, h: Tensor, C: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        f = sigmoid(self.forget(z, h, x))
        i = sigmoid(self.input(z, h, x))
        C_tilde = tanh(self.candidate(z, h, x))
        C = f * C + i * C_tilde
        o = sigmoid(self.output(z, h, x))
        h = o * tanh(C)
        return h, C


class SoftAttention(Cell):
    """LSTM with soft attention over annotations a_1 ... a_L, one vector a place (Xu et al. 2015; additive scores).

    e_i = U · tanh(W_ctx · a_i + W_d · h_{t-1} + b) + c,   α = softmax(e)   over the places that are there
    β = σ(W_sel · h_{t-1} + b_sel),   z_t = β * Σ_i α_i a_i
    h_t, C_t: an LSTM step whose gates see [z_t, h_{t-1}, x_t]; x_t is the embedding of the word before

    `a` [B, L, annotation_size] and `mask` [B, L], 1 where a place is there and 0 where it is padding, stay the same
    over the sequence. α and z are given out: [..., L] and [..., annotation_size]. α is exactly 0 at a padded place, and
    z is 0 where a row has no place at all. W_ctx · a does not depend on the step: a kernel computes it before the loop.

    After the authors' code; the paper leaves the scores to a function f_att. The bias c moves all scores alike and so
    does nothing; it is there as in the code. `attention_size`: of W_ctx · a, by default as a is. With selector=False
    W_sel is zero, so that β is one number for all steps (the selector is optional in the authors' code).
    """

    state = ("h", "C")
    constant = ("a", "mask")
    extra: ClassVar[tuple[str, ...]] = ("alpha", "z")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        annotation_size: int,
        attention_size: int | None = None,
        selector: bool = True,
    ):
        attention_size = attention_size or annotation_size
        super().__init__(input_size, hidden_size, a=annotation_size, key=attention_size)
        self.key = self.affine("a", out=attention_size)
        self.query = self.affine("h", out=attention_size, bias=False)
        self.score = self.affine("key", out=1)
        self.select = self.affine("h", out=1, h="full" if selector else "zero")
        self.lstm = ConditionedLSTM(input_size, hidden_size, annotation_size)

    def step(self, x: Tensor, h: Tensor, C: Tensor, a: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        alpha = mask * softmax(self.scores(h, a, mask), -1)
        beta = sigmoid(self.select(h))
        z = beta * (alpha[:, :, None] * a).sum(1)
        h, C = self.lstm.step(x, h, C, z)
        return h, C, alpha, z

    def scores(self, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        """e [B, L]."""
        e = self.score(tanh(self.key(a) + self.query(h)[:, None])).squeeze(-1)
        return where(mask > 0, e, FAR)


class HardAttention(SoftAttention):
    """LSTM with hard attention: each step looks at one place, drawn with the probabilities α (Xu et al. 2015).

    α and β as in SoftAttention;   s: one-hot, of the place at which log α_i + g_i is largest, g_i of Gumbel(0, 1)
    z_t = β * Σ_i s_i a_i where the coin of the row is 1, and as in SoftAttention where it is 0

    The noise comes from outside, as streams: `g` [T, B, L] and `coin` [T, B, 1]; `hard_noise` draws both. With g = 0
    the likeliest place is looked at. `s` is given out besides α and z: [..., L], all zero where the coin is 0. No
    gradient goes through the draw; the loss brings α its own (see `log_probability`).

    To draw by Gumbel noise, which gives just the probabilities α, is ours; the paper draws from a multinomial. Places
    whose sums are equal to the last bit share the look.
    """

    extra: ClassVar[tuple[str, ...]] = ("alpha", "z", "s")

    def step(  # type: ignore[override]
        self, x: Tensor, h: Tensor, C: Tensor, g: Tensor, coin: Tensor, a: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        e = self.scores(h, a, mask)
        alpha = mask * softmax(e, -1)
        noisy = (e + g).detach()
        largest = mask * (noisy == noisy.amax(-1, keepdim=True)).to(e.dtype)
        s = coin * largest / largest.sum(-1, keepdim=True).clamp(min=1)
        beta = sigmoid(self.select(h))
        z = beta * ((s + (1 - coin) * alpha)[:, :, None] * a).sum(1)
        h, C = self.lstm.step(x, h, C, z)
        return h, C, alpha, z, s


def hard_noise(
    like: Tensor, places: int, hard: float = 0.5, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The streams `g` and `coin` of HardAttention for an input `like` [T, B, ...].

    Of the rows, `hard` draw their places, and the others take the expectation, over the whole sequence (section 4.1).
    """
    steps, batch = like.shape[:2]
    u = torch.rand(steps, batch, places, generator=generator, device=like.device, dtype=like.dtype)
    coin = torch.rand(batch, 1, generator=generator, device=like.device, dtype=like.dtype) < hard
    tiny = torch.finfo(u.dtype).tiny
    return {"g": -(-u.clamp(min=tiny).log()).clamp(min=tiny).log(), "coin": coin.to(u.dtype).expand(steps, -1, -1)}


def doubly_stochastic(alpha: Tensor, mask: Tensor) -> Tensor:
    """How unevenly the places were looked at over the sequence: the mean over rows of Σ_i (1 - Σ_t α_ti)².

    alpha: [T, B, L], zero past a row's last step; mask: [B, L]. Padded places do not count.
    """
    return (mask * (1 - alpha.sum(0)).square()).sum(-1).mean()


def log_probability(alpha: Tensor, s: Tensor) -> Tensor:
    """log p of the places that each row of a hard attention drew, Σ_t log α_t(s_t): [B]. alpha, s: [T, B, L].

    Its gradient times what the row's cost is above the baseline is, in expectation, that of the expected cost by the
    drawing (REINFORCE): `loss = cost.mean() + ((cost - baseline).detach() * log_probability(alpha, s)).mean()`.
    """
    return (s * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


def entropy(alpha: Tensor) -> Tensor:
    """Of the distribution over places, summed over the steps: [B]. alpha: [T, B, L]; 0 · log 0 is 0."""
    return -(alpha * alpha.clamp(min=torch.finfo(alpha.dtype).tiny).log()).sum((0, 2))


class Baseline(nn.Module):
    """The moving average of the cost, b ← 0.9 b + 0.1 cost; kept with the weights, so that a resumed run goes on."""

    value: Tensor

    def __init__(self, keep: float = 0.9):
        super().__init__()
        self.keep = keep
        self.register_buffer("value", torch.zeros(()))

    def update(self, cost: Tensor) -> None:
        self.value.mul_(self.keep).add_((1 - self.keep) * cost.detach().mean())
