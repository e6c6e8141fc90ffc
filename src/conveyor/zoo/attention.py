"""Attention: at every step the network attends to locations, softly to all of them or hard to one.

    layer = conveyor.Recurrent(conveyor.zoo.SoftAttention, 32, 128, annotation_size=64)
    output, (h, C), values = layer(x, a=a, mask=mask)       # x: [T, B, 32], a: [B, L, 64], mask: [B, L]
    values["alpha"]                                         # the attention weights: [1, 1, T, B, L]

The terms that Xu et al. add to the loss are in attention_loss.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, sigmoid, softmax, tanh, where

from conveyor.cell.cell import Cell, check_sizes

FAR = -3e4  # the score of a padded location, for every dtype: its exponential is 0, and it has no gradient


class ConditionedLSTM(Cell):
    """LSTM whose gates also read another stream z, such as an attention context (Xu et al. 2015).

    f_t = σ(W_f · [z_t, h_{t-1}, x_t] + b_f)
    i_t = σ(W_i · [z_t, h_{t-1}, x_t] + b_i)
    C̃_t = tanh(W_C · [z_t, h_{t-1}, x_t] + b_C)
    C_t = f_t * C_{t-1} + i_t * C̃_t
    o_t = σ(W_o · [z_t, h_{t-1}, x_t] + b_o)
    h_t = o_t * tanh(C_t)

    Shapes: x [B, input]; z [B, context]; h, C [B, hidden]; W [hidden, context + hidden + input].
    Paper: Xu et al. 2015, "Show, Attend and Tell".
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
    """LSTM with soft attention over annotations a_1 ... a_L, one vector per location (Xu et al. 2015).

    e_ti = U · tanh(W_ctx · a_i + W_d · h_{t-1} + b) + c
    α_t = softmax(e_t)                          over the locations that are not padding
    β_t = σ(W_sel · h_{t-1} + b_sel)            the selector
    z_t = β_t * Σ_i α_ti a_i
    h_t, C_t: an LSTM step whose gates read [z_t, h_{t-1}, x_t] (`ConditionedLSTM`); x_t is E · y_{t-1} in the paper

    The annotations `a` and the `mask` (1 at a location, 0 at padding) are constant over the sequence. α and z are extra
    outputs. α is exactly 0 at a padded location, which gets no gradient, and z is 0 in a row that has only padding.
    W_ctx · a does not depend on the step, so a kernel computes it before the loop.

    Options: `annotation_size`; `attention_size`, the width of the scores' hidden layer, by default `annotation_size`;
    selector=False for β = 1 (in the authors' code the selector is optional).

    Shapes: x [B, input]; h, C [B, hidden]; a [B, L, annotation]; mask, e, α [B, L]; z [B, annotation]; β [B, 1];
    W_ctx [attention, annotation], W_d [attention, hidden], U [1, attention], W_sel [1, hidden].
    Paper: Xu et al. 2015, "Show, Attend and Tell". The scores follow the authors' code; the paper only names a function
    f_att.
    Departures: the biases b and c, as in the code; c shifts all scores equally and so has no effect.
    Doubt: whether the selector in the authors' code always reads h_{t-1}, as here.
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
        attention_size = annotation_size if attention_size is None else attention_size
        check_sizes(annotation_size=annotation_size, attention_size=attention_size)
        super().__init__(input_size, hidden_size, a=annotation_size, key=attention_size)
        self.key = self.affine("a", out=attention_size)
        self.query = self.affine("h", out=attention_size, bias=False)
        self.score = self.affine("key", out=1)
        self.select = self.affine("h", out=1) if selector else None
        self.lstm = ConditionedLSTM(input_size, hidden_size, annotation_size)

    def step(self, x: Tensor, h: Tensor, C: Tensor, a: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        a = where(mask[:, :, None] > 0, a, 0)
        alpha = mask * softmax(self.scores(h, a, mask), -1)
        z = self.context(alpha, a, h)
        h, C = self.lstm.step(x, h, C, z)
        return h, C, alpha, z

    def context(self, weights: Tensor, a: Tensor, h: Tensor) -> Tensor:
        """The context z, [B, annotation], from attention weights [B, L]."""
        mean = (weights[:, :, None] * a).sum(1)
        return mean if self.select is None else sigmoid(self.select(h)) * mean

    def scores(self, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        """The scores e, [B, L]; FAR at padded locations."""
        e = self.score(tanh(self.key(a) + self.query(h)[:, None])).squeeze(-1)
        return where(mask > 0, e, FAR)


class HardAttention(SoftAttention):
    """LSTM with hard attention: each step attends to one location, sampled with probabilities α (Xu et al. 2015).

    e_t, α_t, β_t as in SoftAttention
    s_t = one-hot of the location i at which e_ti + g_ti is largest
    z_t = β_t * Σ_i s_ti a_i                    where the coin of the row is 1
    z_t = β_t * Σ_i α_ti a_i                    where it is 0
    h_t, C_t as in SoftAttention

    The noise enters as the streams `g`, distributed as Gumbel(0, 1), and `coin`; `hard_noise` samples both. With g = 0
    the most likely location is chosen. s is an extra output besides α and z, all zero where the coin is 0. No gradient
    flows through the sampling; the loss adds one (see attention_loss.py).

    Shapes: as in SoftAttention; g, s [B, L]; coin [B, 1].
    Paper: Xu et al. 2015, "Show, Attend and Tell", section 4.1.
    Departures: sampling by Gumbel noise, which gives exactly the probabilities α, where the paper samples from a
    multinomial; locations whose sums are bitwise equal share the weight.
    Doubt: whether the authors toss the coin for each image, as in `hard_noise` and in the paper, or for each batch.
    """

    extra: ClassVar[tuple[str, ...]] = ("alpha", "z", "s")

    def step(  # type: ignore[override]
        self, x: Tensor, h: Tensor, C: Tensor, g: Tensor, coin: Tensor, a: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        a = where(mask[:, :, None] > 0, a, 0)
        e = self.scores(h, a, mask)
        alpha = mask * softmax(e, -1)
        noisy = (e + g).detach()
        largest = mask * (noisy == noisy.amax(-1, keepdim=True)).to(e.dtype)
        s = coin * largest / largest.sum(-1, keepdim=True).clamp(min=1)
        z = self.context(s + (1 - coin) * alpha, a, h)
        h, C = self.lstm.step(x, h, C, z)
        return h, C, alpha, z, s


def hard_noise(
    like: Tensor, places: int, hard: float = 0.5, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The streams `g` [T, B, places] and `coin` [T, B, 1] of HardAttention for an input `like` [T, B, ...].

    A row samples its locations with probability `hard`, and otherwise takes the expectation, over the whole sequence
    (section 4.1 of Xu et al. 2015).
    """
    steps, batch = like.shape[:2]
    u = torch.rand(steps, batch, places, generator=generator, device=like.device, dtype=like.dtype)
    coin = torch.rand(batch, 1, generator=generator, device=like.device, dtype=like.dtype) < hard
    tiny = torch.finfo(u.dtype).tiny
    return {"g": -(-u.clamp(min=tiny).log()).clamp(min=tiny).log(), "coin": coin.to(u.dtype).expand(steps, -1, -1)}
