"""Attention: at every step the network looks at some of many places, softly at all of them or hard at one.

    layer = conveyor.Recurrent(conveyor.zoo.SoftAttention, 32, 128, annotation_size=64)
    output, (h, C), values = layer(x, a=a, mask=mask)       # x: [T, B, 32], a: [B, L, 64], mask: [B, L]
    values["alpha"]                                         # where it looked: [1, 1, T, B, L]

What Xu et al. add to the loss is in attention_loss.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, sigmoid, softmax, tanh, where

from conveyor.cell import Cell, check_sizes

FAR = -3e4  # the score of a place that is not there, in every type: its exponential is 0, and it has no gradient


class ConditionedLSTM(Cell):
    """LSTM whose gates also see a further stream z, such as what an attention gives (Xu et al. 2015).

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
    """LSTM with soft attention over annotations a_1 ... a_L, one vector a place (Xu et al. 2015).

    e_ti = U · tanh(W_ctx · a_i + W_d · h_{t-1} + b) + c
    α_t = softmax(e_t)                          over the places that are there
    β_t = σ(W_sel · h_{t-1} + b_sel)            the selector
    z_t = β_t * Σ_i α_ti a_i
    h_t, C_t: an LSTM step whose gates see [z_t, h_{t-1}, x_t] (`ConditionedLSTM`); x_t is E · y_{t-1} in the paper

    The annotations `a` and the `mask`, 1 where a place is there and 0 where it is padding, stay the same over the
    sequence; α and z are given out. α is exactly 0 at a padded place, which has no gradient, and z is 0 where a row has
    no place at all. W_ctx · a does not depend on the step: a kernel computes it before the loop.

    Options: `annotation_size`; `attention_size`, of the scores' hidden layer, by default the same; selector=False for
    β = 1 (in the authors' code the selector is optional).

    Shapes: x [B, input]; h, C [B, hidden]; a [B, L, annotation]; mask, e, α [B, L]; z [B, annotation]; β [B, 1];
    W_ctx [attention, annotation], W_d [attention, hidden], U [1, attention], W_sel [1, hidden].
    Paper: Xu et al. 2015, "Show, Attend and Tell", and the authors' code, whose scores these are: the paper leaves them
    to a function f_att.
    Departures: b and c, of which c moves all scores alike and so does nothing, as in the code.
    Doubt: whether the selector of the code reads h_{t-1}, as here, in every setting.
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
        z = self.seen(alpha, a, h)
        h, C = self.lstm.step(x, h, C, z)
        return h, C, alpha, z

    def seen(self, weights: Tensor, a: Tensor, h: Tensor) -> Tensor:
        """z [B, annotation]."""
        mean = (weights[:, :, None] * a).sum(1)
        return mean if self.select is None else sigmoid(self.select(h)) * mean

    def scores(self, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        """e [B, L]."""
        e = self.score(tanh(self.key(a) + self.query(h)[:, None])).squeeze(-1)
        return where(mask > 0, e, FAR)


class HardAttention(SoftAttention):
    """LSTM with hard attention: each step looks at one place, drawn with the probabilities α (Xu et al. 2015).

    e_t, α_t, β_t as in SoftAttention
    s_t = one-hot of the place i at which e_ti + g_ti is largest
    z_t = β_t * Σ_i s_ti a_i                    where the coin of the row is 1
    z_t = β_t * Σ_i α_ti a_i                    where it is 0
    h_t, C_t as in SoftAttention

    The noise comes from outside, as the streams `g`, of Gumbel(0, 1), and `coin`; `hard_noise` draws both. With g = 0
    the likeliest place is looked at. s is given out besides α and z, all zero where the coin is 0. No gradient goes
    through the draw; the loss brings its own (see attention_loss.py).

    Shapes: as in SoftAttention; g, s [B, L]; coin [B, 1].
    Paper: Xu et al. 2015, "Show, Attend and Tell", section 4.1.
    Departures: to draw by Gumbel noise, which gives just the probabilities α, where the paper draws from a multinomial;
    places whose sums are equal to the last bit share the look.
    Doubt: whether the authors toss the coin for each image, as here in `hard_noise` and as the paper says, or for a
    batch.
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
        z = self.seen(s + (1 - coin) * alpha, a, h)
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
