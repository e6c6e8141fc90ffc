"""Every operation that a step may be made of, as forms of equations that random cells draw from.

A form is source text in which {a} and {b} stand for values of one width, {e} for how much wider than `hidden_size` they
are; it has that width again. It keeps values and gradients moderate whatever it is given, so that forms can be stacked:
what grows is clamped, what is divided by stays away from zero, and so does what has an infinite slope there. Steps and
kinks lie where no two values meet by their equations, such as those that are equal but for their rounding. Left out is
hardsigmoid, whose slope PyTorch has in float32 only, and no second derivative.
"""

import re

import torch
from torch import nn

POINTWISE = (  # of values that may be without rows, such as those of parameters only
    "torch.sigmoid({a})",
    "{a}.sigmoid()",
    "torch.tanh({a})",
    "torch.relu({a})",
    "F.leaky_relu({a}, 0.2)",
    "F.elu({a})",
    "F.softplus({a})",
    "F.gelu({a})",
    "F.gelu({a}, approximate='tanh')",
    "F.silu({a})",
    "F.hardtanh({a})",
    "torch.sin({a})",
    "torch.cos({a})",
    "torch.exp(-{a} * {a})",
    "torch.exp(torch.clamp({a}, max=1))",
    "torch.log(1 + {a} * {a})",
    "torch.sqrt({a} * {a} + 0.1)",
    "torch.abs({a} - 0.13)",
    "0.5 * torch.sign({a} - 0.37) + 0.1 * {a}",
    "torch.clamp({a}, -2, 2) ** 2",
    "torch.clamp({a}, -2, 2) ** 3",
    "torch.clamp({a}, min=0.1, max=2) ** 1.5",
    "0.5 * {a}",
    "1 - {a}",
    "-{a} / 2",
    "1 / (2 + torch.sin({a}))",
    "torch.clamp({a}, -1, 1)",
    "{a} + {b}",
    "{a} - {b}",
    "{a} * torch.tanh({b})",
    "torch.clamp({a}, -2, 2) * {b}",
    "{a} / (1 + {b} * {b})",
    "torch.maximum({a}, {b} - 0.17)",
    "torch.minimum({a}, 0.5 * {b} + 0.19)",
    "torch.where({a} > {b} + 0.21, {a}, -{b})",
    "torch.where({a} <= 0.29, {b}, 0.5 * {a})",
    "({a} >= {b} - 0.23) * {b}",
    "{a} * torch.sigmoid(self.vector_{e})",
    "{a} + self.line_{e}",
    "torch.tanh(self.scalar_{e}) * {a}",
)
FEATURES = (  # over the features of values [B, width]
    "F.layer_norm({a}, (self.width_{e},), eps=0.1)",
    "self.layer_norm_{e}({a})",
    "F.rms_norm({a}, (self.width_{e},), eps=0.1)",
    "self.rms_norm_{e}({a})",
    "torch.softmax({a}, dim=-1)",
    "F.softmax({a} + {b}, -1) * {a}",
    "torch.log_softmax({a}, dim=-1)",
    "{a} - torch.logsumexp({a}, dim=-1, keepdim=True)",
    "{a} - {a}.sum(-1, keepdim=True) / self.width_{e}",
    "{a} - {b}.mean(dim=-1).unsqueeze(-1)",
    "{a} - {b}.amax(dim=-1, keepdim=True)",
    "({a} + self.vector_{e}) / (1 + ({a} + self.vector_{e}).norm(dim=-1, keepdim=True))",
    "{a} / (1 + {b}.var(dim=-1, keepdim=True))",
    "{a} / (1 + {b}.var(-1, correction=0)[:, None])",
    "torch.logsumexp({a}, 1)[:, None] - {a}",
)
SHAPES = (
    "torch.cat([{a}[:, 2:], {b}[:, :2]], dim=-1)",
    "torch.cat([{a}[:, 1::2], {a}[:, ::2]], 1)",
    "torch.cat([{a}, {b}], -1).chunk(2, dim=-1)[1]",
    "torch.cat(torch.split({a}, [1, self.width_{e} - 1], dim=-1)[::-1], dim=-1)",
    "torch.stack([{a}, {b}], dim=1).sum(1)",
    "torch.stack([{a}, {b}], -1).flatten(1)[:, 1 : self.width_{e} + 1]",
    "torch.stack([{a}, {b}], 1).amax(dim=1)",
    "torch.cat([{a}, {b}], -1).view(-1, 2, self.width_{e})[:, 0]",
    "torch.cat([{a}, {b}], -1).unflatten(-1, (self.width_{e}, 2)).mean(-1)",
    "torch.cat([{a}, {b}], -1).reshape(-1, 2, self.width_{e}).softmax(1)[:, 1]",
    "({a}.unsqueeze(-1) * {b}.unsqueeze(1)).mean(-1)",
    "({a}.unsqueeze(1) + {b}.reshape(-1, 1, self.width_{e})).squeeze(1)",
)
MATRICES = (
    "self.linear_{e}({a})",
    "F.linear({a}, self.square_{e})",
    "{a} @ self.square_{e}",
    "{a} @ (self.square_{e} * self.triangle_{e})",
    "F.linear({a}, self.square_{e} * self.triangle_{e}, self.vector_{e})",
    "F.linear(torch.tanh(F.linear({a}, self.square_{e})), self.square_{e})",
    "torch.einsum('bhi,hij->bhj', torch.stack([{a}, {b}], 1), self.heads_{e}).sum(1)",
    "(torch.stack([{a}, {b}], 1).unsqueeze(2) @ self.heads_{e}).squeeze(2).flatten(1)[:, 1 : self.width_{e} + 1]",
    "(torch.stack([{a}, {b}], 1) * self.by_head_{e}).sum(1)",
    "sum({a} @ self.heads_{e}[head] for head in range(2))",
    "torch.stack([torch.tanh({a} @ self.heads_{e}[head]) for head in range(2)], 1).mean(1)",
)
MEMORY = (  # the constant `memory` holds three values of the width
    "(torch.softmax((M @ {a}.unsqueeze(-1)).squeeze(-1), -1).unsqueeze(1) @ M).squeeze(1)",
    "torch.einsum('bs,bsd->bd', torch.softmax(torch.einsum('bsd,bd->bs', M, {a}), -1), M)",
    "(torch.sigmoid(torch.bmm(M, {a}.unsqueeze(-1))) * M).sum(1)",
)
NUMBERED = (  # of the step number
    "torch.where(t % 2 == 0, {a}, {b})",
    "torch.where(t % self.periods_{e} == 0, {a}, {b})",
    "{a} / (t + 1)",
    "{a} - torch.sin(self.vector_{e} * t)",
)
FORMS = POINTWISE + FEATURES + SHAPES + MATRICES
ROWLESS = frozenset(POINTWISE)


def matrix(*shape):
    return nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)


MEMBERS = {  # what a form may name of the cell, `self.<name>_<e>`, by its width
    "width": lambda w: w,
    "vector": lambda w: nn.Parameter(torch.linspace(-1, 1, w)),
    "line": lambda w: nn.Parameter(torch.linspace(1, -1, w)[None]),
    "scalar": lambda _: nn.Parameter(torch.tensor(0.7)),
    "by_head": lambda _: matrix(2, 1),
    "square": lambda w: matrix(w, w),
    "heads": lambda w: matrix(2, w, w),
    "triangle": lambda w: torch.ones(w, w).tril(),
    "periods": lambda w: torch.arange(w) % 3 + 1,
    "linear": lambda w: nn.Linear(w, w),
    "layer_norm": lambda w: nn.LayerNorm(w, eps=0.1),
    "rms_norm": lambda w: nn.RMSNorm(w, eps=0.1),
}


def add_members(cell, source):
    """The parameters, buffers and modules that the equations name."""
    for name, e in sorted(set(re.findall(r"self\.(\w+)_(\d)\b", source))):
        made = MEMBERS[name](cell.hidden_size + int(e))
        if isinstance(made, torch.Tensor) and not isinstance(made, nn.Parameter):
            cell.register_buffer(f"{name}_{e}", made)
        else:
            setattr(cell, f"{name}_{e}", made)
